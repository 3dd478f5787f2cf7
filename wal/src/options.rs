//! Settings of a log: for creating and for opening it.

use crate::{Error, Result};
use pitr_format::{Lsn, SegmentSize, TimelineId, Timestamp};
use std::time::Duration;

/// When a [`commit`](crate::Wal::commit) returns.
///
/// Under every policy, [`Wal::sync`](crate::Wal::sync) and waiting for a ticket return when the
/// records are on disk, the end of each segment is synced, and readers see only durable records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// When the commit is durable. Commits that arrive while the disk is busy share the next sync.
    #[default]
    Each,
    /// When the commit is durable. The thread that syncs first waits this long for others to join.
    /// For disks on which a sync costs far more than the wait.
    Within(Duration),
    /// When the commit has its position. The log's own thread syncs this often: a crash of the
    /// machine or the process may lose that much.
    Periodic(Duration),
    /// When the commit has its position. The log's own thread writes to the operating system at
    /// least ten times a second, and syncs only where a segment ends.
    Never,
}

impl SyncPolicy {
    /// True if a commit returns only when it is durable.
    #[must_use]
    pub fn is_durable(self) -> bool {
        matches!(self, SyncPolicy::Each | SyncPolicy::Within(_))
    }
}

/// How much is logged before the engine should take a checkpoint
/// ([`Wal::is_checkpoint_due`](crate::Wal::is_checkpoint_due)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointInterval {
    /// This many bytes of log since the last checkpoint: bounds the time of a replay.
    Bytes(u64),
    /// This much time since the last checkpoint or since the log was opened, if anything was
    /// logged.
    Time(Duration),
}

impl Default for CheckpointInterval {
    /// 64 MiB of log.
    fn default() -> Self {
        CheckpointInterval::Bytes(64 << 20)
    }
}

/// Settings of an open log. None of them is stored on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// When a commit returns.
    pub sync: SyncPolicy,
    /// True for a thread of the log's own. It writes waiting records while other threads append,
    /// prepares the next segment's file, and syncs for polled tickets. Without it the calling
    /// threads do all work.
    pub background: bool,
    /// Maximum number of segment files, at least 2. Slots that keep more are dropped
    /// ([`Event`](crate::Event)), but never the engine's redo point. `None` for no maximum.
    pub segments_max: Option<u32>,
    /// Maximum number of bytes that wait to be written before an append waits too, at least 1. The
    /// same number may be in flight to the disk. With one builder for each appending thread, and
    /// the size of one append, this bounds the log's memory. A higher value lets appends continue
    /// longer while the disk is busy.
    pub waiting_bytes_max: usize,
    /// When [`Wal::is_checkpoint_due`](crate::Wal::is_checkpoint_due) asks for a checkpoint. The
    /// log takes none by itself. Not zero.
    pub checkpoint_interval: CheckpointInterval,
    /// Number of newest checkpoints whose log is kept, at least 1. A higher value keeps more log,
    /// and lets a local recovery go back further.
    pub checkpoints_kept: u32,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            sync: SyncPolicy::Each,
            background: true,
            segments_max: None,
            waiting_bytes_max: 8 << 20,
            checkpoint_interval: CheckpointInterval::default(),
            checkpoints_kept: 2,
        }
    }
}

impl WalOptions {
    /// [`Error::Options`] if settings exclude each other.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what| Err(Error::Options { what });
        if self.checkpoints_kept == 0 {
            return refuse("`checkpoints_kept` is 0: the log could not keep its newest checkpoint");
        }
        let never_zero = [CheckpointInterval::Bytes(0), CheckpointInterval::Time(Duration::ZERO)];
        if never_zero.contains(&self.checkpoint_interval) {
            return refuse("`checkpoint_interval` is 0: a checkpoint would always be due");
        }
        match self.sync {
            SyncPolicy::Within(Duration::ZERO) => refuse("a delay of zero: use `Each`"),
            SyncPolicy::Periodic(Duration::ZERO) => refuse("a period of zero: use `Each`"),
            SyncPolicy::Periodic(_) | SyncPolicy::Never if !self.background => {
                refuse("periodic and no syncs need the log's own thread: set `background`")
            }
            _ if self.waiting_bytes_max == 0 => refuse("`waiting_bytes_max` is 0: no append could succeed"),
            _ if self.segments_max.is_some_and(|max| max < 2) => {
                refuse("`segments_max` is below 2: one segment is written while another is sealed")
            }
            _ => Ok(()),
        }
    }
}

/// Start of a new log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Timeline that the log belongs to.
    pub timeline: TimelineId,
    /// Size of every segment file; fixed for the life of the timeline.
    pub segment_size: SegmentSize,
    /// End of the history that this log continues: [`Lsn::ORIGIN`], or the fork point. The first
    /// segment is the one after the segment that contains this position.
    pub follows: Lsn,
    /// No commit gets an earlier time.
    pub time: Timestamp,
    /// Random identity of the log. It distinguishes two logs of the same timeline.
    pub log_id: [u8; 16],
    /// True if the source's changes between `follows` and the new log were not logged.
    pub gap: bool,
}

impl Start {
    /// A log of the first timeline, from the origin, with segments of the default size.
    #[must_use]
    pub fn first(log_id: [u8; 16]) -> Self {
        let (timeline, follows, time) = (TimelineId::FIRST, Lsn::ORIGIN, Timestamp::MIN);
        Start { timeline, segment_size: SegmentSize::DEFAULT, follows, time, log_id, gap: false }
    }
}
