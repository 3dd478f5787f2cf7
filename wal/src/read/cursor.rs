//! Reads the batches of one segment file, a window at a time.

use super::place::{Found, Place};
use super::window::Window;
use crate::Result;
use pitr_format::Lsn;
use pitr_format::log::{BATCH_HEADER_BYTES, BatchHeader, SegmentHeader};
use pitr_vfs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A [`Place`] in a segment file.
#[derive(Debug)]
pub(crate) struct Cursor {
    window: Window,
    place: Place,
}

impl Cursor {
    /// A cursor before the first batch of a segment.
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, header: SegmentHeader) -> Result<Self> {
        Ok(Cursor { window: Window::new(file, path), place: Place::first(header)? })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        self.place.header()
    }

    pub(crate) fn at(&self) -> Lsn {
        self.place.at()
    }

    /// Offset of the next batch within the segment, bytes.
    pub(crate) fn offset(&self) -> u32 {
        self.place.offset_of(self.at()) as u32 // a segment has at most 1 GiB
    }

    /// The next batch, up to `limit`. The cursor moves past a valid batch.
    pub(crate) fn next(&mut self, limit: Lsn) -> Result<Found<'_>> {
        let (offset, limit_offset) = (self.place.offset_of(self.at()), self.place.offset_of(limit));
        let head = self.window.get(offset, BATCH_HEADER_BYTES, limit_offset)?;
        let header = match self.place.head(head, limit) {
            Ok(header) => header,
            Err(fault) => return Ok(Found::Fault(fault)),
        };
        let bytes = self.window.get(offset, header.bytes_len(), limit_offset)?;
        Ok(self.place.pass(header, bytes))
    }

    /// Moves forward to the batch that starts at `lsn`; false if there is none.
    pub(crate) fn seek_batch(&mut self, lsn: Lsn, limit: Lsn) -> Result<bool> {
        let is_batch = self.is_batch(lsn, limit)?;
        if is_batch {
            self.place.jump(lsn);
        }
        Ok(is_batch)
    }

    /// Moves forward to the batch that contains or starts at `lsn`; at the end of the log, to
    /// `lsn`.
    pub(crate) fn seek(&mut self, lsn: Lsn, limit: Lsn) -> Result<()> {
        if self.seek_batch(lsn, limit)? {
            return Ok(());
        }
        while self.at() < lsn {
            let before = self.place;
            let passed = matches!(self.next(limit)?, Found::Batch(_));
            if !passed || self.at() > lsn {
                self.place = before;
                break;
            }
        }
        Ok(())
    }

    /// True if a batch of the segment's present incarnation starts at `lsn`.
    fn is_batch(&mut self, lsn: Lsn, limit: Lsn) -> Result<bool> {
        if lsn <= self.at() || lsn >= limit {
            return Ok(false);
        }
        let (offset, limit) = (self.place.offset_of(lsn), self.place.offset_of(limit));
        let head = self.window.get(offset, BATCH_HEADER_BYTES, limit)?;
        Ok(BatchHeader::decode(head, self.place.seed()).is_ok_and(|header| header.lsn == lsn))
    }

    /// Bytes of the segment from `offset` on, not verified.
    pub(crate) fn raw(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        self.window.get(offset, len, self.header().segment_size.bytes().into())
    }

    /// The header of the batch of the segment's present incarnation that starts at `offset`, if
    /// there is one.
    pub(crate) fn header_in(&self, offset: u64, bytes: &[u8]) -> Option<BatchHeader> {
        let header = BatchHeader::decode(bytes, self.place.seed()).ok()?;
        let begin = self.header().segment_size.start_of(self.header().segment)?;
        (header.lsn >= begin && self.place.offset_of(header.lsn) == offset).then_some(header)
    }
}
