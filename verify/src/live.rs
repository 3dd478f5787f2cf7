//! Comparison of a live source with the archive: it finds what capture missed, which no hash of
//! captured data can.

use crate::Result;
use pitr_format::Lsn;
use pitr_recovery::{BoxError, CompareOptions, Comparison, History, Point, Restorer, Target};
use pitr_vfs::{Env, File};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// An engine whose live sources can be read as of one commit, while applications write.
pub trait Live: Debug + Send + Sync {
    /// Pins the source at its newest commit.
    ///
    /// Not in a process that has the source open itself, as a watcher does: closing a file may drop
    /// the locks of this process on it (FAILURES 38).
    ///
    /// # Errors
    /// Errors of the source.
    fn pin(&self, env: &Env, path: &Path) -> Result<Box<dyn PinnedSource>, BoxError>;
}

/// A live source at one commit. Applications go on; what they write is not seen.
pub trait PinnedSource: Send + Sync {
    /// The position of the pinned commit in the archive; `None` if the archive does not have it, or
    /// if it can't be told which commit it is. `before` is the newest commit that the archive had
    /// when it was complete for the last time before the source was pinned.
    ///
    /// # Errors
    /// Errors of reading the archive.
    fn find(&self, history: &History, before: Option<Lsn>) -> Result<Option<Lsn>, BoxError>;

    /// A file of the pinned state, by its path below the source; empty for a source of one file.
    ///
    /// # Errors
    /// Errors of opening it.
    fn open(&self, path: &Path) -> std::io::Result<Option<Arc<dyn File>>>;
}

/// The outcome of a comparison of a live source with the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveReport {
    /// The compared state; `None` if the archive does not have the commit that was pinned.
    pub state: Option<Point>,
    /// The comparison.
    pub comparison: Comparison,
}

impl LiveReport {
    /// True if the archive has the commit, and nothing differs.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.state.is_some() && self.comparison.count == 0
    }
}

/// Compares a pinned source with the archive's state at the same commit. `None` if they can't be
/// compared, because the log has logical records.
///
/// # Errors
/// Errors of the source and of the repository.
pub fn compare_live(
    restorer: &Restorer<'_>,
    pinned: &dyn PinnedSource,
    lsn: Lsn,
    options: CompareOptions<'_>,
) -> Result<Option<LiveReport>> {
    let plan = restorer.history.plan_for(&Target::at(lsn))?;
    let open = |path: &Path| {
        pinned.open(path).map_err(|source| pitr_recovery::Error::Io {
            op: "open",
            path: path.to_owned(),
            source,
        })
    };
    let comparison = restorer.compare_with(&plan, options, &open)?;
    Ok(comparison.map(|comparison| LiveReport { state: Some(plan.reached), comparison }))
}
