"""Commits small transactions to a database of some size at a steady rate, with checkpoints and VACUUM.

usage: steady.py DIR SEED ROWS RATE

"go" starts a stretch of commits, the next line ends it; then it says how many commits there were and how long each took.
RATE 0: as many as it can, each synced to the disk.
"""

import os
import random
import sys
import time

from common import connect, say, told_to_stop

VACUUM_EVERY = 5000
TRUNCATE_EVERY = 700


def stretch(db, dice, rows, rate):
    """Commits until a line comes. Returns the seconds of each commit."""
    took, begun = [], time.monotonic()
    while not told_to_stop():
        before = time.monotonic()
        db.execute("UPDATE t SET v = ? WHERE id = ?", (dice.randbytes(dice.randrange(100, 400)), dice.randrange(rows)))
        took.append(time.monotonic() - before)
        if rate:
            time.sleep(max(0.0, begun + len(took) / rate - time.monotonic()))
            if len(took) % TRUNCATE_EVERY == 0:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if len(took) % VACUUM_EVERY == 0:
                db.execute("DELETE FROM t WHERE id % 97 = ?", (dice.randrange(97),))
                db.execute("VACUUM")
    return took, time.monotonic() - begun


def main():
    folder, seed, rows, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    dice = random.Random(seed)
    path = os.path.abspath(os.path.join(folder, "app.db"))
    db = connect(path)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, ?)", ((row, dice.randbytes(300)) for row in range(rows)))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA synchronous = NORMAL" if rate else "PRAGMA synchronous = FULL")
    say("ready", database=path)
    for _ in sys.stdin:
        took, seconds = stretch(db, dice, rows, rate)
        took.sort()
        say("stretch", commits=len(took), seconds=seconds, median_us=1e6 * took[len(took) // 2], p99_us=1e6 * took[len(took) * 99 // 100])


main()
