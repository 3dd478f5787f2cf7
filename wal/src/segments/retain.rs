//! The list of local segments, and the removal of the oldest ones.
//!
//! Files of removed segments are kept for new segments: as many as were begun since the last
//! removal, but at most [`FREE_MAX`]. A recycled file is overwritten in place: no zeros are written
//! first, and the file system allocates and journals nothing. If no file is left, the log's own
//! thread prepares one while the previous segment is written. A pinned file ([`super::pin`]) is
//! deleted instead of recycled, since its bytes must not change.
//!
//! A segment leaves the list as soon as its name is removed, since readers can't find it any more.
//! Its file is free, and the next segment may be removed, only after the folder is synced: until
//! then a power loss may restore the name.

use super::segment;
use super::slot_table::Slots;
use crate::shared::{Shared, lock};
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
    /// Set while a name was removed and the folder is not synced.
    leaving: Option<Leaving>,
    /// Number of segments begun since the last removal.
    begun: usize,
    /// Segments that are read in place, once for each pin.
    pinned: Vec<SegmentNo>,
}

/// A file for a new segment.
#[derive(Debug)]
pub(crate) struct Free {
    pub(crate) path: PathBuf,
    /// True if the file was a segment before, false if it holds zeros.
    pub(crate) used: bool,
}

/// A segment whose name was removed.
#[derive(Debug)]
struct Leaving {
    /// The segment's file, if it is kept.
    kept: Option<Free>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    segment: SegmentNo,
    bytes: u32,
    /// End of the predecessor of the list's first segment.
    follows: Lsn,
    first_batch: Lsn,
}

impl Segments {
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = &'a SegmentHeader>, slots: Slots) -> Self {
        let (held, free, pinned) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut segments = Segments { slots, held, free, leaving: None, begun: 0, pinned };
        headers.into_iter().for_each(|header| segments.push(header));
        // Segments that a slot held are missing only if their files were deleted from outside.
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

    /// Position of the first batch of the oldest segment, whether or not it is written.
    pub(crate) fn first(&self) -> Lsn {
        self.held.front().map_or(Lsn::MAX, |held| held.first_batch)
    }

    /// End of the predecessor of the oldest segment.
    pub(crate) fn follows(&self) -> Lsn {
        self.held.front().map_or(Lsn::MAX, |held| held.follows)
    }

    /// Number of segments.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Excludes the segment's file from recycling. False if the segment is no longer in the list.
    pub(crate) fn pin(&mut self, segment: SegmentNo) -> bool {
        let held = self.held.iter().any(|held| held.segment == segment);
        if held {
            self.pinned.push(segment);
        }
        held
    }

    /// Removes one pin.
    pub(crate) fn unpin(&mut self, segment: SegmentNo) {
        if let Some(at) = self.pinned.iter().position(|pinned| *pinned == segment) {
            self.pinned.swap_remove(at);
        }
    }

    /// A file for a new segment.
    pub(crate) fn take_free(&mut self) -> Option<Free> {
        self.free.pop()
    }

    /// End of the segments that may be removed below `lsn`.
    fn removable_to(&self, lsn: Lsn) -> Option<Lsn> {
        self.held.iter().skip(1).map(|next| next.follows).take_while(|end| *end <= lsn).last()
    }

    /// The oldest segment, if it is not also the newest and ends at or below `lsn`.
    fn removable(&self, lsn: Lsn) -> Option<Held> {
        let next = self.held.get(1)?;
        self.held.front().filter(|_| next.follows <= lsn).copied()
    }
}

impl Shared {
    /// See [`crate::Wal::remove_below`].
    pub(crate) fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        // Never touch segments of a round that is still being written, even if `lsn` lies above
        // them.
        let lsn = lsn.min(self.queue().durable());
        let mut segments = lock(&self.segments);
        segments.slots.state_redo(lsn);
        self.remove_unneeded(&mut segments)
    }

    /// Removes segments over the cap, after a segment was begun and all earlier ones are durable.
    /// No caller asked for the removal, so its errors are ignored: the next removal finishes the
    /// work.
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
        segments.slots.store_before_removal(self.env.fs.as_ref(), end)?;
        let wanted = std::mem::take(&mut segments.begun).min(FREE_MAX);
        // One segment at a time. If the name of an older segment came back after the removal of a
        // later one became durable, the log would have a hole.
        while let Some(oldest) = segments.removable(lsn) {
            let keep = segments.free.len() < wanted && !segments.pinned.contains(&oldest.segment);
            let kept = keep
                .then(|| segment::set_free(self.env.fs.as_ref(), &self.dir, oldest.segment))
                .transpose()?;
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

    /// Prepares the file of the next segment, if there is none. Ignores errors such as a full disk:
    /// beginning that segment will report them, if it is ever needed.
    pub(crate) fn prepare_spare(&self) {
        let bytes = {
            let segments = lock(&self.segments);
            segments.held.back().filter(|_| segments.free.is_empty()).map(|newest| newest.bytes)
        };
        let Some(bytes) = bytes else { return };
        if let Ok(path) = segment::create_spare(self.env.fs.as_ref(), &self.dir, bytes) {
            lock(&self.segments).free.push(Free { path, used: false });
        }
    }

    /// Makes the removal of a name durable. An earlier call may have failed to do so.
    fn settle(&self, segments: &mut Segments) -> Result<()> {
        if segments.leaving.is_some() {
            self.sync_names()?;
            segments.free.extend(segments.leaving.take().and_then(|leaving| leaving.kept));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.env.fs.remove_file(path).map_err(Error::io("remove", path))
    }

    fn sync_names(&self) -> Result<()> {
        self.env.fs.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }
}
