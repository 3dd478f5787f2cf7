"""Commits random transactions of 1 to 6 statements and takes its own copy after each.

usage: writer.py DIR SEED TRANSACTIONS [--truncate]

TRANSACTIONS 0: continues until it gets a line. --truncate: its occasional checkpoints use TRUNCATE instead of PASSIVE.
It also rolls back savepoints and transactions, and makes pauses long enough for a restore by time.
"""

import argparse
import os
import random
import time

from common import connect, copy, now_us, say, told_to_stop, wait_for_line

SCHEMA = """
CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance REAL NOT NULL);
CREATE INDEX accounts_by_owner ON accounts (owner);
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, payload BLOB);
CREATE INDEX events_by_kind ON events (kind, id);
CREATE TABLE pairs (a TEXT, b INTEGER, value, PRIMARY KEY (a, b)) WITHOUT ROWID;
"""
EVENTS_KEPT = 150


def insert_event(db, dice):
    db.execute("INSERT INTO events (kind, payload) VALUES (?, ?)", (dice.choice("abcde"), dice.randbytes(dice.randrange(3000))))


def insert_account(db, dice):
    db.execute("INSERT INTO accounts (owner, balance) VALUES (?, ?)", (dice.choice("xyz") * dice.randrange(1, 40), dice.random()))


def update_accounts(db, dice):
    db.execute("UPDATE accounts SET balance = balance + ?, owner = owner || 'o' WHERE id % 7 = ?", (dice.random(), dice.randrange(7)))


def put_pair(db, dice):
    db.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", (dice.choice("pqr"), dice.randrange(200), dice.randbytes(dice.randrange(400))))


def delete_pairs(db, dice):
    db.execute("DELETE FROM pairs WHERE b BETWEEN ?1 AND ?1 + 5", (dice.randrange(200),))


def trim(db, dice):
    db.execute("DELETE FROM events WHERE id < (SELECT max(id) FROM events) - ?", (EVENTS_KEPT,))
    db.execute("DELETE FROM accounts WHERE id < (SELECT max(id) FROM accounts) - ?", (EVENTS_KEPT,))


def change_schema(db, dice):
    name = f"extra_{dice.randrange(3)}"
    db.execute(dice.choice([f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE IF NOT EXISTS {name} AS SELECT * FROM accounts"]))


STATEMENTS = [insert_event, insert_account, update_accounts, put_pair, delete_pairs, trim]


def statement(db, dice):
    (change_schema if dice.random() < 0.02 else dice.choice(STATEMENTS))(db, dice)


def transaction(db, dice):
    """1 to 6 statements; the first always changes something, so that each commit creates a distinct state."""
    db.execute("BEGIN IMMEDIATE")
    insert_event(db, dice)
    for _ in range(dice.randrange(6)):
        if dice.random() < 0.1:
            db.execute("SAVEPOINT inner_part")
            statement(db, dice)
            db.execute("ROLLBACK TO inner_part")
            db.execute("RELEASE inner_part")
        else:
            statement(db, dice)


def checkpoint(db, mode):
    busy, log, moved = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    say("checkpoint", mode=mode, busy=busy, frames=log, moved=moved, time_us=now_us())


def main():
    args = argparse.ArgumentParser()
    args.add_argument("dir")
    args.add_argument("seed", type=int)
    args.add_argument("transactions", type=int)
    args.add_argument("--truncate", action="store_true")
    args = args.parse_args()
    dice = random.Random(args.seed)
    copies = os.path.join(args.dir, "copies")
    os.makedirs(copies)
    path = os.path.join(args.dir, "app.db")
    db = connect(path)
    db.executescript(SCHEMA)
    first = os.path.abspath(os.path.join(copies, "0.db"))
    say("ready", database=os.path.abspath(path), copy=first)
    wait_for_line()
    # Copy only now: the attached program may have created its own tables in the database.
    copy(db, first)

    commit = 0
    while (commit < args.transactions) if args.transactions else not told_to_stop():
        if dice.random() < 0.08:
            transaction(db, dice)
            db.execute("ROLLBACK")
        if dice.random() < 0.05:
            # TRUNCATE waits for readers up to the busy timeout; an application would not wait long.
            db.execute("PRAGMA busy_timeout = 200")
            checkpoint(db, "TRUNCATE" if args.truncate else "PASSIVE")
            db.execute("PRAGMA busy_timeout = 10000")
        transaction(db, dice)
        before = now_us()
        db.execute("COMMIT")
        after = now_us()
        commit += 1
        witness = copy(db, os.path.join(copies, f"{commit}.db"))
        say("commit", n=commit, before_us=before, after_us=after, copy=witness)
        if dice.random() < 0.2:
            time.sleep(dice.uniform(0.12, 0.3))
    say("done", commits=commit)
    wait_for_line()


main()
