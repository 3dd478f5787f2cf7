"""Databases of every shape: creates one, waits until it is watched, changes it, and takes its own copy.

usage: shapes.py DIR SHAPE SEED
"""

import os
import random
import sys

from common import connect, copy, say, wait_for_line

MEGABYTE = 1 << 20


def fill(db, dice, table="t", rows=300, most=3000):
    db.execute("BEGIN")
    for _ in range(rows):
        db.execute(f"INSERT INTO {table} (k, v) VALUES (?, ?)", (dice.randrange(1000), dice.randbytes(dice.randrange(most))))
    db.execute("COMMIT")


def mix(db, dice):
    """Changes that every shape gets: growth, changes in place, deletions."""
    for _ in range(5):
        fill(db, dice, rows=60)
        db.execute("UPDATE t SET v = ? WHERE k % 10 = ?", (dice.randbytes(500), dice.randrange(10)))
        db.execute("DELETE FROM t WHERE k % 13 = ?", (dice.randrange(13),))


class Plain:
    """Any page size."""

    pragmas = {}

    def make(self, db, dice):
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, v BLOB)")
        db.execute("CREATE INDEX t_k ON t (k)")
        fill(db, dice)

    def change(self, db, dice):
        mix(db, dice)


class Page(Plain):
    def __init__(self, size):
        self.pragmas = {"page_size": size}


class Vacuum(Plain):
    """Shrinks, grows past the old end, shrinks again."""

    def change(self, db, dice):
        db.execute("DELETE FROM t WHERE id % 3 > 0")
        db.execute("VACUUM")
        fill(db, dice, rows=500)
        db.execute("DELETE FROM t WHERE id > 100")
        db.execute("VACUUM")


class AutoVacuum(Plain):
    pragmas = {"auto_vacuum": "FULL"}

    def change(self, db, dice):
        for _ in range(6):
            db.execute("DELETE FROM t WHERE id % 2 = 0")
            fill(db, dice, rows=100)
        db.execute("DELETE FROM t WHERE k > 100")


class IncrementalVacuum(Plain):
    pragmas = {"auto_vacuum": "INCREMENTAL"}

    def change(self, db, dice):
        for pages in (10, 50, 0):
            fill(db, dice, rows=100)
            db.execute("DELETE FROM t WHERE id % 2 = 0")
            db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


class BigTransaction(Plain):
    """25 MB in one transaction."""

    def change(self, db, dice):
        db.execute("BEGIN")
        for _ in range(25):
            db.execute("INSERT INTO t (k, v) VALUES (1, ?)", (dice.randbytes(MEGABYTE),))
        db.execute("COMMIT")
        db.execute("DELETE FROM t WHERE length(v) = ? AND id % 2 = 0", (MEGABYTE,))


class Spill(Plain):
    """The cache holds 20 pages: transactions reach the log before they commit, and some never do."""

    pragmas = {"cache_size": 20}

    def change(self, db, dice):
        for end in ("ROLLBACK", "COMMIT", "ROLLBACK", "ROLLBACK", "COMMIT", "ROLLBACK"):
            db.execute("BEGIN")
            for _ in range(400):
                db.execute("INSERT INTO t (k, v) VALUES (?, ?)", (dice.randrange(1000), dice.randbytes(2000)))
            db.execute("UPDATE t SET v = zeroblob(900) WHERE k % 5 = 0")
            db.execute(end)


class Savepoints(Plain):
    def change(self, db, dice):
        for _ in range(20):
            db.execute("BEGIN")
            for depth in range(4):
                db.execute(f"SAVEPOINT s{depth}")
                db.execute("UPDATE t SET v = ? WHERE k % 9 = ?", (dice.randbytes(700), dice.randrange(9)))
                db.execute("INSERT INTO t (k, v) VALUES (?, ?)", (depth, dice.randbytes(2000)))
            db.execute(f"ROLLBACK TO s{dice.randrange(1, 4)}")
            db.execute("RELEASE s0")
            db.execute("COMMIT")


class WithoutRowid(Plain):
    def make(self, db, dice):
        db.execute("CREATE TABLE t (k INTEGER, v BLOB, PRIMARY KEY (k, v)) WITHOUT ROWID")
        fill(db, dice, most=600)

    def change(self, db, dice):
        for _ in range(5):
            fill(db, dice, most=600, rows=60)
            db.execute("UPDATE t SET v = randomblob(600) WHERE k % 10 = ?", (dice.randrange(10),))
            db.execute("DELETE FROM t WHERE k % 13 = ?", (dice.randrange(13),))


class Replaced(Plain):
    """Another database takes the file's name while it is watched."""

    def replace(self, path, dice):
        fresh = path + ".new"
        db = connect(fresh)
        self.make(db, dice)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        for suffix in ("-wal", "-shm"):
            if os.path.exists(path + suffix):
                os.remove(path + suffix)
        os.replace(fresh, path)


class LockPage(Plain):
    """1.5 GiB: extends past the page at 1 GiB that SQLite never uses."""

    def make(self, db, dice):
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, v BLOB)")
        tile = dice.randbytes(64 << 10)
        for batch in range(24):
            db.execute("BEGIN")
            for row in range(64):
                db.execute("INSERT INTO t (k, v) VALUES (?, ?)", (row, dice.randbytes(256) + tile * 16))
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def change(self, db, dice):
        for row in range(1000, 1050, 3):
            db.execute("UPDATE t SET v = ? WHERE id = ?", (dice.randbytes(MEGABYTE // 2), row))
        fill(db, dice, rows=200)
        db.execute("DELETE FROM t WHERE id BETWEEN 1010 AND 1020")


SHAPES = {
    **{f"page-{size}": Page(size) for size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)},
    "vacuum": Vacuum(),
    "auto-vacuum": AutoVacuum(),
    "incremental-vacuum": IncrementalVacuum(),
    "transaction-25MB": BigTransaction(),
    "spill-and-roll-back": Spill(),
    "savepoints": Savepoints(),
    "without-rowid": WithoutRowid(),
    "replaced": Replaced(),
    "lock-page": LockPage(),
}


def main():
    folder, name, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    shape, dice = SHAPES[name], random.Random(seed)
    path = os.path.abspath(os.path.join(folder, "app.db"))
    db = connect(path, **shape.pragmas)
    shape.make(db, dice)
    say("ready", database=path)
    wait_for_line()
    shape.change(db, dice)
    if hasattr(shape, "replace"):
        db.close()
        shape.replace(path, dice)
        say("replaced")
        # The drill sends a line once the watcher has had time to detect the new file.
        wait_for_line()
        db = connect(path)
        shape.change(db, dice)
    say("done", copy=copy(db, os.path.join(folder, "copy.db")), pages=db.execute("PRAGMA page_count").fetchone()[0])
    wait_for_line()


main()
