//! Errors of a restore, with their places.

use crate::consistency::{Finding, listed};
use crate::rates::Estimate;
use crate::rto::Rto;
use crate::target::{Point, Stop, Target};
use pitr_archive::{Cause, NamedPoint, PointName};
use pitr_format::{FileId, Lsn, PartitionId, Severity, TimelineId, Timestamp, TxId};
use pitr_snapshot::{BoxError, DamagedRoot};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a state could not be restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] pitr_archive::Error),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] pitr_snapshot::Error),
    /// The target is not a restorable state. Never replaced by another state.
    #[error(transparent)]
    TargetUnreachable(Box<Unreachable>),
    /// The target may be a state that can be reached only from a snapshot with a damaged root.
    /// Never replaced by another state.
    #[error(transparent)]
    Damaged(Box<Damaged>),
    /// No snapshot leads to the target's position, and the log does not begin at its origin. A log
    /// that reaches back to its origin needs no snapshot: replay starts from the empty base.
    #[error("no snapshot leads to LSN {stop}, and the log does not begin at its origin")]
    NoBaseSnapshot {
        /// The stop.
        stop: Lsn,
    },
    /// The output exists, or one of its companions exists.
    #[error("{} exists already; nothing was changed", path.display())]
    Exists {
        /// The existing file or folder.
        path: PathBuf,
    },
    /// Something that was not left by a restore of pitr has the temporary name beside the output.
    #[error("{}: is needed as a temporary name, and no restore of pitr left it there; nothing was changed", path.display())]
    InTheWay {
        /// The file or folder of that name.
        path: PathBuf,
    },
    /// Another restore builds the same output.
    #[error("{}: another restore is building it", path.display())]
    Locked {
        /// The output.
        path: PathBuf,
    },
    /// The output can't be updated in place.
    #[error(
        "{}: cannot be updated in place: it is a link, has several names, or is of another kind than the result; nothing was changed",
        path.display()
    )]
    NotInPlace {
        /// The output.
        path: PathBuf,
    },
    /// A program has the output open, and it was to be updated in place.
    #[error("{}: a program has it open, so it cannot be updated in place; nothing was changed", path.display())]
    InUse {
        /// The output.
        path: PathBuf,
    },
    /// A temporary file was damaged. The disk or the memory may be faulty.
    #[error("{}: bytes of the temporary file changed on the disk", path.display())]
    Spill {
        /// Path at which the file was created.
        path: PathBuf,
    },
    /// A path that can't be the name of a file or folder.
    #[error("{} cannot be the name of a restored file or folder", path.display())]
    Output {
        /// The path.
        path: PathBuf,
    },
    /// The folder of the output does not exist.
    #[error("the output's folder {} does not exist", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The result does not fit on the disk. Nothing was written.
    #[error("the restore needs {needed} bytes in {}, which has {free} bytes free", folder.display())]
    NoRoom {
        /// Bytes of the result.
        needed: u64,
        /// Free bytes of the folder's file system.
        free: u64,
        /// The folder of the output.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// The operation.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// The state has more than one file, and its engine can restore only one.
    #[error("the state holds {files} files; its engine restores a single one")]
    SeveralFiles {
        /// Number of the files.
        files: usize,
    },
    /// An engine's layout leaves the output.
    #[error("the engine's layout names {}, which is not inside the output", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
    },
    /// An engine's layout leaves out a file that the log changes.
    #[error("the engine's layout has no place for file {file}, which the log changes")]
    NotLaidOut {
        /// The file.
        file: FileId,
    },
    /// The engine can't restore single tables.
    #[error("the engine of this source can't restore single tables: its files are restored together")]
    NoTables,
    /// The log has logical records, which can't be replayed for single tables.
    #[error("the log has logical records, so the tables of this state can only be restored together")]
    LogicalTables,
    /// The state has no such table.
    #[error("the state has no table {table}")]
    NoSuchTable {
        /// The table.
        table: String,
    },
    /// The engine has no consistency check of its own.
    #[error("the engine of this source has no consistency check")]
    NoCheck,
    /// The engine's consistency check found faults in the restored state. Nothing was published.
    #[error("the restored state is not consistent, and nothing was published: {}", listed(findings))]
    Inconsistent {
        /// The faults.
        findings: Vec<Finding>,
    },
    /// The recovery takes longer than its objective. With an estimate, nothing was written;
    /// without, the recovery is done and its result is kept.
    #[error("{}", too_late(*expected, *actual, estimate.as_deref()))]
    RtoExceeded {
        /// The objective.
        expected: Rto,
        /// The estimated or the measured time.
        actual: Duration,
        /// The parts of the estimate.
        estimate: Option<Box<Estimate>>,
    },
    /// The engine could not lay out or finish its files.
    #[error("{source}")]
    Engine {
        /// What a caller can do about the error.
        severity: Severity,
        /// The engine's error.
        source: BoxError,
    },
    /// The engine could not apply a logical record. Nothing was published.
    #[error("partition {partition}, the logical record at LSN {lsn}: {source}")]
    Redo {
        /// The partition.
        partition: PartitionId,
        /// Position of the record; for the end of a batch, the position right after its last
        /// record.
        lsn: Lsn,
        /// The engine's error.
        source: BoxError,
    },
    /// The files hold commits that the target does not. Replay can't take them back.
    #[error("the files of partition {partition} are newer (LSN {applied}) than the target (LSN {target})")]
    NewerThanTarget {
        /// The partition.
        partition: PartitionId,
        /// The commits at or below this position are in the files.
        applied: Lsn,
        /// The target.
        target: Lsn,
    },
    /// The log touches a file that the snapshot does not have, or in blocks of another size.
    #[error("the log does not match the snapshot: file {file}")]
    OtherShape {
        /// The file.
        file: FileId,
    },
    /// The name of a new recovery point is in use.
    #[error("there is already a point {name}; nothing was changed")]
    PointExists {
        /// The name.
        name: PointName,
    },
    /// The note of a new recovery point is too long.
    #[error("the note has {bytes} bytes, and a point holds at most {}", NamedPoint::NOTE_BYTES_MAX)]
    NoteTooLong {
        /// Length of the note, bytes.
        bytes: usize,
    },
    /// A prune is running, which may have missed a new recovery point. The point was withdrawn.
    #[error("a prune of this repository is running (lease {lease}); no point was created")]
    Pruning {
        /// The lease of that process.
        lease: String,
    },
    /// The threads could not be started.
    #[error("the worker threads could not be started")]
    Workers(#[source] rayon::ThreadPoolBuildError),
}

/// The target is unreachable. Names the nearest restorable states.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{target} cannot be restored: {why}; {}", nearest(.before.as_ref(), .after.as_ref()))]
pub struct Unreachable {
    /// The target.
    pub target: Target,
    /// Why the target is unreachable.
    pub why: Why,
    /// The nearest restorable state before the target.
    pub before: Option<Point>,
    /// The nearest restorable state after the target.
    pub after: Option<Point>,
}

/// The target may be the state of a snapshot with a damaged root. Names the nearest restorable
/// states.
#[derive(Debug, Clone, Error)]
#[error(
    "{target} cannot be restored: the snapshot that it needs is damaged ({}); {}",
    root.error,
    nearest(.before.as_ref(), .after.as_ref())
)]
pub struct Damaged {
    /// The target.
    pub target: Target,
    /// The snapshot's root, and the fault of the root.
    pub root: Arc<DamagedRoot>,
    /// The nearest restorable state before the target.
    pub before: Option<Point>,
    /// The nearest restorable state after the target.
    pub after: Option<Point>,
}

/// Why a target is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The source has neither a snapshot nor a log from its origin.
    NothingThere,
    /// The target is before the first restorable state.
    BeforeFirst,
    /// The target is after the end of the archive.
    BehindLast,
    /// The target is after the watermark, so commits before it may still be archived.
    NotYetCertain {
        /// The watermark: no later commit has a time before it.
        watermark: Timestamp,
    },
    /// The source has no log: it has no states between its snapshots.
    NoLog,
    /// The target is in a gap of the log.
    WalGap(Cause),
    /// A commit may have happened before the target's time or after it.
    Uncertain {
        /// The transaction.
        tx: TxId,
        /// The earliest time at which the commit may have happened.
        earliest: Timestamp,
        /// Time at which the commit was logged.
        time: Timestamp,
    },
    /// The source's clock showed the time twice.
    ClockSetBack {
        /// First moment of the span.
        from: Timestamp,
        /// Last moment of the span.
        to: Timestamp,
    },
    /// No transaction of this history has the number.
    NoSuchTransaction,
    /// No snapshot of this history has the identity.
    NoSuchSnapshot,
    /// The source has no recovery point of the name.
    NoSuchPoint,
    /// The recovery point is on a timeline that is not part of this history.
    OnTimeline(TimelineId),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NothingThere => f.write_str("nothing can be restored yet"),
            Why::BeforeFirst => f.write_str("it lies before the first state that can be restored"),
            Why::NoLog => {
                f.write_str("the source has no log, so only the states of its snapshots can be restored")
            }
            Why::BehindLast => f.write_str("it lies after the last state that is archived"),
            Why::NotYetCertain { watermark } => write!(f, "the archive is only certain up to {watermark}"),
            Why::WalGap(cause) => write!(f, "it lies in a gap ({cause})"),
            Why::Uncertain { tx, earliest, time } => {
                write!(f, "transaction {tx} happened at some time from {earliest} to {time}")
            }
            Why::ClockSetBack { from, to } => {
                write!(f, "the clock was set back and showed the time from {from} to {to} twice")
            }
            Why::NoSuchTransaction => f.write_str("no such transaction is archived"),
            Why::NoSuchSnapshot => f.write_str("this history has no such snapshot"),
            Why::NoSuchPoint => f.write_str("the source has no such point"),
            Why::OnTimeline(timeline) => {
                write!(f, "it is on timeline {timeline}, which is not part of this history")
            }
        }
    }
}

fn nearest(before: Option<&Point>, after: Option<&Point>) -> String {
    match (before, after) {
        (None, None) => "there is no state to offer instead".to_owned(),
        (Some(point), None) => format!("the nearest state before it is {point}"),
        (None, Some(point)) => format!("the nearest state after it is {point}"),
        (Some(before), Some(after)) => format!("the nearest states are {before} and {after}"),
    }
}

/// The message of [`Error::RtoExceeded`].
fn too_late(expected: Rto, actual: Duration, estimate: Option<&Estimate>) -> String {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let (rto, took) = (seconds(expected.get()), seconds(actual));
    let Some(estimate) = estimate else {
        return format!("the restore took {took}, more than the RTO of {rto}");
    };
    let guess =
        if estimate.is_guess { " (a guess, because no large restore was measured here yet)" } else { "" };
    let next = match estimate.snapshot_interval(expected) {
        Some(interval) => format!("a snapshot every {} or more often would meet it", seconds(interval)),
        None => {
            let base = estimate.base.saturating_add(estimate.finish);
            format!("the snapshot alone takes {}, and the log {}", seconds(base), seconds(estimate.log))
        }
    };
    format!("the restore would take about {took}{guess}, more than the RTO of {rto}; {next}")
}

impl Error {
    /// What a caller can do about the error.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Error::Archive(e) => e.severity(),
            Error::Snapshot(e) => e.kind().severity(),
            Error::Locked { .. } | Error::Pruning { .. } => Severity::Retry,
            Error::OtherShape { .. }
            | Error::Damaged(_)
            | Error::Spill { .. }
            | Error::Inconsistent { .. } => Severity::Fatal,
            Error::Engine { severity, .. } => *severity,
            _ => Severity::Fix,
        }
    }

    /// An error of an engine. The engine states what a caller can do about the error.
    pub fn engine(severity: Severity, source: impl Into<BoxError>) -> Error {
        Error::Engine { severity, source: source.into() }
    }

    pub(crate) fn unreachable(
        target: &Target,
        why: Why,
        (before, after): (Option<Point>, Option<Point>),
    ) -> Error {
        Error::TargetUnreachable(Box::new(Unreachable { target: target.clone(), why, before, after }))
    }

    /// The error for a target that may be the state of a snapshot with a damaged root. `found` is
    /// the answer without that root.
    pub(crate) fn damaged(target: &Target, root: Arc<DamagedRoot>, found: Result<Stop>) -> Error {
        let (before, after) = match found {
            Ok(stop) => (Some(stop.reached), None),
            Err(Error::TargetUnreachable(found)) => (found.before, found.after),
            Err(other) => return other,
        };
        Error::Damaged(Box::new(Damaged { target: target.clone(), root, before, after }))
    }

    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(tx: u64) -> Point {
        let (timeline, lsn, time) = (TimelineId::FIRST, Lsn::new(tx), Timestamp::from_micros(0));
        Point { timeline, lsn, tx: TxId::new(tx), time, named: true }
    }

    #[test]
    fn damage_of_a_snapshot_is_not_mended_by_the_caller() {
        let source = pitr_format::DecodeError::Range { what: "root", value: 0 };
        let damaged = pitr_snapshot::Error::Root { path: "a".to_owned(), source };
        assert_eq!(Error::from(damaged).severity(), Severity::Fatal);
    }

    #[test]
    fn an_unreachable_target_says_why_in_words() {
        let (time, later) = (Timestamp::from_micros(0), Timestamp::from_micros(2_000_000));
        let reasons = [
            (Why::NothingThere, "nothing can be restored yet"),
            (Why::BeforeFirst, "before the first state"),
            (Why::BehindLast, "after the last state"),
            (Why::NotYetCertain { watermark: time }, "only certain up to 1970-01-01T00:00:00"),
            (Why::NoLog, "only the states of its snapshots"),
            (Why::WalGap(Cause::Missing), "it lies in a gap ("),
            (
                Why::Uncertain { tx: TxId::new(7), earliest: time, time: later },
                "transaction 7 happened at some time from 1970-01-01T00:00:00",
            ),
            (Why::ClockSetBack { from: time, to: later }, "showed the time from 1970-01-01T00:00:00"),
            (Why::NoSuchTransaction, "no such transaction is archived"),
            (Why::NoSuchSnapshot, "no such snapshot"),
            (Why::NoSuchPoint, "no such point"),
            (Why::OnTimeline(TimelineId::new(3)), "it is on timeline 3"),
        ];
        for (why, text) in reasons {
            let error = Error::unreachable(&Target::latest(), why, (None, None)).to_string();
            assert!(error.starts_with("the latest state cannot be restored: "), "{error}");
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn an_unreachable_target_names_the_nearest_states() {
        let text = |before: Option<u64>, after: Option<u64>| {
            let nearest = (before.map(point), after.map(point));
            Error::unreachable(&Target::latest(), Why::BehindLast, nearest).to_string()
        };
        assert!(text(None, None).ends_with("there is no state to offer instead"));
        assert!(text(Some(4), None).contains("the nearest state before it is transaction 4 at "));
        assert!(text(None, Some(5)).contains("the nearest state after it is transaction 5 at "));
        let both = text(Some(4), Some(5));
        assert!(both.contains("the nearest states are transaction 4 at "), "{both}");
        assert!(both.contains(" and transaction 5 at "), "{both}");
    }

    #[test]
    fn an_objective_that_is_missed_says_what_would_meet_it() {
        let seconds = Duration::from_secs;
        let (base, log, finish) = (seconds(30), seconds(60), seconds(10));
        let estimate = Estimate { base, log, finish, is_guess: false, covers: Some(seconds(600)) };
        let rto = |length| Rto::new(seconds(length));
        let text = |length, estimate: &Estimate| estimate.within(rto(length)).unwrap_err().to_string();
        assert!(estimate.within(rto(100)).is_ok(), "exactly as long as allowed");
        let found = text(70, &estimate);
        assert_eq!(
            found,
            "the restore would take about 100.0 s, more than the RTO of 70.0 s; \
             a snapshot every 300.0 s or more often would meet it"
        );
        let found = text(40, &Estimate { is_guess: true, ..estimate });
        assert!(found.contains("100.0 s (a guess, because"), "{found}");
        assert!(found.ends_with("the snapshot alone takes 40.0 s, and the log 60.0 s"), "{found}");
    }
}
