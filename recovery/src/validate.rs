//! Validation: proves that the log of a plan can be replayed, and writes nothing.
//!
//! It reads the index of every log object of the plan, as a restore does, and then each of these
//! objects whole. It checks every byte by its hash, decodes every frame, batch and record, and
//! compares the index with the records. Of the snapshot it reads the manifest: `pitr verify`
//! checks the chunks.

use crate::error::Result;
use crate::plan::Plan;
use crate::restore::{Phase, Progress, Restorer};
use crate::stats::{Phases, RecoveryStats, Watch};
use pitr_archive::Merged;
use pitr_objects::parallel;
use std::num::NonZeroUsize;

impl Restorer<'_> {
    /// Checks the log of a plan, and the manifest of its snapshot, with this number of threads; as
    /// many as there are cores if not set. Writes nothing. Memory: one log object for each thread.
    ///
    /// # Errors
    /// The first fault found, of the archive or of the snapshot;
    /// [`pitr_archive::Error::WalGap`] in [`Error::Archive`](crate::Error::Archive) if log is
    /// missing.
    pub fn validate(&self, plan: &Plan, workers: Option<NonZeroUsize>) -> Result<RecoveryStats> {
        self.on_workers(workers, || self.check_log(plan))
    }

    fn check_log(&self, plan: &Plan) -> Result<RecoveryStats> {
        let (mut watch, mut phases) = (Watch::start(self.clock), Phases::default());
        let total = plan.pieces.len() as u64;
        (self.progress)(Progress { phase: Phase::Index, done: 0, total });
        self.base(plan)?;
        let archive = self.history.archive();
        let merged = Merged::with_logical(archive, &plan.pieces, plan.redo_from, plan.stop)?;
        phases.index = watch.lap();
        let tick = self.ticker(Phase::Log, total);
        archive.check_range(self.history.pieces(), plan.redo_from, plan.stop, &tick)?;
        phases.log = watch.lap();
        Ok(RecoveryStats { phases, ..RecoveryStats::of(plan, &merged, parallel::threads(self.spawn())) })
    }
}
