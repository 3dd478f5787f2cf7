//! How segments follow each other. Each states its predecessor, so a missing segment is detected.

use super::segment;
use crate::error::{Damage, Witness};
use crate::{Error, Result};
use pitr_format::log::SegmentHeader;
use pitr_format::{Lsn, SegmentNo};
use std::path::Path;

/// Fails if a segment between the two is missing, or if the later one does not continue the
/// earlier one.
pub(crate) fn check_next(dir: &Path, previous: &SegmentHeader, next: &SegmentHeader) -> Result<()> {
    let step = if next.follows.gap { 2 } else { 1 };
    if Some(next.segment) == previous.segment.checked_add(step) {
        return check_follows(dir, previous, next);
    }
    let missing = previous.segment.checked_add(1).unwrap_or(previous.segment);
    Err(missing_segment(previous, missing, next.follows.end, Witness::Segment(next.segment)))
}

/// The error for a missing segment file.
pub(crate) fn missing_segment(
    previous: &SegmentHeader,
    missing: SegmentNo,
    durable: Lsn,
    witness: Witness,
) -> Error {
    let lsn = previous.segment_size.start_of(missing).unwrap_or(Lsn::MAX);
    Error::Hole { lsn, segment: missing, offset: 0, damage: Damage::FileMissing, durable, witness }
}

/// Fails unless `next` continues the log of `previous`, from the same incarnation.
fn check_follows(dir: &Path, previous: &SegmentHeader, next: &SegmentHeader) -> Result<()> {
    let what = if next.timeline != previous.timeline {
        "timeline"
    } else if next.log_id != previous.log_id {
        "log identity"
    } else if next.segment_size != previous.segment_size {
        "segment size"
    } else if next.follows.segment != Some((previous.segment, previous.incarnation)) {
        "predecessor"
    } else if next.incarnation < previous.incarnation {
        "incarnation"
    } else if !ends_in(previous, next) {
        "predecessor's end"
    } else {
        return Ok(());
    };
    Err(Error::Foreign { path: segment::path_of(dir, next.segment), segment: next.segment, what })
}

/// True if the end that `next` states for its predecessor lies in it.
fn ends_in(previous: &SegmentHeader, next: &SegmentHeader) -> bool {
    let end = previous.segment.checked_add(1).and_then(|after| previous.segment_size.start_of(after));
    previous.first_batch().is_some_and(|first| first <= next.follows.end)
        && end.is_some_and(|end| next.follows.end <= end)
}
