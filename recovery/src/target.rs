//! Recovery targets, and restorable states.

use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_snapshot::SnapshotId;
use std::fmt;

/// The moment to recover to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The last archived commit.
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

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Moment::Time(time)
    }
}

impl From<Lsn> for Moment {
    fn from(lsn: Lsn) -> Self {
        Moment::Lsn(lsn)
    }
}

impl From<TxId> for Moment {
    fn from(tx: TxId) -> Self {
        Moment::Tx(tx)
    }
}

impl From<SnapshotId> for Moment {
    fn from(id: SnapshotId) -> Self {
        Moment::Snapshot(id)
    }
}

/// A moment, including or excluding the commits exactly at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The moment.
    pub moment: Moment,
    /// Stops just before the target: excludes commits exactly at it.
    pub exclusive: bool,
}

impl Target {
    /// The last archived commit.
    #[must_use]
    pub fn latest() -> Self {
        Target::at(Moment::Latest)
    }

    /// Includes the commits exactly at the moment: a time, a position, a transaction or a snapshot.
    ///
    /// ```
    /// use pitr_format::TxId;
    /// use pitr_recovery::{Moment, Target};
    ///
    /// assert_eq!(Target::at(TxId::new(7)).moment, Moment::Tx(TxId::new(7)));
    /// assert!(Target::just_before(TxId::new(7)).exclusive);
    /// ```
    #[must_use]
    pub fn at(moment: impl Into<Moment>) -> Self {
        Target { moment: moment.into(), exclusive: false }
    }

    /// Excludes the commits exactly at the moment.
    #[must_use]
    pub fn just_before(moment: impl Into<Moment>) -> Self {
        Target { moment: moment.into(), exclusive: true }
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
