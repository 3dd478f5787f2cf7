//! The checks of every reader: does a batch continue the log at this position?
//!
//! A [`Place`] holds no bytes. [`super::cursor`] passes bytes from a file, window by window,
//! [`super::sealed`] from a segment in memory. Both use these checks, so both find the same faults.
//! Nothing is verified twice.

use crate::error::{Damage, Witness};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::log::{BATCH_HEADER_BYTES, Batch, BatchHeader, Seed, SegmentHeader};

/// A position between two batches of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    header: SegmentHeader,
    seed: Seed,
    /// Start of the segment.
    begin: Lsn,
    /// Where the next batch should start.
    at: Lsn,
    /// The batch before `at`; `None` if reading started in the middle.
    last_batch: Option<Lsn>,
}

/// What was found at a place.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A valid batch.
    Batch(Batch<'a>),
    /// No batch that continues the log.
    Fault(Fault),
}

/// Why there is no batch that continues the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// A batch, or part of its header, extends beyond the limit.
    Crossing,
    /// The bytes are not a batch that continues the log.
    Damage(Damage),
}

impl Place {
    /// The place before the first batch of a segment.
    pub(crate) fn first(header: SegmentHeader) -> Result<Self> {
        let begin = header.segment_size.start_of(header.segment);
        let (Some(begin), Some(at)) = (begin, header.first_batch()) else {
            return Err(Error::Exhausted { end: header.follows.end, bytes: 0 });
        };
        Ok(Place { header, seed: header.seed(), begin, at, last_batch: Some(header.follows.last_batch) })
    }

    /// Moves to `lsn`, the start of a batch that was found by other means.
    pub(crate) fn jump(&mut self, lsn: Lsn) {
        (self.at, self.last_batch) = (lsn, None);
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Checksum seed of the segment.
    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    pub(crate) fn at(&self) -> Lsn {
        self.at
    }

    pub(crate) fn last_batch(&self) -> Option<Lsn> {
        self.last_batch
    }

    /// Offset of a position of this segment, bytes.
    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        lsn.since(self.begin)
    }

    /// The position at an offset of this segment, bytes.
    pub(crate) fn position(&self, offset: u32) -> Option<Lsn> {
        self.begin.checked_add(offset.into())
    }

    /// End of the segment; the end of the LSN range for the last possible segment.
    pub(crate) fn segment_end(&self) -> Lsn {
        self.begin.checked_add(self.header.segment_size.bytes().into()).unwrap_or(Lsn::MAX)
    }

    /// The header of the batch that should start here. `head` starts here and has
    /// [`BATCH_HEADER_BYTES`], fewer if `limit` comes first.
    pub(crate) fn head(&self, head: &[u8], limit: Lsn) -> std::result::Result<BatchHeader, Fault> {
        let Ok(header) = BatchHeader::decode(head, self.seed) else {
            let crossing = limit.since(self.begin).saturating_sub(self.at.since(self.begin));
            let damage = if head.iter().all(|byte| *byte == 0) { Damage::Zeros } else { Damage::Bytes };
            let crossing = crossing < BATCH_HEADER_BYTES as u64;
            return Err(if crossing { Fault::Crossing } else { Fault::Damage(damage) });
        };
        if header.lsn != self.at || self.last_batch.is_some_and(|last| last != header.prev) {
            return Err(Fault::Damage(Damage::Misplaced));
        }
        if header.end().is_none_or(|end| end > limit) {
            return Err(Fault::Crossing);
        }
        Ok(header)
    }

    /// The batch of this header, which [`Place::head`] returned; `bytes` starts with it. Moves past
    /// a valid batch.
    pub(crate) fn pass<'a>(&mut self, header: BatchHeader, bytes: &'a [u8]) -> Found<'a> {
        match Batch::with_header(header, bytes, self.seed) {
            Ok(batch) => {
                self.last_batch = Some(self.at);
                self.at = header.end().unwrap_or(Lsn::MAX);
                Found::Batch(batch)
            }
            Err(_) => Found::Fault(Fault::Damage(Damage::Bytes)),
        }
    }
}

/// How far a segment is read, and the witness that everything up to there exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) end: Lsn,
    durable: Lsn,
    witness: Witness,
}

impl Reach {
    /// The segment ends where the header of its successor states.
    pub(crate) fn sealed_by(next: &SegmentHeader) -> Self {
        let end = next.follows.end;
        Reach { end, durable: end, witness: Witness::Segment(next.segment) }
    }

    /// No successor is needed: the caller states how far the log is durable.
    pub(crate) fn up_to(limit: Lsn, segment_end: Lsn) -> Self {
        Reach { end: limit.min(segment_end), durable: limit, witness: Witness::Caller }
    }

    /// The hole at `place`; `None` if the caller's limit lies within a batch. Then that batch does
    /// not count.
    pub(crate) fn hole(&self, place: &Place, fault: Fault) -> Option<Error> {
        let damage = match (fault, self.witness) {
            (Fault::Crossing, Witness::Caller) => return None,
            (Fault::Crossing, _) => Damage::Bytes,
            (Fault::Damage(damage), _) => damage,
        };
        let (lsn, segment) = (place.at, place.header.segment);
        let offset = place.offset_of(lsn) as u32; // a segment has at most 1 GiB
        Some(Error::Hole { lsn, segment, offset, damage, durable: self.durable, witness: self.witness })
    }
}
