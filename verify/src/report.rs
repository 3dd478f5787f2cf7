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
    /// What stands in the repository and is none of its objects. Nothing of it is read by anybody.
    pub strangers: Vec<String>,
}

impl Report {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
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
        Fault { object: object.to_owned(), what: what.to_owned(), snapshots: Vec::new() }
    }
}
