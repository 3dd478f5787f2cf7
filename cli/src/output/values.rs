//! Values that several answers share.
//!
//! JSON keys are stable: they are never renamed and never change their meaning, but new ones may be
//! added. Times are RFC 3339 with microseconds, in UTC.

use std::fmt;
use std::time::Duration;

use pitr::format::{Lsn, Timestamp, TxId};
use serde::{Serialize, Serializer};

use super::human;

/// A time, printed as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A position in a source's history.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Position {
    pub(crate) lsn: u64,
    pub(crate) tx: u64,
    pub(crate) time: Time,
    /// True if the target `tx:N` restores this state. Otherwise `lsn:N` does.
    #[serde(skip)]
    pub(crate) named: bool,
}

impl Position {
    /// The position of a transaction.
    pub(crate) fn of(lsn: Lsn, tx: TxId, time: Time) -> Self {
        Position { lsn: lsn.get(), tx: tx.get(), time, named: true }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { lsn, tx, time, named } = self;
        match (named, tx) {
            (false, _) => write!(f, "the snapshot of {time} (lsn {lsn}, after tx {tx})"),
            (true, 0) => write!(f, "tx 0 of {time} (lsn {lsn}), before the first transaction"),
            (true, _) => write!(f, "tx {tx} of {time} (lsn {lsn})"),
        }
    }
}

/// Full or incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SnapshotKind {
    Full,
    Incremental,
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotKind::Full => "full",
            SnapshotKind::Incremental => "incremental",
        })
    }
}

/// Seconds of each phase of a command, by name and in the order of the phases.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Phases(pub(crate) Vec<(String, f64)>);

impl Phases {
    /// Phases with their names.
    pub(crate) fn named(times: impl IntoIterator<Item = (&'static str, Duration)>) -> Self {
        Phases(times.into_iter().map(|(name, time)| (name.to_owned(), time.as_secs_f64())).collect())
    }
}

impl Serialize for Phases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, seconds)| (name, seconds)))
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, seconds)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {}", if i > 0 { ", " } else { "" }, human::seconds(*seconds))?;
        }
        Ok(())
    }
}

/// A range in which commits can't be restored, and why. `to` is null while the gap is open.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Gap {
    /// Absent unless `log` lists several sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) from: Position,
    pub(crate) to: Option<Position>,
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(tx: u64) -> Position {
        let time = Time(Timestamp::from_micros(1_795_271_526_000_001));
        Position::of(Lsn::new(tx * 100), TxId::new(tx), time)
    }

    #[test]
    fn a_position_is_named_by_the_target_that_restores_it() {
        // FAILURES 60
        assert!(position(7).to_string().starts_with("tx 7 of "));
        assert!(position(0).to_string().ends_with("before the first transaction"));
        let unnamed = Position { named: false, ..position(7) };
        assert!(unnamed.to_string().contains("(lsn 700, after tx 7)"), "{unnamed}");
    }
}
