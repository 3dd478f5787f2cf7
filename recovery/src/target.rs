//! Recovery targets, and the states that they name.

use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_snapshot::SnapshotId;
use std::fmt;

/// What moment to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The last commit that is archived.
    Latest,
    /// A time: every commit at or before it.
    Time(Timestamp),
    /// A position: every commit at or before it.
    Lsn(Lsn),
    /// A transaction: everything up to its commit.
    Tx(TxId),
    /// The state of a snapshot of this history.
    Snapshot(SnapshotId),
}

/// A moment, and on which side of it to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The moment.
    pub moment: Moment,
    /// Stop just before it: without the commits that stand exactly on it.
    pub exclusive: bool,
}

impl Target {
    /// Including what stands exactly on the moment.
    #[must_use]
    pub fn at(moment: Moment) -> Self {
        Target { moment, exclusive: false }
    }

    /// Without what stands exactly on the moment.
    #[must_use]
    pub fn just_before(moment: Moment) -> Self {
        Target { moment, exclusive: true }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exclusive {
            f.write_str("the state just before ")?;
        }
        match self.moment {
            Moment::Latest => f.write_str("the latest state"),
            Moment::Time(time) => write!(f, "{time}"),
            Moment::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Moment::Tx(tx) => write!(f, "transaction {tx}"),
            Moment::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// A state that can be restored: what a commit made, or what a snapshot found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The timeline.
    pub timeline: TimelineId,
    /// LSN of the commit, or where the snapshot is consistent.
    pub lsn: Lsn,
    /// The last transaction in it; [`TxId::NONE`] if there is none.
    pub tx: TxId,
    /// When the last commit was logged.
    pub time: Timestamp,
    /// The target `tx` names this state. It does not name a snapshot taken after commits that were not captured: that one
    /// bears the last number before them.
    pub named: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { lsn, tx, time, .. } = self;
        match (self.named, *tx) {
            (false, _) => write!(f, "the snapshot at {time} (LSN {lsn})"),
            (true, TxId::NONE) => write!(f, "the state before the first transaction, at {time} (LSN {lsn})"),
            (true, _) => write!(f, "transaction {tx} at {time} (LSN {lsn})"),
        }
    }
}

/// A resolved target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Every commit at or before this position counts, none behind it.
    pub lsn: Lsn,
    /// The state that this is.
    pub reached: Point,
}
