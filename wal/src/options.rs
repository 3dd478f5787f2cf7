//! What a log is made with, and what it is opened with.

use crate::{Error, Result};
use pitr_format::{Lsn, SegmentSize, TimelineId, Timestamp};
use std::time::Duration;

/// When a [`commit`](crate::Wal::commit) returns.
///
/// Whatever is chosen, [`Wal::sync`](crate::Wal::sync) and a ticket that is waited for return when the disk has the
/// records, the end of a segment is synced, and nobody is shown what isn't durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// When it is durable. Those that come while the disk is busy share the next sync.
    #[default]
    Each,
    /// When it is durable; whoever is to sync waits this long for others to join. For disks on which a sync costs far
    /// more than the wait.
    Within(Duration),
    /// When it has its place. The log's own thread syncs this often: so much may be lost, with power or with the
    /// process.
    Periodic(Duration),
    /// When it has its place. The log's own thread hands the bytes to the operating system at least ten times a second,
    /// and syncs only where a segment ends.
    Never,
}

impl SyncPolicy {
    /// True if a commit returns when it is durable.
    #[must_use]
    pub fn is_durable(self) -> bool {
        matches!(self, SyncPolicy::Each | SyncPolicy::Within(_))
    }
}

/// Settings of an open log. None of them is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// When a commit returns.
    pub sync: SyncPolicy,
    /// True for a thread of the log's own, which writes what waits while others go on appending, makes the next
    /// segment's file before it is needed, and syncs for tickets that are polled. Without it everything is done by the
    /// threads that call.
    pub background: bool,
    /// Most segment files, at least 2. Where slots keep more, they are dropped ([`Event`](crate::Event)); the engine's
    /// redo point never gives way. `None` for as many as are needed.
    pub segments_max: Option<u32>,
    /// Bytes that may wait to be written before an append waits too, at least 1. As many may be on their way to the disk: with one
    /// builder for each appending thread, and what one append brings at once, this bounds what the log holds in memory. More of it
    /// lets appends go on for longer while the disk is busy.
    pub waiting_bytes_max: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            sync: SyncPolicy::Each,
            background: true,
            segments_max: None,
            waiting_bytes_max: 8 << 20,
        }
    }
}

impl WalOptions {
    /// [`Error::Options`] if these settings can't be had together.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what| Err(Error::Options { what });
        match self.sync {
            SyncPolicy::Within(Duration::ZERO) => refuse("a delay of zero: use `Each`"),
            SyncPolicy::Periodic(Duration::ZERO) => refuse("a period of zero: use `Each`"),
            SyncPolicy::Periodic(_) | SyncPolicy::Never if !self.background => {
                refuse("commits that nobody waits for need the log's own thread: set `background`")
            }
            _ if self.waiting_bytes_max == 0 => refuse("no bytes that may wait: an append could never go on"),
            _ if self.segments_max.is_some_and(|max| max < 2) => {
                refuse("a cap below 2 segments: one is written while another is sealed")
            }
            _ => Ok(()),
        }
    }
}

/// Where a new log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Timeline that the log belongs to.
    pub timeline: TimelineId,
    /// Size of every segment file; stays as it is for the life of the timeline.
    pub segment_size: SegmentSize,
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
    /// A log of the first timeline, from the origin of its history on, in segments of the default size.
    #[must_use]
    pub fn first(log_id: [u8; 16]) -> Self {
        let (timeline, follows, time) = (TimelineId::FIRST, Lsn::ORIGIN, Timestamp::MIN);
        Start { timeline, segment_size: SegmentSize::DEFAULT, follows, time, log_id, gap: false }
    }
}
