//! What was found.

use pitr_format::SourceName;
use pitr_snapshot::SnapshotId;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
    /// What is wrong, by object.
    pub faults: Vec<Fault>,
    /// What a writer that is at work may still add: commits that have no snapshot yet. No fault, unless it stays.
    pub pending: Vec<String>,
    /// Files that are none of the repository's objects. No reader opens them.
    pub strangers: Vec<String>,
}

impl Report {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An object is not what was written, or can't be read.
    Damaged,
    /// An object that others prove to have existed is gone.
    Missing,
    /// Commits are archived and no snapshot leads to them. Retention does not explain it: a snapshot was lost, or its writer was
    /// killed before it was finished.
    Unrestorable,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind it is.
    pub kind: FaultKind,
    /// Path of the object, or of the folder in which one is missing.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that can't be restored because of it, wholly or in part.
    pub snapshots: Vec<(SourceName, SnapshotId)>,
}

impl Fault {
    pub(crate) fn new(object: &str, what: impl ToString) -> Self {
        // Errors name their object first; the report does too.
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
