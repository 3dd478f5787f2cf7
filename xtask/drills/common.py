"""Shared code of the drills' applications: ordinary SQLite programs without knowledge of pitr.

Each prints JSON lines on standard output and reads plain lines ("go", "stop") on standard input.
"""

import json
import os
import select
import sqlite3
import sys
import time


def now_us():
    return time.time_ns() // 1000


def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


def wait_for_line():
    """Waits for a line from the drill; ends the program when the drill is gone."""
    if not sys.stdin.readline():
        sys.exit(1)


def told_to_stop():
    """True if a line (or the end of the drill) has arrived; consumes the line."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return False
    sys.stdin.readline()
    return True


def connect(path, timeout=10.0, **pragmas):
    """A connection without Python's own transactions; sets pragmas before the first table is created."""
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    assert mode == "wal", mode
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def copy(connection, path):
    """Copies what this connection sees with SQLite's backup API, in this process; returns the copy's path."""
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    with open(path, "xb"):
        pass
    target = sqlite3.connect(path, isolation_level=None)
    target.execute(f"PRAGMA page_size = {page_size}")
    target.execute("PRAGMA journal_mode = OFF")
    target.execute("PRAGMA synchronous = OFF")
    connection.backup(target)
    target.close()
    return os.path.abspath(path)
