"""Keeps hundreds of databases in one folder, commits to some of them, and takes its own copies.

usage: fleet.py DIR DATABASES

"write N"  N commits, each to a random database, with short pauses
"copies"   copies all databases into DIR/../copies, between two pauses without commits
"""

import os
import random
import sqlite3
import sys
import time

from common import copy, now_us, say


def opened(path):
    # Closed after each use: the drill measures hundreds of open databases in the watcher, not in the application.
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    return db


def main():
    folder, count = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    dice = random.Random(1)
    paths = [os.path.join(folder, f"tenant-{n:04}.db") for n in range(count)]
    for path in paths:
        db = opened(path)
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
        db.execute("INSERT INTO t(v) VALUES (randomblob(100000))")
        db.close()
    say("ready", database=folder)
    for line in sys.stdin:
        order, *rest = line.split()
        if order == "write":
            for _ in range(int(rest[0])):
                db = opened(dice.choice(paths))
                db.execute("INSERT INTO t(v) VALUES (randomblob(2000))")
                db.close()
                time.sleep(0.002)
            say("written")
        elif order == "copies":
            time.sleep(1)
            moment = now_us()
            time.sleep(1)
            copies = os.path.join(os.path.dirname(folder), "copies")
            os.mkdir(copies)
            for path in paths:
                db = opened(path)
                copy(db, os.path.join(copies, os.path.basename(path)))
                db.close()
            say("copied", folder=copies, moment_us=moment)


main()
