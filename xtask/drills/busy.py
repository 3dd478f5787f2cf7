"""Writes small transactions at full speed with busy timeout 0 and counts the refused ones.

usage: busy.py DIR SECONDS    ("go" starts a slice of SECONDS, "stop" ends the program)
"""

import os
import sqlite3
import sys
import time

from common import connect, copy, say


def main():
    folder, seconds = sys.argv[1], float(sys.argv[2])
    path = os.path.abspath(os.path.join(folder, "app.db"))
    db = connect(path, timeout=0)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, randomblob(200) FROM n")
    say("ready", database=path)
    total, row = 0, 0
    for line in sys.stdin:
        if line.strip() == "stop":
            say("done", copy=copy(db, os.path.join(folder, "copy.db")), commits=total)
            continue
        commits = busy = 0
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            row = row * 7919 % 19997 + 1
            try:
                db.execute("UPDATE t SET v = randomblob(200) WHERE id = ?", (row,))
                commits += 1
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise
                busy += 1
        total += commits
        say("slice", commits=commits, busy=busy, seconds=time.monotonic() - begin)


main()
