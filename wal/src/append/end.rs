//! The end of a log, with everything needed to append after it.

use pitr_format::log::{Follows, SegmentHeader};
use pitr_format::{Incarnation, Lsn, SegmentNo, SegmentSize, TimelineId, Timestamp};

/// The end of a log, in its newest segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) timeline: TimelineId,
    pub(crate) log_id: [u8; 16],
    pub(crate) size: SegmentSize,
    pub(crate) segment: SegmentNo,
    pub(crate) incarnation: Incarnation,
    /// Where the next batch begins.
    pub(crate) next: Lsn,
    /// The last batch.
    pub(crate) last_batch: Lsn,
    /// The latest stamped time.
    pub(crate) time: Timestamp,
    /// The last checkpoint record that was begun.
    pub(crate) checkpoint: Option<Lsn>,
}

impl End {
    /// Bytes from the end of the log to the end of its segment.
    pub(crate) fn left_in_segment(&self) -> u64 {
        let begin = self.size.start_of(self.segment).unwrap_or(self.next);
        u64::from(self.size.bytes()).saturating_sub(self.next.since(begin))
    }

    /// Header of the segment that follows this end; `None` at the end of the LSN range. With `gap`,
    /// a segment number is skipped.
    pub(crate) fn next_segment(&self, gap: bool, incarnation: Incarnation) -> Option<SegmentHeader> {
        let segment = self.segment.checked_add(if gap { 2 } else { 1 })?;
        let header = SegmentHeader {
            timeline: self.timeline,
            segment,
            incarnation,
            segment_size: self.size,
            log_id: self.log_id,
            follows: Follows {
                end: self.next,
                segment: Some((self.segment, self.incarnation)),
                last_batch: self.last_batch,
                gap,
            },
            time: self.time,
            checkpoint: self.checkpoint,
            recycled: false,
        };
        // The whole segment must lie within the LSN range.
        self.size.start_of(segment.checked_add(1)?)?;
        Some(header)
    }

    /// The end of a log whose newest segment has this header and no batch.
    pub(crate) fn of_empty(header: &SegmentHeader) -> Option<End> {
        Some(End {
            timeline: header.timeline,
            log_id: header.log_id,
            size: header.segment_size,
            segment: header.segment,
            incarnation: header.incarnation,
            next: header.first_batch()?,
            last_batch: header.follows.last_batch,
            time: header.time,
            checkpoint: header.checkpoint,
        })
    }
}
