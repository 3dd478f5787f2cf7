//! Answer of `pitr verify`.

use std::fmt::Write as _;

use pitr::verify::FaultKind;
use serde::Serialize;

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
        let _ = writeln!(
            out,
            "{} objects, {} and {} snapshots checked in {}: {}",
            self.checked_objects,
            human::bytes(self.checked_bytes),
            self.snapshots,
            human::seconds(self.seconds),
            if self.ok { "sound".to_owned() } else { format!("{} faults", self.failures.len()) },
        );
        out
    }
}
