//! Checks of a restored copy that a caller adds.

use pitr_format::SourceName;
use pitr_recovery::{BoxError, Finding, Point};
use std::path::Path;
use std::time::Duration;

/// A restored copy in a sandbox.
#[derive(Debug, Clone, Copy)]
pub struct RestoredCopy<'a> {
    /// The file or folder.
    pub path: &'a Path,
    /// The source.
    pub source: &'a SourceName,
    /// The restored state.
    pub state: Point,
    /// Time that the check may take.
    pub limit: Duration,
}

/// A check of a restored copy, beyond the engine's own
/// [`ConsistencyCheck`](pitr_recovery::ConsistencyCheck).
///
/// It may change the copy, and leave files beside it: the sandbox is removed. Later probes see the
/// change.
pub trait Probe: Send + Sync {
    /// Name of the check in reports.
    fn name(&self) -> String;

    /// The faults of the copy; none if it is as it should be.
    ///
    /// # Errors
    /// Why the check could not be carried out within the limit. The report has it as a finding.
    fn check(&self, copy: &RestoredCopy<'_>) -> Result<Vec<Finding>, BoxError>;
}
