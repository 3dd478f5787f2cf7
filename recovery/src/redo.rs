//! The replay of logical records in a restore.

use crate::error::{Error, Result};
use crate::layout::Unfinished;
use crate::plan::Plan;
use crate::replay::{Replayed, replay};
use crate::restore::{Phase, Progress, Restorer};
use pitr_archive::Merged;
use pitr_objects::parallel;
use pitr_vfs::Access;
use std::path::{Path, PathBuf};

impl Restorer<'_> {
    /// Refuses logical records of partitions that the engine can't replay (FAILURES 52).
    pub(crate) fn refuse_logical(&self, merged: &Merged) -> Result<()> {
        Ok(merged.logical().refuse(|partition| self.target.replays(partition))?)
    }

    /// Replays the logical records of the log over base and images.
    pub(crate) fn replay(
        &self,
        plan: &Plan,
        merged: &Merged,
        unfinished: &Unfinished<'_>,
    ) -> Result<Replayed> {
        if merged.logical().is_empty() {
            return Ok(Replayed::default());
        }
        let Some(redo) = self.target.redo(unfinished)? else {
            merged.logical().refuse(|_| false)?;
            return Ok(Replayed::default());
        };
        // The number of records is not known before they are read, but their positions are.
        let (from, total) = (plan.redo_from, plan.stop.since(plan.redo_from));
        let tell = |done| (self.progress)(Progress { phase: Phase::Redo, done, total });
        tell(0);
        let (spawn, mut count) = (self.spawn(), 0_u64);
        let replayed = replay(redo.as_ref(), plan.stop, spawn, parallel::threads(spawn), |each| {
            merged.for_each_logical::<Error>(|record| {
                count += 1;
                if count.is_multiple_of(64) {
                    tell(record.lsn.since(from));
                }
                each(record)
            })
        })?;
        tell(total);
        Ok(replayed)
    }

    /// Length of the files of an unfinished result, bytes.
    pub(crate) fn measure(&self, root: &Path, files: &[PathBuf]) -> Result<u64> {
        let length = |path: &PathBuf| {
            let at = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
            let file = self.fs.open(&at, Access::Read).map_err(Error::io("open", &at))?;
            file.len().map_err(Error::io("measure", &at))
        };
        files.iter().map(length).sum()
    }
}
