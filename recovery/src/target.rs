//! Recovery targets, and restorable states.

use pitr_archive::PointName;
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_snapshot::SnapshotId;
use std::fmt;

/// The moment to recover to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// The last archived commit.
    Latest,
    /// A time: every commit at or before it.
    Timestamp(Timestamp),
    /// A position: every commit at or before it.
    Lsn(Lsn),
    /// A transaction: everything up to its commit.
    Transaction(TxId),
    /// The state of a named recovery point. A point is on one timeline:
    /// [`History::load_for`](crate::History::load_for) takes the history of that timeline.
    RecoveryPoint(PointName),
    /// The state of a snapshot of this history.
    Snapshot(SnapshotId),
}

impl From<Timestamp> for RecoveryTarget {
    fn from(time: Timestamp) -> Self {
        RecoveryTarget::Timestamp(time)
    }
}

impl From<Lsn> for RecoveryTarget {
    fn from(lsn: Lsn) -> Self {
        RecoveryTarget::Lsn(lsn)
    }
}

impl From<TxId> for RecoveryTarget {
    fn from(tx: TxId) -> Self {
        RecoveryTarget::Transaction(tx)
    }
}

impl From<PointName> for RecoveryTarget {
    fn from(name: PointName) -> Self {
        RecoveryTarget::RecoveryPoint(name)
    }
}

impl From<SnapshotId> for RecoveryTarget {
    fn from(id: SnapshotId) -> Self {
        RecoveryTarget::Snapshot(id)
    }
}

/// A moment, including or excluding the commits exactly at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The moment.
    pub moment: RecoveryTarget,
    /// Stops just before the target: excludes commits exactly at it.
    pub exclusive: bool,
}

impl Target {
    /// The last archived commit.
    #[must_use]
    pub fn latest() -> Self {
        Target::at(RecoveryTarget::Latest)
    }

    /// Includes the commits exactly at the moment: a time, a position, a transaction, a recovery
    /// point or a snapshot.
    ///
    /// ```
    /// use pitr_format::TxId;
    /// use pitr_recovery::{RecoveryTarget, Target};
    ///
    /// assert_eq!(Target::at(TxId::new(7)).moment, RecoveryTarget::Transaction(TxId::new(7)));
    /// assert!(Target::just_before(TxId::new(7)).exclusive);
    /// ```
    #[must_use]
    pub fn at(moment: impl Into<RecoveryTarget>) -> Self {
        Target { moment: moment.into(), exclusive: false }
    }

    /// Excludes the commits exactly at the moment.
    #[must_use]
    pub fn just_before(moment: impl Into<RecoveryTarget>) -> Self {
        Target { moment: moment.into(), exclusive: true }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exclusive {
            f.write_str("the state just before ")?;
        }
        match &self.moment {
            RecoveryTarget::Latest => f.write_str("the latest state"),
            RecoveryTarget::Timestamp(time) => write!(f, "{time}"),
            RecoveryTarget::Lsn(lsn) => write!(f, "LSN {lsn}"),
            RecoveryTarget::Transaction(tx) => write!(f, "transaction {tx}"),
            RecoveryTarget::RecoveryPoint(name) => write!(f, "point {name}"),
            RecoveryTarget::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// A restorable state: the result of a commit, or the content of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The timeline.
    pub timeline: TimelineId,
    /// LSN of the commit, or of the snapshot's consistent point.
    pub lsn: Lsn,
    /// The last transaction in the state; [`TxId::NONE`] if it has none.
    pub tx: TxId,
    /// Time at which the last commit was logged.
    pub time: Timestamp,
    /// True if the target `tx` restores this state. A snapshot taken after commits that were not
    /// captured has the number of the last captured transaction, which identifies another state.
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
    /// Every commit at or before this position is included, and none after it.
    pub lsn: Lsn,
    /// The state at this position.
    pub reached: Point,
}
