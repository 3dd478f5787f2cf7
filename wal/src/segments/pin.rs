//! Protects the file of a segment from being overwritten while it is read in place.

use crate::shared::{Shared, lock};
use pitr_format::SegmentNo;
use std::sync::Arc;

/// As long as the pin lives, [`crate::Wal::remove_below`] removes only the segment's name and never
/// recycles its file.
#[derive(Debug)]
pub(crate) struct Pin {
    shared: Arc<Shared>,
    segment: SegmentNo,
}

impl Pin {
    /// `None` if the segment was removed from the log.
    pub(crate) fn new(shared: &Arc<Shared>, segment: SegmentNo) -> Option<Pin> {
        lock(&shared.segments).pin(segment).then(|| Pin { shared: Arc::clone(shared), segment })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        lock(&self.shared.segments).unpin(self.segment);
    }
}
