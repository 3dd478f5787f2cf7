//! How segments follow each other: each states its predecessor, so a missing one is noticed.

use super::segment;
use crate::error::{Damage, Witness};
use crate::{Error, Result};
use pitr_format::log::SegmentHeader;
use pitr_format::{Lsn, SegmentNo};
use std::path::Path;

/// Errors if a segment between the two is missing, or if the later one isn't the earlier one's successor.
pub(crate) fn check_next(dir: &Path, previous: &SegmentHeader, next: &SegmentHeader) -> Result<()> {
    let step = if next.follows.gap { 2 } else { 1 };
    if Some(next.segment) == previous.segment.checked_add(step) {
        return segment::check_follows(dir, previous, next);
    }
    let missing = previous.segment.checked_add(1).unwrap_or(previous.segment);
    Err(missing_segment(previous, missing, next.follows.end, Witness::Segment(next.segment)))
}

/// The hole where a segment's file should be.
pub(crate) fn missing_segment(
    previous: &SegmentHeader,
    missing: SegmentNo,
    durable: Lsn,
    witness: Witness,
) -> Error {
    let lsn = previous.segment_size.start_of(missing).unwrap_or(Lsn::MAX);
    Error::Hole { lsn, segment: missing, offset: 0, damage: Damage::FileMissing, durable, witness }
}
