"""Creates a PostgreSQL cluster with pgbench's tables, shuts it down, and makes a copy with a share of its blocks changed at random places.

usage: cluster.py DIR MEGABYTES SHARE SEED

Leaves the folders `before` and `after`, and all bytes of `before` in one file, `whole`. A changed block has another balance in its first
row and a later LSN, as after an UPDATE in place. PostgreSQL does not run as root: for root, the script uses PostgreSQL's own user.
"""

import glob
import os
import random
import shutil
import struct
import subprocess
import sys

from common import say

BLOCK_BYTES = 8192
# Approximate size of pgbench's tables and index at scale 1.
BYTES_A_SCALE = 15_000_000
ROW_HEADER_BYTES = 24
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
wal_level = minimal
max_wal_senders = 0
max_wal_size = 64MB
min_wal_size = 32MB
fsync = off
"""


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    assert found or shutil.which("initdb"), "PostgreSQL is not installed"
    return found[-1] if found else os.path.dirname(shutil.which("initdb"))


def make(folder, scale):
    before = os.path.join(folder, "before")
    root = os.geteuid() == 0
    command = ["runuser", "-u", "postgres", "--"] if root else []
    if root:
        shutil.chown(folder, "postgres")
    bin_folder = programs()

    def run(program, *args):
        subprocess.run([*command, os.path.join(bin_folder, program), *args], check=True, cwd=folder, stdout=sys.stderr)

    run("initdb", "-D", before, "-A", "trust", "--no-sync", "--encoding=UTF8")
    with open(os.path.join(before, "postgresql.conf"), "a") as settings:
        settings.write(SETTINGS.format(folder=folder))
    run("pg_ctl", "-D", before, "-l", os.path.join(folder, "log"), "-w", "start")
    try:
        run("pgbench", "-h", folder, "-i", "-q", "-s", str(scale), "postgres")
    finally:
        run("pg_ctl", "-D", before, "-m", "fast", "-w", "-t", "600", "stop")
    return before


def files_of(folder):
    for top, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield os.path.join(top, name)


def change(path, dice, share):
    """Changes blocks of one file; returns their number."""
    changed = 0
    with open(path, "r+b") as file:
        for number in range(os.path.getsize(path) // BLOCK_BYTES):
            if dice.random() >= share:
                continue
            file.seek(number * BLOCK_BYTES)
            block = bytearray(file.read(BLOCK_BYTES))
            high, low = struct.unpack("<II", block[:8])
            (pointer,) = struct.unpack("<I", block[24:28])
            at = pointer & 0x7FFF
            if pointer >> 15 & 3 != 1 or at + ROW_HEADER_BYTES + 12 > BLOCK_BYTES:
                continue
            block[:8] = struct.pack("<II", high, low + 4096 + number * 8 & 0xFFFFFFFF)
            balance = at + ROW_HEADER_BYTES + 8
            block[balance : balance + 4] = struct.pack("<i", dice.randrange(-5000, 5000))
            file.seek(number * BLOCK_BYTES)
            file.write(block)
            changed += 1
    return changed


def main():
    folder, size, share, seed = sys.argv[1], int(sys.argv[2]) * 1_000_000, float(sys.argv[3]), int(sys.argv[4])
    folder = os.path.abspath(folder)
    dice = random.Random(seed)
    before = make(folder, max(1, size // BYTES_A_SCALE))
    with open(os.path.join(folder, "whole"), "wb") as whole:
        for path in files_of(before):
            with open(path, "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    after = os.path.join(folder, "after")
    subprocess.run(["cp", "-a", before, after], check=True)
    large = [path for path in files_of(os.path.join(after, "base")) if os.path.getsize(path) > 1 << 20]
    changed = sum(change(path, dice, share) for path in large)
    say("done", changed=changed, bytes=os.path.getsize(os.path.join(folder, "whole")))


main()
