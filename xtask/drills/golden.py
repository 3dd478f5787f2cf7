"""A small database for the golden repositories: some rows, then transactions, each with a copy.

usage: golden.py DIR
"""

import os
import sys
import time

from common import connect, copy, say, wait_for_line

TRANSACTIONS = 4


def main():
    folder = os.path.abspath(sys.argv[1])
    path = os.path.join(folder, "app.db")
    db = connect(path, page_size=1024)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t (v) VALUES (?)", ((f"row {n} " * (n % 9),) for n in range(400)))
    db.execute("COMMIT")
    say("ready", database=path)
    wait_for_line()
    copies = []
    for number in range(TRANSACTIONS):
        # The watcher captures each transaction separately, so each gets its own time.
        time.sleep(0.1)
        db.execute("UPDATE t SET v = v || ? WHERE id % 37 = ?", (f"; changed by {number}", number))
        copies.append(copy(db, os.path.join(folder, f"{number}.db")))
    say("done", copies=copies)
    wait_for_line()


main()
