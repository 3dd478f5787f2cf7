//! The log on disk: segments of batches of record frames. `docs/format/wal.md` shows the same as
//! diagrams.
//!
//! # Layout
//! A segment file is [`SegmentSize`] long. Its first [`SEGMENT_HEADER_BYTES`] hold only the header,
//! so a torn first batch cannot damage it. Batches follow, each at a multiple of [`BATCH_ALIGN`]: a
//! header of [`BATCH_HEADER_BYTES`], then record frames back to back. The rest of a segment is
//! zeros, or leftovers of a recycled file's earlier incarnation.
//!
//! # Invariants
//! - Every checksum starts from a [`Seed`] of timeline, segment and incarnation. Bytes of another
//!   segment, or of an earlier incarnation of the same one, never pass a check.
//! - A batch names its own LSN and that of the batch before it. No batch can be moved, duplicated
//!   or left out without detection.
//! - The header of a segment states where its predecessor ends. It seals that predecessor and holds
//!   its [index](crate::index).
//! - A record that does not fit is split into first, middle and last fragments. Each fragment names
//!   the total length.

use crate::bytes::{DecodeError, Put, Reader};
use crate::index::{INDEX_BYTES_MAX, SegmentIndex};
use crate::{Incarnation, Lsn, PartitionId, SegmentNo, SegmentSize, TimelineId, Timestamp, TxId};

/// Size of the segment header, which precedes the first batch, bytes.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;
/// Size of a batch header, bytes.
pub const BATCH_HEADER_BYTES: usize = 64;
/// Size of a record frame's header, bytes.
pub const RECORD_HEADER_BYTES: usize = 24;
/// Batches begin at multiples of this many bytes.
pub const BATCH_ALIGN: u32 = 8;
/// Largest body of a batch, bytes. A larger record continues as fragments in the next batch.
pub const BATCH_BODY_BYTES_MAX: u32 = 1 << 20;
/// Largest record, bytes.
pub const RECORD_BYTES_MAX: u32 = 64 << 20;
/// Version of the log format that this program writes, and the newest one it reads.
pub const LOG_VERSION: u16 = 1;

const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"PITRSEG1");
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"PBAT");
const SEGMENT_FIELDS_BYTES: usize = 112;
const _: () = assert!(SEGMENT_FIELDS_BYTES + INDEX_BYTES_MAX <= SEGMENT_HEADER_BYTES as usize);

/// Initial value of the checksums of one incarnation of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// Creates the seed for this timeline, segment and incarnation.
    #[must_use]
    pub fn new(timeline: TimelineId, segment: SegmentNo, incarnation: Incarnation) -> Self {
        let mut bytes = Vec::with_capacity(16);
        bytes.put_u32(timeline.get());
        bytes.put_u64(segment.get());
        bytes.put_u32(incarnation.get());
        Seed(crc32fast::hash(&bytes))
    }

    /// CRC-32 of `bytes`, started from this seed.
    #[must_use]
    pub fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }

    fn check(self, what: &'static str, bytes: &[u8], found: u32) -> Result<(), DecodeError> {
        let computed = self.crc(bytes);
        if computed == found { Ok(()) } else { Err(DecodeError::Checksum { what, found, computed }) }
    }
}

/// How a segment continues the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follows {
    /// Where the log ended before this segment: the end of the previous segment, or the fork point
    /// of the timeline.
    pub end: Lsn,
    /// The predecessor; `None` for the first segment of a timeline's local log.
    pub segment: Option<(SegmentNo, Incarnation)>,
    /// LSN of the last batch before this segment, [`Lsn::ORIGIN`] if there is none.
    pub last_batch: Lsn,
    /// True if changes of the source between `end` and this segment were not logged.
    pub gap: bool,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Timeline of the segment.
    pub timeline: TimelineId,
    /// Number of the segment.
    pub segment: SegmentNo,
    /// Incarnation of the segment.
    pub incarnation: Incarnation,
    /// Size of every segment of the timeline.
    pub segment_size: SegmentSize,
    /// Random identity of the log, the same in all of its segments.
    pub log_id: [u8; 16],
    /// How the segment continues the log.
    pub follows: Follows,
    /// Highest commit or watermark time before this segment.
    pub time: Timestamp,
    /// Position of the last checkpoint record that starts before this segment. A torn tail may have
    /// cut off its end.
    pub checkpoint: Option<Lsn>,
    /// True if the file held another segment before. Bytes after the last batch may belong to that
    /// one.
    pub recycled: bool,
}

impl SegmentHeader {
    /// The seed of this segment's checksums.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::new(self.timeline, self.segment, self.incarnation)
    }

    /// Position of the segment's first batch, or `None` past the end of the LSN range.
    #[must_use]
    pub fn first_batch(&self) -> Option<Lsn> {
        self.segment_size.start_of(self.segment)?.checked_add(u64::from(SEGMENT_HEADER_BYTES))
    }

    /// Encodes the first [`SEGMENT_HEADER_BYTES`] of the segment file, with the index of the
    /// previous segment.
    #[must_use]
    pub fn encode(&self, before: &SegmentIndex) -> Vec<u8> {
        let (prev_segment, prev_incarnation) =
            self.follows.segment.map_or((0, 0), |(s, i)| (s.get(), i.get()));
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.put_u64(SEGMENT_MAGIC);
        out.put_u16(LOG_VERSION);
        let flags = [self.follows.gap, self.recycled, self.checkpoint.is_some()];
        out.put_u16(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u16::from(*flag)));
        out.put_u32(self.segment_size.bytes());
        out.put_u32(self.timeline.get());
        out.put_u32(self.incarnation.get());
        out.put_u64(self.segment.get());
        out.put_u64(prev_segment);
        out.put_u32(prev_incarnation);
        out.put_u32(0);
        out.put_u64(self.follows.end.get());
        out.put_u64(self.follows.last_batch.get());
        out.put_i64(self.time.micros());
        out.put(&self.log_id);
        out.put_u64(self.checkpoint.map_or(0, Lsn::get));
        out.resize(SEGMENT_FIELDS_BYTES - 4, 0);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        before.encode(crc, &mut out);
        out.resize(SEGMENT_HEADER_BYTES as usize, 0);
        out
    }

    /// Decodes the index of the previous segment from the bytes of this header, which
    /// [`SegmentHeader::decode`] has read.
    pub fn index_before(&self, bytes: &[u8]) -> Result<SegmentIndex, DecodeError> {
        const WHAT: &str = "segment header";
        let mut r = Reader::new(bytes);
        r.take(SEGMENT_FIELDS_BYTES - 4, WHAT)?;
        let crc = r.u32(WHAT)?;
        SegmentIndex::decode(r.take(r.left(), WHAT)?, crc, self.segment_size)
    }

    /// Decodes a header. `bytes` may extend past it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "segment header";
        let mut r = Reader::new(bytes);
        let magic = r.u64(WHAT)?;
        if magic != SEGMENT_MAGIC {
            return Err(DecodeError::Magic { what: WHAT, found: magic });
        }
        let fields = Reader::new(bytes).take(SEGMENT_FIELDS_BYTES, WHAT)?;
        let (body, crc) = fields.split_at(SEGMENT_FIELDS_BYTES - 4);
        let found = Reader::new(crc).u32(WHAT)?;
        let computed = crc32fast::hash(body);
        if found != computed {
            return Err(DecodeError::Checksum { what: WHAT, found, computed });
        }
        let version = r.u16(WHAT)?;
        if version != LOG_VERSION {
            return Err(DecodeError::Version {
                what: WHAT,
                found: version.into(),
                known: LOG_VERSION.into(),
            });
        }
        let flags = r.u16(WHAT)?;
        if flags > 7 {
            return Err(DecodeError::Range { what: "segment flags", value: flags.into() });
        }
        let segment_size = SegmentSize::new(r.u32(WHAT)?)
            .map_err(|e| DecodeError::Range { what: "segment size", value: e.0 })?;
        let timeline = TimelineId::new(r.u32(WHAT)?);
        let incarnation = Incarnation::new(r.u32(WHAT)?);
        let segment = SegmentNo::new(r.u64(WHAT)?);
        let prev_segment = r.u64(WHAT)?;
        let prev_incarnation = r.u32(WHAT)?;
        r.u32(WHAT)?;
        let end = Lsn::new(r.u64(WHAT)?);
        let last_batch = Lsn::new(r.u64(WHAT)?);
        let time = Timestamp::from_micros(r.i64(WHAT)?);
        let log_id = r.array(WHAT)?;
        let checkpoint = Lsn::new(r.u64(WHAT)?);
        let follows = Follows {
            end,
            segment: (prev_segment != 0)
                .then(|| (SegmentNo::new(prev_segment), Incarnation::new(prev_incarnation))),
            last_batch,
            gap: flags & 1 != 0,
        };
        let (recycled, checkpoint) = (flags & 2 != 0, (flags & 4 != 0).then_some(checkpoint));
        let header = SegmentHeader {
            timeline,
            segment,
            incarnation,
            segment_size,
            log_id,
            follows,
            time,
            checkpoint,
            recycled,
        };
        let first = header.first_batch();
        if segment.get() == 0 || first.is_none_or(|first| end > first) {
            return Err(DecodeError::Range { what: "segment number", value: segment.get() });
        }
        Ok(header)
    }
}

/// The header of a batch. One write carries one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Position of the batch itself.
    pub lsn: Lsn,
    /// Position of the batch before it in the log, [`Lsn::ORIGIN`] for the first batch.
    pub prev: Lsn,
    /// When the batch was written, everything below this position was known to be synced. This is
    /// the evidence that tells a torn tail from a hole.
    pub durable: Lsn,
    /// Highest commit or watermark time in or before this batch.
    pub time: Timestamp,
    /// Size of the record frames after the header, bytes.
    pub body_len: u32,
    /// Number of record frames.
    pub frames: u32,
    /// Checksum of the body, started from the segment's seed.
    pub body_crc: u32,
}

impl BatchHeader {
    /// Encodes the header.
    #[must_use]
    pub fn encode(&self, seed: Seed) -> [u8; BATCH_HEADER_BYTES] {
        let mut rest = Vec::with_capacity(BATCH_HEADER_BYTES - 8);
        rest.put_u64(self.lsn.get());
        rest.put_u64(self.prev.get());
        rest.put_u64(self.durable.get());
        rest.put_i64(self.time.micros());
        rest.put_u32(self.body_len);
        rest.put_u32(self.frames);
        rest.put_u32(self.body_crc);
        rest.resize(BATCH_HEADER_BYTES - 8, 0);
        let mut out = [0; BATCH_HEADER_BYTES];
        out[0..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&seed.crc(&rest).to_le_bytes());
        out[8..].copy_from_slice(&rest);
        out
    }

    /// Decodes and checks the header at the front of `bytes`. [`Batch::decode`] checks the body.
    pub fn decode(bytes: &[u8], seed: Seed) -> Result<Self, DecodeError> {
        const WHAT: &str = "batch header";
        let mut r = Reader::new(bytes);
        let magic = r.u32(WHAT)?;
        if magic != BATCH_MAGIC {
            return Err(DecodeError::Magic { what: WHAT, found: magic.into() });
        }
        let crc = r.u32(WHAT)?;
        let rest = r.take(BATCH_HEADER_BYTES - 8, WHAT)?;
        seed.check(WHAT, rest, crc)?;
        let mut r = Reader::new(rest);
        let header = BatchHeader {
            lsn: Lsn::new(r.u64(WHAT)?),
            prev: Lsn::new(r.u64(WHAT)?),
            durable: Lsn::new(r.u64(WHAT)?),
            time: Timestamp::from_micros(r.i64(WHAT)?),
            body_len: r.u32(WHAT)?,
            frames: r.u32(WHAT)?,
            body_crc: r.u32(WHAT)?,
        };
        if header.body_len > BATCH_BODY_BYTES_MAX {
            return Err(DecodeError::Range { what: "batch length", value: header.body_len.into() });
        }
        Ok(header)
    }

    /// Size of header and body, bytes.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        BATCH_HEADER_BYTES + self.body_len as usize
    }

    /// Bytes from the start of the batch to the earliest start of the next: header, body and
    /// padding.
    #[must_use]
    pub fn span(&self) -> u64 {
        (self.bytes_len() as u64).next_multiple_of(u64::from(BATCH_ALIGN))
    }

    /// Position of the next batch in the same segment, or `None` past the end of the LSN range.
    #[must_use]
    pub fn end(&self) -> Option<Lsn> {
        self.lsn.checked_add(self.span())
    }
}

/// A batch whose header and body have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The header.
    pub header: BatchHeader,
    /// Header and body.
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Decodes and checks the batch at the front of `bytes`.
    pub fn decode(bytes: &'a [u8], seed: Seed) -> Result<Self, DecodeError> {
        Batch::with_header(BatchHeader::decode(bytes, seed)?, bytes, seed)
    }

    /// Decodes the batch at the front of `bytes`, whose header was already decoded and checked.
    /// Checks the body.
    pub fn with_header(header: BatchHeader, bytes: &'a [u8], seed: Seed) -> Result<Self, DecodeError> {
        let batch = Batch::checked_before(header, bytes)?;
        seed.check("batch body", batch.body(), header.body_crc)?;
        Ok(batch)
    }

    /// Decodes the batch at the front of `bytes`, whose header and body were already checked.
    /// Computes no checksum.
    pub fn checked_before(header: BatchHeader, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        // FAILURES 17: later code adds to the position without an overflow check.
        let value = header.lsn.get();
        header.end().ok_or(DecodeError::Range { what: "position of a batch", value })?;
        let bytes = Reader::new(bytes).take(header.bytes_len(), "batch")?;
        Ok(Batch { header, bytes })
    }

    /// Header and body as stored in the log, without the padding after them.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn body(&self) -> &'a [u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// The record frames, in order. A batch that passed its checks yields an error only if its
    /// writer was faulty.
    #[inline]
    pub fn frames(&self) -> impl Iterator<Item = Result<Frame<'a>, DecodeError>> + use<'a> {
        let mut r = Reader::new(self.body());
        let base = self.header.lsn.get() + BATCH_HEADER_BYTES as u64;
        let mut left = self.header.frames;
        std::iter::from_fn(move || {
            if left == 0 {
                // The error is returned once, so that a caller that continues after an error
                // reaches the end.
                let trailing = std::mem::replace(&mut r, Reader::new(&[])).left();
                return (trailing > 0)
                    .then_some(Err(DecodeError::Trailing { what: "batch body", left: trailing }));
            }
            left -= 1;
            let lsn = Lsn::new(base + r.offset() as u64);
            let frame = Frame::decode(&mut r, lsn);
            if frame.is_err() {
                left = 0;
                r = Reader::new(&[]);
            }
            Some(frame)
        })
    }
}

/// The part of its record that a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole record.
    Full,
    /// The first of several fragments.
    First,
    /// A fragment between the first and the last.
    Middle,
    /// The last of several fragments.
    Last,
}

/// A record, or a fragment of one, with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Position of the frame's header.
    pub lsn: Lsn,
    /// Kind of the record; see [`crate::record::RecordKind`].
    pub kind: u8,
    /// The part of the record that this frame holds.
    pub part: Part,
    /// Partition of the record.
    pub partition: PartitionId,
    /// Transaction of the record; [`TxId::NONE`] if it has none.
    pub tx: TxId,
    /// Length of the whole record, bytes.
    pub total_len: u32,
    /// The bytes of this part.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Position right after the frame. For the last frame of a commit record this is the LSN of the
    /// commit.
    #[inline]
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn::new(self.lsn.get() + (RECORD_HEADER_BYTES + self.bytes.len()) as u64)
    }

    /// Appends the frame to a batch body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.bytes.len() as u32);
        out.put_u32(self.total_len);
        out.put_u8(self.kind);
        out.put_u8(match self.part {
            Part::Full => 0,
            Part::First => 1,
            Part::Middle => 2,
            Part::Last => 3,
        });
        out.put_u16(0);
        out.put_u32(self.partition.get());
        out.put_u64(self.tx.get());
        out.put(self.bytes);
    }

    #[inline]
    fn decode(r: &mut Reader<'a>, lsn: Lsn) -> Result<Self, DecodeError> {
        const WHAT: &str = "record frame";
        // Frames are the most frequent item of a log. One bounds check covers the whole header, so
        // that its fields are read without further checks.
        let header: &[u8; RECORD_HEADER_BYTES] = r.take_array(WHAT)?;
        let mut fields = Reader::new(header);
        let len = fields.u32(WHAT)?;
        let total_len = fields.u32(WHAT)?;
        let kind = fields.u8(WHAT)?;
        let part = match fields.u8(WHAT)? {
            0 => Part::Full,
            1 => Part::First,
            2 => Part::Middle,
            3 => Part::Last,
            other => return Err(DecodeError::Range { what: "record part", value: other.into() }),
        };
        let flags = fields.u16(WHAT)?;
        if flags != 0 {
            return Err(DecodeError::Range { what: "record flags", value: flags.into() });
        }
        let partition = PartitionId::new(fields.u32(WHAT)?);
        let tx = TxId::new(fields.u64(WHAT)?);
        if total_len > RECORD_BYTES_MAX || len > total_len || (part == Part::Full && len != total_len) {
            return Err(DecodeError::Range { what: "record length", value: total_len.into() });
        }
        let bytes = r.take(len as usize, WHAT)?;
        Ok(Frame { lsn, kind, part, partition, tx, total_len, bytes })
    }

    /// The record in this frame, which must be a full one.
    #[inline]
    fn to_record(self) -> WholeRecord<'a> {
        WholeRecord {
            lsn: self.lsn,
            end: self.end(),
            kind: self.kind,
            partition: self.partition,
            tx: self.tx,
            payload: self.bytes,
        }
    }
}

/// A whole record, assembled from its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeRecord<'a> {
    /// Position of the record's first frame.
    pub lsn: Lsn,
    /// Position right after the record's last frame.
    pub end: Lsn,
    /// Kind of the record; see [`crate::record::RecordKind`].
    pub kind: u8,
    /// Partition of the record.
    pub partition: PartitionId,
    /// Transaction of the record.
    pub tx: TxId,
    /// Payload of the record.
    pub payload: &'a [u8],
}

/// Assembles records from fragments. It holds at most one record of [`RECORD_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Assembler {
    open: Option<Open>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    lsn: Lsn,
    kind: u8,
    partition: PartitionId,
    tx: TxId,
    total_len: u32,
}

impl Assembler {
    /// Creates an assembler that waits for the first frame of a record.
    #[must_use]
    pub fn new() -> Self {
        Assembler::default()
    }

    /// Position of the unfinished record, if there is one.
    #[must_use]
    pub fn open_since(&self) -> Option<Lsn> {
        self.open.map(|open| open.lsn)
    }

    /// Drops an unfinished record. A new incarnation shows that its other parts were cut off with a
    /// torn tail.
    pub fn forget(&mut self) {
        self.open = None;
        self.bytes.clear();
    }

    /// Takes the next frame. Returns the record that it completes, if any.
    #[inline]
    pub fn push<'s>(&'s mut self, frame: &Frame<'s>) -> Result<Option<WholeRecord<'s>>, DecodeError> {
        if frame.part == Part::Full && self.open.is_none() {
            return Ok(Some(frame.to_record()));
        }
        self.join(frame)
    }

    /// Takes a frame that holds only a part of its record.
    fn join<'s>(&'s mut self, frame: &Frame<'s>) -> Result<Option<WholeRecord<'s>>, DecodeError> {
        let out_of_order = DecodeError::Range { what: "record part out of order", value: frame.lsn.get() };
        let open = match (frame.part, self.open) {
            (Part::First, None) => {
                self.bytes.clear();
                let (kind, partition, tx, total_len) =
                    (frame.kind, frame.partition, frame.tx, frame.total_len);
                Open { lsn: frame.lsn, kind, partition, tx, total_len }
            }
            (Part::Middle | Part::Last, Some(open)) => open,
            _ => return Err(out_of_order),
        };
        let same = open.kind == frame.kind
            && open.partition == frame.partition
            && open.tx == frame.tx
            && open.total_len == frame.total_len;
        let len = self.bytes.len() + frame.bytes.len();
        let fits = if frame.part == Part::Last {
            len == open.total_len as usize
        } else {
            len <= open.total_len as usize
        };
        if !same || !fits {
            return Err(out_of_order);
        }
        self.bytes.extend_from_slice(frame.bytes);
        if frame.part != Part::Last {
            self.open = Some(open);
            return Ok(None);
        }
        self.open = None;
        let Open { lsn, kind, partition, tx, .. } = open;
        Ok(Some(WholeRecord { lsn, end: frame.end(), kind, partition, tx, payload: &self.bytes }))
    }
}

#[cfg(test)]
mod tests;
