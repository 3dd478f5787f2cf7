//! Which segments the local log holds, and removing the oldest of them.
//!
//! Files of removed segments are kept for new ones: as many as were begun since the last removal, since that is
//! what the next ones will need, but at most [`FREE_MAX`]. A recycled file is written in place: no zeros before, and
//! nothing for the file system to allocate or journal. Where none is left, the log's own thread makes one ready while
//! the segment before is written. The file of a segment that somebody looks at in place ([`super::pin`]) is removed
//! instead: its bytes must stand still.
//!
//! A segment is out of the list as soon as its name is gone, since a reader can't find it any more. But its file is
//! free, and the next one may go, only when the folder is synced: until then a power loss may bring the name back.

use super::segment;
use super::slot_table::Slots;
use crate::shared::{lock, Shared};
use crate::{Error, Result};
use pitr_format::log::SegmentHeader;
use pitr_format::{Lsn, SegmentNo};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Most files kept for new segments.
const FREE_MAX: usize = 16;

/// The local segments in order; never empty.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) slots: Slots,
    held: VecDeque<Held>,
    /// Files for new segments.
    free: Vec<Free>,
    /// Set while the folder is not synced since a name was taken away.
    leaving: Option<Leaving>,
    /// Segments begun since the last removal.
    begun: usize,
    /// Those that are looked at in place, once for each who does.
    pinned: Vec<SegmentNo>,
}

/// A file that will be a segment.
#[derive(Debug)]
pub(crate) struct Free {
    pub(crate) path: PathBuf,
    /// True if it was a segment before, false if it holds zeros.
    pub(crate) used: bool,
}

/// A segment without its name.
#[derive(Debug)]
struct Leaving {
    /// Its file, if that is kept.
    kept: Option<Free>,
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
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = &'a SegmentHeader>, slots: Slots) -> Self {
        let (held, free, pinned) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut segments = Segments { slots, held, free, leaving: None, begun: 0, pinned };
        headers.into_iter().for_each(|header| segments.push(header));
        // Segments that a slot held can be gone only if somebody deleted their files.
        segments.slots.drop_below(segments.follows());
        segments
    }

    pub(crate) fn push(&mut self, header: &SegmentHeader) {
        self.begun += 1;
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

    /// Where the log ended before the oldest one.
    pub(crate) fn follows(&self) -> Lsn {
        self.held.front().map_or(Lsn::MAX, |held| held.follows)
    }

    /// Segments held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Its file is not recycled from here on. False if the segment is no longer held.
    pub(crate) fn pin(&mut self, segment: SegmentNo) -> bool {
        let held = self.held.iter().any(|held| held.segment == segment);
        if held {
            self.pinned.push(segment);
        }
        held
    }

    /// Takes one pin back.
    pub(crate) fn unpin(&mut self, segment: SegmentNo) {
        if let Some(at) = self.pinned.iter().position(|pinned| *pinned == segment) {
            self.pinned.swap_remove(at);
        }
    }

    /// A file for a new segment.
    pub(crate) fn take_free(&mut self) -> Option<Free> {
        self.free.pop()
    }

    /// The end of what may go below `lsn`.
    fn removable_to(&self, lsn: Lsn) -> Option<Lsn> {
        self.held.iter().skip(1).map(|next| next.follows).take_while(|end| *end <= lsn).last()
    }

    /// The oldest segment, if it is not the newest too and ends at or below `lsn`.
    fn removable(&self, lsn: Lsn) -> Option<Held> {
        let next = self.held.get(1)?;
        self.held.front().filter(|_| next.follows <= lsn).copied()
    }
}

impl Shared {
    /// See [`crate::Wal::remove_below`].
    pub(crate) fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        // Segments of a round that is still being written are none of ours, however far `lsn` reaches.
        let lsn = lsn.min(self.queue().durable());
        let mut segments = lock(&self.segments);
        segments.slots.state_redo(lsn);
        self.remove_unneeded(&mut segments)
    }

    /// A segment was begun, and those before it are durable: removes what is too much. Nobody asked for it, so a
    /// removal that fails is nobody's error: the next one finishes it.
    pub(crate) fn keep_cap(&self) {
        let mut segments = lock(&self.segments);
        if segments.slots.is_over(segments.len()) {
            let _ = self.remove_unneeded(&mut segments);
        }
    }

    fn remove_unneeded(&self, segments: &mut Segments) -> Result<u64> {
        self.settle(segments)?;
        let Segments { slots, held, .. } = &mut *segments;
        slots.give_way(held.len(), held.iter().skip(1).map(|next| next.follows));
        let (lsn, mut bytes) = (segments.slots.floor(), 0);
        let Some(end) = segments.removable_to(lsn) else { return Ok(bytes) };
        segments.slots.store_before_removal(self.fs.as_ref(), end)?;
        let wanted = std::mem::take(&mut segments.begun).min(FREE_MAX);
        // One at a time: if a later one were durably gone while an older one comes back, that would be a hole.
        while let Some(oldest) = segments.removable(lsn) {
            let keep = segments.free.len() < wanted && !segments.pinned.contains(&oldest.segment);
            let kept =
                keep.then(|| segment::set_free(self.fs.as_ref(), &self.dir, oldest.segment)).transpose()?;
            let kept = kept.map(|path| Free { path, used: true });
            if kept.is_none() {
                self.remove(&segment::path_of(&self.dir, oldest.segment))?;
            }
            segments.held.pop_front();
            segments.leaving = Some(Leaving { kept });
            self.settle(segments)?;
            bytes += u64::from(oldest.bytes);
        }
        let wanted = wanted.min(segments.slots.files_left(segments.len()));
        while segments.free.len() > wanted {
            let Some(free) = segments.take_free() else { break };
            self.remove(&free.path)?;
            self.sync_names()?;
        }
        Ok(bytes)
    }

    /// Makes the file of the next segment ready, if there is none. The disk may be full: then the segment's turn will
    /// tell, which may never come.
    pub(crate) fn prepare_spare(&self) {
        let bytes = {
            let segments = lock(&self.segments);
            segments.held.back().filter(|_| segments.free.is_empty()).map(|newest| newest.bytes)
        };
        let Some(bytes) = bytes else { return };
        if let Ok(path) = segment::create_spare(self.fs.as_ref(), &self.dir, bytes) {
            lock(&self.segments).free.push(Free { path, used: false });
        }
    }

    /// Makes durable that a name was taken away, also by a call before that could not.
    fn settle(&self, segments: &mut Segments) -> Result<()> {
        if segments.leaving.is_some() {
            self.sync_names()?;
            segments.free.extend(segments.leaving.take().and_then(|leaving| leaving.kept));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.fs.remove_file(path).map_err(Error::io("remove", path))
    }

    fn sync_names(&self) -> Result<()> {
        self.fs.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }
}
