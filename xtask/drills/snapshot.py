"""Creates a realistic database, and a copy with a share of its pages changed at random places.

usage: snapshot.py DIR MEGABYTES SHARE SEED
       snapshot.py change DATABASE SHARE SEED      the same change, in small transactions

Rows have numbers, a time, a random token, words of very different frequency and a state, with an index on two of the columns:
the file compresses about 2.3 : 1 at zstd -3 and has almost no equal blocks. Leaves `before.db` and `after.db`.
"""

import os
import random
import shutil
import sys

from common import connect, say, wait_for_line

POOL_BYTES = 64_000_000
ROWS_A_TRANSACTION = 100_000
STATES = ("new", "paid", "packed", "shipped", "returned")


def pool(dice):
    """Text from which notes are cut: words with frequencies by Zipf's law."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(dice.choices(letters, range(26, 0, -1), k=dice.randrange(2, 12))) for _ in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    text = " ".join(dice.choices(words, weights, k=POOL_BYTES // 5))
    return text


def row(dice, text, number):
    at, length = dice.randrange(len(text) - 500), dice.randrange(40, 460)
    bits = dice.getrandbits(192)
    return (
        number,
        bits % 300_000,
        1_700_000_000_000 + number * 37 + bits % 1000,
        STATES[bits % 5],
        f"{bits:048x}",
        round((bits >> 64) % 1_000_000 / 100, 2),
        text[at : at + length],
    )


def close(db, path):
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    for end in ("-wal", "-shm"):
        assert not os.path.exists(path + end), end


def main():
    folder, size, share, seed = sys.argv[1], int(sys.argv[2]) * 1_000_000, float(sys.argv[3]), int(sys.argv[4])
    dice = random.Random(seed)
    text = pool(dice)
    path = os.path.join(folder, "before.db")
    db = connect(path, cache_size=-500_000)
    db.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, at INTEGER, state TEXT, token TEXT, amount REAL, note TEXT)"
    )
    db.execute("CREATE INDEX by_customer ON orders (customer, at)")
    number = 0
    while os.path.getsize(path) < size:
        db.execute("BEGIN")
        rows = (row(dice, text, number + nth) for nth in range(ROWS_A_TRANSACTION))
        db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        number += ROWS_A_TRANSACTION
    close(db, path)
    after = os.path.join(folder, "after.db")
    shutil.copyfile(path, after)
    db = connect(after, cache_size=-500_000)
    changed = change(db, after, dice, share, 1 << 60)
    close(db, after)
    say("done", rows=number, changed=changed, bytes=os.path.getsize(after))


def change(db, path, dice, share, rows_a_transaction):
    (number,) = db.execute("SELECT count(*) FROM orders").fetchone()
    changed = dice.sample(range(number), int(os.path.getsize(path) // 4096 * share))
    for start in range(0, len(changed), rows_a_transaction):
        db.execute("BEGIN")
        for one in changed[start : start + rows_a_transaction]:
            # The length stays the same, so the row keeps its place.
            db.execute(
                "UPDATE orders SET token = ?, state = substr(state, 1) WHERE id = ?", (f"{dice.getrandbits(192):048x}", one)
            )
        db.execute("COMMIT")
    return len(changed)


def change_only():
    path, share, seed = sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    db = connect(path, cache_size=-500_000)
    say("done", changed=change(db, path, random.Random(seed), share, 250))
    wait_for_line()


if sys.argv[1] == "change":
    change_only()
else:
    main()
