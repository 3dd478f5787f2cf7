"""Creates a large database quickly, and changes a fixed number of its pages at random places for each line on standard input.

usage: large.py DIR GIGABYTES SEED

Rows are hex digits of random bytes: they compress about 2 : 1, and no two blocks are equal.
"""

import os
import random
import sys

from common import connect, say, wait_for_line

ROWS_A_TRANSACTION = 200_000
CHANGES = 50_000
FILL = """
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?)
INSERT INTO t (v) SELECT hex(randomblob(450)) FROM n
"""


def main():
    folder, size, seed = sys.argv[1], int(sys.argv[2]) * 1_000_000_000, int(sys.argv[3])
    dice = random.Random(seed)
    path = os.path.abspath(os.path.join(folder, "app.db"))
    db = connect(path, cache_size=-100_000)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL)")
    rows = 0
    while os.path.getsize(path) < size:
        db.execute(FILL, (ROWS_A_TRANSACTION,))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows += ROWS_A_TRANSACTION
    say("ready", database=path, bytes=os.path.getsize(path))
    while True:
        wait_for_line()
        for start in range(0, CHANGES, 1000):
            db.execute("BEGIN")
            for _ in range(1000):
                db.execute("UPDATE t SET v = hex(randomblob(450)) WHERE id = ?", (dice.randrange(rows) + 1,))
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        say("done")


main()
