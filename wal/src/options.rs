//! What a log is made with.

use pitr_format::{Lsn, SegmentSize, TimelineId, Timestamp};

/// Settings of a log. The type of each makes a wrong one impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// Size of every segment file; stays as it is for the life of the timeline.
    pub segment_size: SegmentSize,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions { segment_size: SegmentSize::DEFAULT }
    }
}

/// Where a new log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Timeline that the log belongs to.
    pub timeline: TimelineId,
    /// Where the history ended that this log goes on from: [`Lsn::ORIGIN`], or the fork point. The first
    /// segment is the one after that which holds this position.
    pub follows: Lsn,
    /// No commit is stamped earlier than this.
    pub time: Timestamp,
    /// Random identity of the log: two logs that claim the same timeline are told apart by it.
    pub log_id: [u8; 16],
    /// True if what the source did between `follows` and the new log was not logged.
    pub gap: bool,
}

impl Start {
    /// A log of the first timeline, from the origin of its history on.
    #[must_use]
    pub fn first(log_id: [u8; 16]) -> Self {
        let (timeline, follows, time) = (TimelineId::FIRST, Lsn::ORIGIN, Timestamp::MIN);
        Start { timeline, follows, time, log_id, gap: false }
    }
}
