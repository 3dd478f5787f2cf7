"""Restores a snapshot from a repository, written from docs/format/{object,frame,pack,index,manifest,directory}.md alone.

    second_reader.py REPOSITORY SOURCE SNAPSHOT-ID OUTPUT

Supports the codecs of Python's standard library: none and gzip. Checks every hash that the pages specify.
"""

import gzip
import hashlib
import os
import struct
import sys
import zlib
from pathlib import Path

MIB = 1 << 20
ZERO = bytes(32)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "it ends too early"
        self.at += count
        return piece

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def blob(self):
        return self.take(self.varint())

    def done(self):
        assert self.at == len(self.data), "something follows"


def frame(data):
    codec, cipher, zero, raw, stored, crc = struct.unpack("<BBHIII", data[:16])
    assert (cipher, zero, stored) == (0, 0, len(data) - 16)
    assert zlib.crc32(data[:12] + data[16:]) == crc, "CRC-32 of a frame"
    assert codec in (0, 4), "a codec that Python's library doesn't have"
    out = data[16:] if codec == 0 else gzip.decompress(data[16:])
    assert len(out) == raw
    return out


def read_object(path, kind):
    """The bytes, the frames as (offset, length, raw length), the payload and the digest of an object."""
    data = path.read_bytes()
    header, trailer = data[:64], data[-64:]
    assert header[:8] == b"PITROBJ1" and trailer[56:] == b"PITREND1"
    assert zlib.crc32(header[:60]) == struct.unpack("<I", header[60:])[0]
    assert struct.unpack("<HB", header[8:11]) == (1, kind) and header[12] == 0
    offset, taken, raw, count, zero = struct.unpack("<QIIII", trailer[:24])
    assert offset + taken + 64 == len(data) and zero == 0
    footer = data[offset : offset + taken]
    digest = hashlib.sha256(header + footer + trailer[:24]).digest()
    assert digest == trailer[24:56], "digest"
    footer = frame(footer)
    assert len(footer) == raw
    frames, at = [], 64
    for number in range(count):
        length, raw_length, sha = struct.unpack("<II32s", footer[40 * number : 40 * number + 40])
        assert hashlib.sha256(data[at : at + length]).digest() == sha, "SHA-256 of a frame"
        frames.append((at, length, raw_length))
        at += length
    assert at == offset
    return data, frames, footer[40 * count :], digest


class Repository:
    def __init__(self, root):
        self.root = root
        read_object(root / "repository", 1)
        self.chunks = {}
        for path in sorted((root / "index").iterdir()):
            _, frames, payload, digest = read_object(path, 3)
            assert path.name == digest.hex() and not frames
            reader = Reader(payload)
            for _ in range(reader.varint()):
                pack = reader.take(32).hex()
                assert reader.varint() == 0, "encrypted"
                at = 64
                for _ in range(reader.varint()):
                    name, stored, raw = reader.take(32), reader.varint(), reader.varint()
                    self.chunks.setdefault(name, (pack, at, stored, raw))
                    at += stored
            reader.done()

    def chunk(self, name):
        pack, at, stored, raw = self.chunks[name]
        with open(self.root / "packs" / pack[:2] / pack, "rb") as file:
            file.seek(at)
            out = frame(file.read(stored))
        pieces = [hashlib.sha256(out[at : at + 4096]).digest() for at in range(0, len(out), 4096)]
        named = struct.pack("<Q", len(out)) + b"".join(pieces)
        assert len(out) == raw and hashlib.sha256(named).digest() == name
        _, frames, payload, digest = read_object(self.root / "packs" / pack[:2] / pack, 2)
        assert digest.hex() == pack
        number = [begin for begin, _, _ in frames].index(at)
        assert payload[32 * number : 32 * number + 32] == name
        begin = 32 * len(frames) + sum(16 * -(-length // 4096) for _, _, length in frames[:number])
        assert payload[begin : begin + 16 * len(pieces)] == b"".join(sha[:16] for sha in pieces)
        return out

    def root_of(self, source, snapshot):
        folder = self.root / "sources" / source / "snapshots"
        [path] = [path for path in folder.glob("*/*/*") if path.name.endswith("-" + snapshot[:8])]
        _, frames, payload, _ = read_object(path, 4)
        assert not frames
        return Reader(payload)


class File:
    """A file of a snapshot."""

    def __init__(self, repository, reader):
        self.repository = repository
        self.number, self.name, self.length = reader.varint(), reader.blob(), reader.varint()
        self.block = reader.number("I")
        count = -(-self.length // MIB) if self.block else reader.varint()
        self.nodes = []
        for _ in range(reader.varint()):
            span = None if self.block else reader.varint()
            leaf = reader.take(32)
            overlays = {}
            for _ in range(reader.take(1)[0]):
                group = reader.take(1)[0]
                overlays[group] = reader.take(32)
            self.nodes.append((leaf, overlays, span))
        assert len(self.nodes) == -(-count // 4096)
        self.count = count
        assert self.block or self.length == sum(span for _, _, span in self.nodes)

    def extents(self):
        for number, (leaf, overlays, span) in enumerate(self.nodes):
            in_node = min(self.count - number * 4096, 4096)
            if not self.block:
                yield from self.cut_extents(leaf, overlays, in_node, span)
                continue
            names = [ZERO] * in_node
            if leaf != ZERO:
                reader = Reader(self.repository.chunk(leaf))
                assert reader.take(2) == b"E\x01" and reader.varint() == in_node
                names = [reader.take(32) for _ in range(in_node)]
                reader.done()
            blocks = {group: list(self.overlay(leaf)) for group, leaf in overlays.items()}
            for extent, name in enumerate(names):
                at = number * 4096 + extent
                length = min(self.length - at * MIB, MIB)
                out = bytearray(self.repository.chunk(name) if name != ZERO else b"")[:length]
                out.extend(bytes(length - len(out)))
                first = extent % 256 * (MIB // self.block)
                for block, image in blocks.get(extent // 256, []):
                    begin = (block - first) * self.block
                    if 0 <= begin < length:
                        part = image[: length - begin]
                        out[begin : begin + len(part)] = part
                yield bytes(out)

    def cut_extents(self, leaf, overlays, count, span):
        reader = Reader(self.repository.chunk(leaf))
        assert not overlays and reader.take(2) == b"C\x01" and reader.varint() == count
        for _ in range(count):
            name, length = reader.take(32), reader.varint()
            out = self.repository.chunk(name) if name != ZERO else bytes(length)
            assert 1 <= length == len(out) <= MIB
            span -= length
            yield out
        reader.done()
        assert span == 0

    def overlay(self, leaf):
        reader = Reader(self.repository.chunk(leaf))
        assert reader.take(2) == b"O\x01"
        entries, count = reader.varint(), reader.varint()
        names = [reader.take(32) for _ in range(count)]
        held = {name: self.repository.chunk(name) for name in names}
        blocks, places, before = [], [], -1
        for _ in range(entries):
            before += 1 + reader.varint()
            blocks.append(before)
        before = -1
        for _ in range(entries):
            before += 1 + reader.zigzag()
            places.append(before)
        reader.done()
        slots = MIB // self.block
        for block, place in zip(blocks, places):
            image = bytes(self.block)
            if place > 0:
                chunk, slot = divmod(place - 1, slots)
                image = held[names[chunk]][slot * self.block : (slot + 1) * self.block]
            yield block, image

    def read(self):
        return b"".join(self.extents())


def snapshot(repository, source, which):
    reader = repository.root_of(source, which)
    version = reader.take(1)[0]
    assert version in (1, 2, 3, 4) and reader.take(16).hex() == which
    reader.take(1 + 1 + 16)
    assert reader.blob() == source.encode()
    engine = reader.blob().decode()
    reader.take(4 + 8 + 8 + 8 + 8 + 8 + 1 + 4 + 8)
    if version >= 3:
        uid, gid, mode = reader.number("I"), reader.number("I"), reader.number("I")
        assert mode <= 0o777
    reader.take(8 + 8 + 8)
    if version in (1, 3):
        files = [File(repository, reader) for _ in range(reader.varint())]
    else:
        leaves = [reader.take(32) for _ in range(reader.varint())]
        files = [file for leaf in leaves for file in files_of(repository, leaf)]
    reader.done()
    assert [file.number for file in files] == sorted({file.number for file in files})
    return engine, files


def files_of(repository, leaf):
    reader = Reader(repository.chunk(leaf))
    assert reader.take(2) == b"F\x01"
    files = [File(repository, reader) for _ in range(reader.varint())]
    reader.done()
    return files


def build_folder(files, output):
    numbered = {file.number: file for file in files}
    reader = Reader(numbered[4294967295].read())
    assert reader.take(2) == b"D\x01"
    reader.blob()
    later, dressed = [], []
    for _ in range(reader.varint()):
        kind, path = reader.take(1)[0], reader.blob()
        parts = path.split(b"/") if path else []
        assert not any(part in (b"", b".", b"..") for part in parts)
        target = os.path.join(os.fsencode(output), path) if path else os.fsencode(output)
        mode, _, _ = (reader.number("I") for _ in range(3))
        time = reader.number("q") * 10**9 + reader.number("I")
        if kind == 0:
            os.mkdir(target)
        elif kind == 1:
            state, number, length = reader.take(1)[0], reader.number("I"), reader.number("Q")
            reader.take(8 + 8 + 4)
            for _ in range(reader.varint()):
                reader.varint(), reader.varint()
            if state == 1:
                continue
            data = numbered[number].read()
            assert len(data) == length
            Path(os.fsdecode(target)).write_bytes(data)
        else:
            later.append((kind, target, reader.blob()))
        if kind < 3:
            dressed.append((target, mode, time, kind))
    reader.done()
    for kind, target, leads_to in later:
        if kind == 2:
            os.symlink(leads_to, target)
        else:
            os.link(os.path.join(os.fsencode(output), leads_to), target)
    for target, mode, time, kind in reversed(dressed):
        if kind != 2:
            os.chmod(target, mode)
        os.utime(target, ns=(time, time), follow_symlinks=False)


def main():
    root, source, which, output = sys.argv[1:]
    engine, files = snapshot(Repository(Path(root)), source, which)
    if engine == "directory":
        build_folder(files, output)
    else:
        [file] = files
        Path(output).write_bytes(file.read())


main()
