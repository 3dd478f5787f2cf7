//! Answer of `pitr verify`.

use std::fmt::Write as _;

use pitr::format::SourceName;
use pitr::verify::{FaultKind, LiveReport};
use serde::Serialize;

use crate::commands::targets;
use crate::output::values::Position;
use crate::output::{Document, human};

/// Answer of `verify`.
#[derive(Debug, Serialize)]
pub(crate) struct Verify {
    pub(crate) ok: bool,
    pub(crate) checked_bytes: u64,
    pub(crate) checked_objects: u64,
    /// Number of snapshots whose trees were checked.
    pub(crate) snapshots: u64,
    pub(crate) failures: Vec<Failure>,
    /// Restores into a sandbox.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rehearsals: Vec<Rehearsal>,
    /// Live databases that were compared with the archive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) live: Vec<Live>,
    /// Objects that a running writer may still add.
    pub(crate) pending: Vec<String>,
    /// Files that are not objects of the repository.
    pub(crate) strangers: Vec<String>,
    pub(crate) seconds: f64,
}

/// Kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FailureKind {
    Damaged,
    /// The object is missing. Other objects prove that it existed.
    Missing,
    /// Archived commits that no snapshot makes restorable.
    Unrestorable,
}

impl From<FaultKind> for FailureKind {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Missing => FailureKind::Missing,
            FaultKind::Unrestorable => FailureKind::Unrestorable,
            _ => FailureKind::Damaged,
        }
    }
}

/// A fault of one object.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) object: String,
    pub(crate) what: String,
    /// The snapshots that it affects.
    pub(crate) snapshots: Vec<Spoiled>,
}

/// A snapshot that can't be restored completely.
#[derive(Debug, Serialize)]
pub(crate) struct Spoiled {
    pub(crate) source: String,
    pub(crate) snapshot_id: String,
}

/// A restore into a sandbox, and what the checks of the copy found.
#[derive(Debug, Serialize)]
pub(crate) struct Rehearsal {
    pub(crate) source: String,
    /// Null if the log alone led to the state.
    pub(crate) snapshot_id: Option<String>,
    pub(crate) timeline: u32,
    pub(crate) state: Position,
    /// Size of the copy.
    pub(crate) bytes: u64,
    /// Bytes compared with the state. Null if only the engine knows what the log writes, or if
    /// nothing was restored.
    pub(crate) compared_bytes: Option<u64>,
    pub(crate) restore_seconds: f64,
    pub(crate) check_seconds: f64,
    pub(crate) findings: Vec<Finding>,
}

/// A finding in a restored copy.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// `restore`, `compare`, `engine`, or a query or command of the user.
    pub(crate) check: String,
    pub(crate) what: String,
}

/// A live database, compared with the archive.
#[derive(Debug, Serialize)]
pub(crate) struct Live {
    pub(crate) source: String,
    pub(crate) ok: bool,
    /// The commit at which they were compared. Null if the archive does not have it.
    pub(crate) state: Option<Position>,
    pub(crate) compared_bytes: u64,
    /// False if the time was over before everything chosen was compared.
    pub(crate) whole: bool,
    /// Number of parts that differ.
    pub(crate) differing: u64,
    /// The first of these, as ranges of bytes in the database.
    pub(crate) ranges: Vec<(u64, u64)>,
}

impl Live {
    pub(crate) fn of(source: &SourceName, report: &LiveReport) -> Self {
        const SHOWN: usize = 100;
        let comparison = &report.comparison;
        let ranges = comparison.differences.iter().take(SHOWN);
        Live {
            source: source.to_string(),
            ok: report.is_sound(),
            state: report.state.as_ref().map(targets::position),
            compared_bytes: comparison.bytes,
            whole: comparison.is_whole,
            differing: comparison.count,
            ranges: ranges.map(|found| (found.range.start, found.range.end)).collect(),
        }
    }

    fn for_people(&self, out: &mut String) {
        let Live { source, state, compared_bytes, whole, differing, ranges, .. } = self;
        let Some(state) = state else {
            let _ = writeln!(out, "{source}: the archive lacks the newest commit of the live database");
            return;
        };
        for (from, to) in ranges {
            let _ = writeln!(out, "{source}: bytes {from} to {to} of the live database differ");
        }
        let part = if *whole { "" } else { ", then the time was over" };
        let size = human::bytes(*compared_bytes);
        let verdict = if *differing == 0 { "equal".to_owned() } else { format!("{differing} differences") };
        let _ = writeln!(out, "{source}: live database compared at {state}: {size}{part}: {verdict}");
    }
}

impl Rehearsal {
    fn for_people(&self, out: &mut String) {
        for Finding { check, what } in &self.findings {
            let _ = writeln!(out, "{}: {check}: {what}", self.source);
        }
        let _ = writeln!(
            out,
            "{}: {} rehearsed: {} restored in {}, checked in {}: {}",
            self.source,
            self.state,
            human::bytes(self.bytes),
            human::seconds(self.restore_seconds),
            human::seconds(self.check_seconds),
            verdict(self.findings.len()),
        );
    }
}

fn verdict(faults: usize) -> String {
    if faults == 0 { "sound".to_owned() } else { format!("{faults} faults") }
}

impl Document for Verify {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for Failure { object, what, snapshots, .. } in &self.failures {
            let _ = writeln!(out, "{object}: {what}");
            for Spoiled { source, snapshot_id } in snapshots {
                let _ = writeln!(out, "    affects snapshot {snapshot_id} of {source}");
            }
        }
        for pending in &self.pending {
            let _ = writeln!(out, "{pending}");
        }
        for stranger in &self.strangers {
            let _ = writeln!(out, "{stranger}: not an object of this repository; ignored");
        }
        self.rehearsals.iter().for_each(|rehearsal| rehearsal.for_people(&mut out));
        self.live.iter().for_each(|live| live.for_people(&mut out));
        if self.checked_objects == 0 && !(self.rehearsals.is_empty() && self.live.is_empty()) {
            return out;
        }
        let _ = writeln!(
            out,
            "{} objects, {} and {} snapshots checked in {}: {}",
            self.checked_objects,
            human::bytes(self.checked_bytes),
            self.snapshots,
            human::seconds(self.seconds),
            verdict(self.failures.len()),
        );
        out
    }
}
