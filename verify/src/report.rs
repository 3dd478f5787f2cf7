//! The report of a verification.

use crate::Depth;
use pitr_format::SourceName;
use pitr_snapshot::SnapshotId;

/// Findings of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How much of each object was read; `None` if nothing was.
    pub depth: Option<Depth>,
    /// Number of objects read.
    pub objects: u64,
    /// Bytes that were read of these objects.
    pub bytes: u64,
    /// Number of walked snapshots.
    pub snapshots: u64,
    /// The faults, sorted by object.
    pub faults: Vec<Fault>,
    /// Objects that a running writer may still add, such as the snapshot of new commits. A fault
    /// only if they stay missing.
    pub pending: Vec<String>,
    /// Foreign files. No reader opens them.
    pub strangers: Vec<String>,
}

impl Report {
    /// True if every stored byte was read.
    #[must_use]
    pub fn is_of_every_byte(&self) -> bool {
        matches!(self.depth, Some(Depth::Whole | Depth::Decoded))
    }

    /// True if there is no fault.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An object is damaged or can't be read.
    Damaged,
    /// An object that other objects refer to is missing.
    Missing,
    /// Archived commits can't be restored from any snapshot, and retention does not explain it. A
    /// snapshot was lost, or its writer was killed before it finished.
    Unrestorable,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Path of the object, or of the folder that lacks an object.
    pub object: String,
    /// Description of the fault.
    pub what: String,
    /// Snapshots that can't be restored, completely or in part, because of the fault.
    pub snapshots: Vec<(SourceName, SnapshotId)>,
}

impl Fault {
    pub(crate) fn new(object: &str, what: impl ToString) -> Self {
        // An error begins with its object, and so does a line of the report.
        let what = what.to_string();
        let what = what.strip_prefix(object).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&what);
        let (object, what) = (object.to_owned(), what.to_owned());
        Fault { kind: FaultKind::Damaged, object, what, snapshots: Vec::new() }
    }

    pub(crate) fn missing(object: &str, what: impl ToString) -> Self {
        Fault { kind: FaultKind::Missing, ..Fault::new(object, what) }
    }

    pub(crate) fn unrestorable(object: &str, what: impl ToString) -> Self {
        Fault { kind: FaultKind::Unrestorable, ..Fault::new(object, what) }
    }
}
