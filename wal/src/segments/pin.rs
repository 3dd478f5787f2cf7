//! Keeps the file of a segment from being overwritten while someone looks at it in place.

use crate::shared::{lock, Shared};
use pitr_format::SegmentNo;
use std::sync::Arc;

/// While it lives, [`crate::Wal::remove_below`] takes the segment's name away and nothing else.
#[derive(Debug)]
pub(crate) struct Pin {
    shared: Arc<Shared>,
    segment: SegmentNo,
}

impl Pin {
    /// `None` if the log no longer holds the segment.
    pub(crate) fn new(shared: &Arc<Shared>, segment: SegmentNo) -> Option<Pin> {
        lock(&shared.segments).pin(segment).then(|| Pin { shared: Arc::clone(shared), segment })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        lock(&self.shared.segments).unpin(self.segment);
    }
}
