"""Creates a database of the given size, waits until it is watched, then changes a share of its pages at random places.

usage: increment.py DIR MEGABYTES SHARE SEED

Rows are hex digits of random data, so that they compress about 2 : 1.
"""

import os
import random
import shutil
import sys

from common import connect, copy, say, wait_for_line

ROW_BYTES = 900
ROWS_A_TRANSACTION = 250


def payload(dice):
    return dice.randbytes(ROW_BYTES // 2).hex()


def main():
    folder, size, share, seed = sys.argv[1], int(sys.argv[2]) * 1_000_000, float(sys.argv[3]), int(sys.argv[4])
    dice = random.Random(seed)
    path = os.path.abspath(os.path.join(folder, "app.db"))
    db = connect(path)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL)")
    rows_a_page = 4096 // (ROW_BYTES + 10)
    rows = size // 4096 * rows_a_page
    for start in range(0, rows, 20_000):
        db.execute("BEGIN")
        db.executemany("INSERT INTO t VALUES (?, ?)", ((i, payload(dice)) for i in range(start, min(start + 20_000, rows))))
        db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = os.path.join(folder, "before.db")
    shutil.copyfile(path, before)
    say("ready", database=path, before=before, bytes=os.path.getsize(path))
    wait_for_line()

    pages = dice.sample(range(rows // rows_a_page), int(rows // rows_a_page * share))
    for start in range(0, len(pages), ROWS_A_TRANSACTION):
        db.execute("BEGIN")
        for page in pages[start : start + ROWS_A_TRANSACTION]:
            db.execute("UPDATE t SET v = ? WHERE id = ?", (payload(dice), page * rows_a_page + dice.randrange(rows_a_page)))
        db.execute("COMMIT")
    say("done", copy=copy(db, os.path.join(folder, "copy.db")), changed=len(pages))
    wait_for_line()


main()
