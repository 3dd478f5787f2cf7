//! What must stand between two batches of a segment: the checks of every walk over a log, wherever its bytes come from.
//!
//! A [`Place`] holds no bytes. [`super::cursor`] brings them from a file, window by window, [`super::sealed`] from a
//! sealed segment that is in memory or mapped; both ask here, so both find the same faults. Nothing is checked twice.

use crate::error::{Damage, Witness};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::log::{BATCH_HEADER_BYTES, Batch, BatchHeader, Seed, SegmentHeader};

/// Stands between two batches of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    header: SegmentHeader,
    seed: Seed,
    /// Begin of the segment.
    begin: Lsn,
    /// Where the next batch should stand.
    at: Lsn,
    /// The batch before `at`; `None` if the walk began in the middle.
    last_batch: Option<Lsn>,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A checked batch.
    Batch(Batch<'a>),
    /// None that the log could go on with.
    Amiss(Amiss),
}

/// What stands where a batch should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amiss {
    /// A batch, or less than the header of one, that goes on behind the limit.
    Crossing,
    /// Nothing that the log could go on with.
    Damage(Damage),
}

impl Place {
    /// Before the first batch of a segment.
    pub(crate) fn first(header: SegmentHeader) -> Result<Self> {
        let begin = header.segment_size.start_of(header.segment);
        let (Some(begin), Some(at)) = (begin, header.first_batch()) else {
            return Err(Error::Exhausted { end: header.follows.end, bytes: 0 });
        };
        Ok(Place { header, seed: header.seed(), begin, at, last_batch: Some(header.follows.last_batch) })
    }

    /// Goes to `lsn`, where a batch begins that was found by other means.
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

    /// End of the segment; the end of the range for the very last one.
    pub(crate) fn segment_end(&self) -> Lsn {
        self.begin.checked_add(self.header.segment_size.bytes().into()).unwrap_or(Lsn::MAX)
    }

    /// The header of the batch that should stand here. `head` begins here and has [`BATCH_HEADER_BYTES`], fewer if
    /// `limit` comes before.
    pub(crate) fn head(&self, head: &[u8], limit: Lsn) -> std::result::Result<BatchHeader, Amiss> {
        let Ok(header) = BatchHeader::decode(head, self.seed) else {
            let crossing = limit.since(self.begin).saturating_sub(self.at.since(self.begin));
            let damage = if head.iter().all(|byte| *byte == 0) { Damage::Zeros } else { Damage::Bytes };
            let crossing = crossing < BATCH_HEADER_BYTES as u64;
            return Err(if crossing { Amiss::Crossing } else { Amiss::Damage(damage) });
        };
        if header.lsn != self.at || self.last_batch.is_some_and(|last| last != header.prev) {
            return Err(Amiss::Damage(Damage::Misplaced));
        }
        if header.end().is_none_or(|end| end > limit) {
            return Err(Amiss::Crossing);
        }
        Ok(header)
    }

    /// The batch of this header, which [`Place::head`] gave; `bytes` begins with it. Moves past it if it checks out.
    pub(crate) fn pass<'a>(&mut self, header: BatchHeader, bytes: &'a [u8]) -> Found<'a> {
        match Batch::with_header(header, bytes, self.seed) {
            Ok(batch) => {
                self.last_batch = Some(self.at);
                self.at = header.end().unwrap_or(Lsn::MAX);
                Found::Batch(batch)
            }
            Err(_) => Found::Amiss(Amiss::Damage(Damage::Bytes)),
        }
    }
}

/// How far a segment is to be read, and who says that all of it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) end: Lsn,
    durable: Lsn,
    witness: Witness,
}

impl Reach {
    /// The segment ends where the header of the next one says.
    pub(crate) fn sealed_by(next: &SegmentHeader) -> Self {
        let end = next.follows.end;
        Reach { end, durable: end, witness: Witness::Segment(next.segment) }
    }

    /// No next segment is needed: the caller says how far the log is durable.
    pub(crate) fn up_to(limit: Lsn, segment_end: Lsn) -> Self {
        Reach { end: limit.min(segment_end), durable: limit, witness: Witness::Caller }
    }

    /// The hole at `place`; `None` if only the caller's limit stands within a batch, which is then not wholly below it.
    pub(crate) fn hole(&self, place: &Place, amiss: Amiss) -> Option<Error> {
        let damage = match (amiss, self.witness) {
            (Amiss::Crossing, Witness::Caller) => return None,
            (Amiss::Crossing, _) => Damage::Bytes,
            (Amiss::Damage(damage), _) => damage,
        };
        let (lsn, segment) = (place.at, place.header.segment);
        let offset = place.offset_of(lsn) as u32; // a segment has at most 1 GiB
        Some(Error::Hole { lsn, segment, offset, damage, durable: self.durable, witness: self.witness })
    }
}
