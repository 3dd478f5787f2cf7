"""Lists the records of a log, by what docs/format/log.md says and nothing else.

Usage: second_reader.py DIR. One line for each whole record: LSN, end, kind, partition, transaction, bytes, CRC-32 of the
payload. Anything that the page does not allow ends it with a word on standard error and 1.
"""

import os
import struct
import sys
import zlib

SEGMENT_HEADER = 4096
BATCH_HEADER = 64
RECORD_HEADER = 24
BODY_MAX = 1 << 20
RECORD_MAX = 64 << 20
WHOLE, FIRST, MIDDLE, LAST = range(4)


def refuse(why):
    sys.exit("second reader: " + why)


class Segment:
    def __init__(self, folder, name):
        with open(os.path.join(folder, name), "rb") as file:
            self.data = file.read()
        head = self.data[:SEGMENT_HEADER]
        (magic, version, flags, self.size, self.timeline, self.incarnation, self.number, self.before,
         self.before_incarnation, _, self.follows_end, self.follows_batch, _) = struct.unpack_from("<8sHHIIIQQIIQQq", head)
        if magic != b"PITRSEG1" or version != 1 or zlib.crc32(head[:108]) != struct.unpack_from("<I", head, 108)[0]:
            refuse("%s has no header" % name)
        if name != "%016x.seg" % self.number or len(self.data) != self.size:
            refuse("%s is not what its name says" % name)
        self.log, self.gap = head[72:88], flags & 1
        self.begin = self.number * self.size
        self.seed = zlib.crc32(struct.pack("<IQI", self.timeline, self.number, self.incarnation))

    def follows(self, other):
        step = 2 if self.gap else 1
        same = (self.timeline, self.log, self.size) == (other.timeline, other.log, other.size)
        named = (self.before, self.before_incarnation) == (other.number, other.incarnation)
        return same and named and self.number == other.number + step

    def batch(self, at, previous):
        """The batch at offset `at`: its body and where the next one stands. None where no batch is."""
        head = self.data[at:at + BATCH_HEADER]
        if len(head) < BATCH_HEADER or head[:4] != b"PBAT":
            return None
        crc, lsn, before, _, _, length, frames, body_crc = struct.unpack_from("<IQQQqIII", head, 4)
        body = self.data[at + BATCH_HEADER:at + BATCH_HEADER + length]
        if crc != zlib.crc32(head[8:], self.seed) or length > BODY_MAX or len(body) != length:
            return None
        if lsn != self.begin + at or before != previous or body_crc != zlib.crc32(body, self.seed):
            return None
        return body, frames, (at + BATCH_HEADER + length + 7) // 8 * 8


def frames_of(body, count, lsn):
    at = 0
    for _ in range(count):
        length, total, kind, part, flags, partition, tx = struct.unpack_from("<IIBBHIQ", body, at)
        payload = body[at + RECORD_HEADER:at + RECORD_HEADER + length]
        if len(payload) != length or total > RECORD_MAX or flags or part > LAST:
            refuse("a frame at LSN %d that the format does not know" % (lsn + at))
        yield lsn + at, lsn + at + RECORD_HEADER + length, kind, part, partition, tx, total, payload
        at += RECORD_HEADER + length
    if at != len(body):
        refuse("bytes behind the last frame before LSN %d" % (lsn + len(body)))


def batches_of(segments):
    """Each batch with its segment, up to where the log can be read."""
    previous = segments[0].follows_batch
    for segment, behind in zip(segments, segments[1:] + [None]):
        if previous != segment.follows_batch:
            refuse("segment %d follows another batch" % segment.number)
        at = SEGMENT_HEADER
        end = behind.follows_end - segment.begin if behind else segment.size
        while at < end:
            found = segment.batch(at, previous)
            if found is None and behind is None:
                return
            if found is None or found[2] > end:
                refuse("a hole in segment %d at offset %d" % (segment.number, at))
            body, count, after = found
            yield segment, body, count, segment.begin + at + BATCH_HEADER
            previous, at = segment.begin + at, after


def main(folder):
    names = sorted(name for name in os.listdir(folder) if name.endswith(".seg"))
    segments = [Segment(folder, name) for name in names]
    for before, after in zip(segments, segments[1:]):
        if not after.follows(before):
            refuse("segment %d does not follow %d" % (after.number, before.number))
    record, life, begun = None, None, False
    for segment, body, count, lsn in batches_of(segments):
        if life != segment.incarnation:
            record, life = None, segment.incarnation
        for at, end, kind, part, partition, tx, total, payload in frames_of(body, count, lsn):
            if part in (WHOLE, FIRST):
                if record is not None:
                    refuse("the record at LSN %d has no end" % record[0])
                record, begun = (at, kind, partition, tx, total, []), True
            elif not begun:
                continue  # the begin was removed with its segment
            elif record is None or record[1:5] != (kind, partition, tx, total):
                refuse("a part of no record at LSN %d" % at)
            record[5].append(payload)
            if part in (WHOLE, LAST):
                whole = b"".join(record[5])
                if len(whole) != total:
                    refuse("the record at LSN %d has %d of %d bytes" % (record[0], len(whole), total))
                print(record[0], end, kind, partition, tx, total, zlib.crc32(whole))
                record = None


main(sys.argv[1])
