//! Which segments the local log holds, and removing the oldest of them.

use crate::commit::{Shared, lock};
use crate::{Error, Result, segment};
use pitr_format::log::SegmentHeader;
use pitr_format::{Lsn, SegmentNo};
use std::collections::VecDeque;

/// The local segments in order; never empty.
#[derive(Debug)]
pub(crate) struct Segments {
    held: VecDeque<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    segment: SegmentNo,
    bytes: u32,
    /// Where the log ended before it: the end of its predecessor.
    follows: Lsn,
    first_batch: Lsn,
}

impl Segments {
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = &'a SegmentHeader>) -> Self {
        let mut segments = Segments { held: VecDeque::new() };
        headers.into_iter().for_each(|header| segments.push(header));
        segments
    }

    pub(crate) fn push(&mut self, header: &SegmentHeader) {
        self.held.push_back(Held {
            segment: header.segment,
            bytes: header.segment_size.bytes(),
            follows: header.follows.end,
            first_batch: header.first_batch().unwrap_or(Lsn::MAX),
        });
    }

    /// Where the first batch of the oldest one stands or would stand.
    pub(crate) fn first(&self) -> Lsn {
        self.held.front().map_or(Lsn::MAX, |held| held.first_batch)
    }

    /// The oldest segment, if it is not the newest too and ends at or below `lsn`.
    fn removable(&self, lsn: Lsn) -> Option<Held> {
        let next = self.held.get(1)?;
        self.held.front().filter(|_| next.follows <= lsn).copied()
    }
}

impl Shared {
    /// See [`crate::Wal::first`].
    pub(crate) fn first(&self) -> Lsn {
        lock(&self.segments).first()
    }

    /// See [`crate::Wal::remove_below`].
    pub(crate) fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        // Segments of a round that is still being written are none of ours, however far `lsn` reaches.
        let lsn = lsn.min(self.queue().durable());
        let mut segments = lock(&self.segments);
        let mut bytes = 0;
        while let Some(oldest) = segments.removable(lsn) {
            let path = segment::path_of(&self.dir, oldest.segment);
            self.fs.remove_file(&path).map_err(Error::io("remove", &path))?;
            segments.held.pop_front();
            // One at a time: if a later one were durably gone while an older one comes back, that would be a
            // hole.
            self.fs.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
            bytes += u64::from(oldest.bytes);
        }
        Ok(bytes)
    }
}
