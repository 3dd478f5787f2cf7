//! Walks over the batches of one segment and checks each.

use crate::error::Damage;
use crate::window::Window;
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::log::{BATCH_HEADER_BYTES, Batch, BatchHeader, Seed, SegmentHeader};
use pitr_vfs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Stands between two batches of a segment.
#[derive(Debug)]
pub(crate) struct Cursor {
    window: Window,
    header: SegmentHeader,
    seed: Seed,
    /// Begin of the segment.
    begin: Lsn,
    /// Where the next batch should stand.
    at: Lsn,
    /// The batch before `at`; `None` if the walk began in the middle.
    last_batch: Option<Lsn>,
}

/// What stands at a cursor.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A checked batch: its header, and header and body as they stand in the file, without padding.
    Batch(BatchHeader, &'a [u8]),
    /// A batch, or less than the header of one, that goes on behind the limit.
    Crossing,
    /// Nothing that the log could go on with.
    Damage(Damage),
}

impl Cursor {
    /// A cursor before the first batch of a segment.
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, header: SegmentHeader) -> Result<Self> {
        let begin = header.segment_size.start_of(header.segment);
        let (Some(begin), Some(at)) = (begin, header.first_batch()) else {
            return Err(Error::Exhausted { end: header.follows.end, bytes: 0 });
        };
        let last_batch = Some(header.follows.last_batch);
        Ok(Cursor { window: Window::new(file, path), header, seed: header.seed(), begin, at, last_batch })
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn at(&self) -> Lsn {
        self.at
    }

    pub(crate) fn last_batch(&self) -> Option<Lsn> {
        self.last_batch
    }

    /// Offset of the next batch within the segment, bytes.
    pub(crate) fn offset(&self) -> u32 {
        self.offset_of(self.at) as u32 // a segment has at most 1 GiB
    }

    /// Offset of a position of this segment, bytes.
    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        lsn.since(self.begin)
    }

    /// End of the segment; the end of the range for the very last one.
    pub(crate) fn segment_end(&self) -> Lsn {
        self.begin.checked_add(self.header.segment_size.bytes().into()).unwrap_or(Lsn::MAX)
    }

    /// The next batch, up to `limit`. The cursor moves past it if it checks out.
    pub(crate) fn next(&mut self, limit: Lsn) -> Result<Found<'_>> {
        let header = match self.check(limit)? {
            Found::Batch(header, _) => header,
            Found::Crossing => return Ok(Found::Crossing),
            Found::Damage(damage) => return Ok(Found::Damage(damage)),
        };
        let offset = self.at.since(self.begin);
        self.last_batch = Some(self.at);
        self.at = header.end().unwrap_or(Lsn::MAX);
        Ok(Found::Batch(header, self.window.get(offset, len_of(&header), limit.since(self.begin))?))
    }

    fn check(&mut self, limit: Lsn) -> Result<Found<'_>> {
        let (offset, limit_offset) = (self.at.since(self.begin), limit.since(self.begin));
        let head = self.window.get(offset, BATCH_HEADER_BYTES, limit_offset)?;
        let Ok(header) = BatchHeader::decode(head, self.seed) else {
            let crossing = limit_offset.saturating_sub(offset) < BATCH_HEADER_BYTES as u64;
            let damage = if head.iter().all(|byte| *byte == 0) { Damage::Zeros } else { Damage::Bytes };
            return Ok(if crossing { Found::Crossing } else { Found::Damage(damage) });
        };
        if header.lsn != self.at || self.last_batch.is_some_and(|last| last != header.prev) {
            return Ok(Found::Damage(Damage::Misplaced));
        }
        if header.end().is_none_or(|end| end > limit) {
            return Ok(Found::Crossing);
        }
        let bytes = self.window.get(offset, len_of(&header), limit_offset)?;
        let whole = Batch::decode(bytes, self.seed).is_ok();
        Ok(if whole { Found::Batch(header, bytes) } else { Found::Damage(Damage::Bytes) })
    }

    /// Moves to the batch that holds `lsn`, or to the one that begins or would begin there.
    pub(crate) fn seek(&mut self, lsn: Lsn, limit: Lsn) -> Result<()> {
        if self.is_batch(lsn, limit)? {
            self.at = lsn;
            self.last_batch = None;
            return Ok(());
        }
        while self.at < lsn {
            let end = match self.check(limit)? {
                Found::Batch(header, _) => header.end(),
                Found::Crossing | Found::Damage(_) => None,
            };
            match end {
                Some(end) if end <= lsn => (self.last_batch, self.at) = (Some(self.at), end),
                _ => break,
            }
        }
        Ok(())
    }

    /// True if a batch of this life of the segment begins at `lsn`.
    fn is_batch(&mut self, lsn: Lsn, limit: Lsn) -> Result<bool> {
        if lsn <= self.at || lsn >= limit {
            return Ok(false);
        }
        let head = self.window.get(lsn.since(self.begin), BATCH_HEADER_BYTES, limit.since(self.begin))?;
        Ok(BatchHeader::decode(head, self.seed).is_ok_and(|header| header.lsn == lsn))
    }

    /// Bytes of the segment from `offset` on, unchecked.
    pub(crate) fn raw(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        self.window.get(offset, len, self.header.segment_size.bytes().into())
    }

    /// The header of a batch that begins at `offset`, if one of this life of the segment does.
    pub(crate) fn header_in(&self, offset: u64, bytes: &[u8]) -> Option<BatchHeader> {
        let header = BatchHeader::decode(bytes, self.seed).ok()?;
        (header.lsn.since(self.begin) == offset && header.lsn >= self.begin).then_some(header)
    }

    /// Checksum seed of the segment.
    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }
}

fn len_of(header: &BatchHeader) -> usize {
    BATCH_HEADER_BYTES + header.body_len as usize
}
