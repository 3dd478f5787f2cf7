//! What the rest of pitr must know of a store.

use crate::control::{self, Control, ControlFile, Last};
use crate::redo::{RestoredPages, RowRedo};
use crate::store::TableId;
use pitr_engine::Engine;
use pitr_format::{FileId, PartitionId};
use pitr_recovery::{
    Error, FilePlace, Finished, FolderLayout, Layout, Redo, RestoreState, RestoreTarget, Result, Unfinished,
};
use std::path::Path;

/// Name of the engine in its snapshots.
pub(crate) const NAME: &str = "reference";

/// The first bytes of a table's file until its restore is complete.
pub(crate) const MARK: &[u8] = b"pitr-reference: unfinished restore\n";

/// The engine of [`Store`](crate::Store)s, to register in a [`pitr_engine::Registry`].
///
/// It needs no `Capture`, because a store logs through `pitr-wal`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceEngine;

impl Engine for ReferenceEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn detect(&self, path: &Path) -> bool {
        path.join(control::NAME).is_file()
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(self)
    }
}

impl RestoreTarget for ReferenceEngine {
    /// A folder with one file for each table.
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        let place = |file: FileId| FilePlace::new(file, TableId::new(file).file_name());
        let files = state.files().into_iter().map(place).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    fn mark(&self) -> Option<&'static [u8]> {
        Some(MARK)
    }

    fn replays(&self, _: PartitionId) -> bool {
        true
    }

    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> Result<Option<Box<dyn Redo + 'a>>> {
        Ok(Some(Box::new(RowRedo::new(RestoredPages::new(unfinished.fs, unfinished.path)))))
    }

    /// States which transaction was reached: the store continues after it, with a new log.
    fn finish(&self, unfinished: &Unfinished<'_>) -> Result<Finished> {
        let reached = unfinished.reached;
        let last = Last { tx: reached.tx, lsn: reached.lsn, time: reached.time };
        ControlFile::create(unfinished.fs, unfinished.path, &Control::restored(last))
            .map_err(|error| Error::engine(error.severity(), error))?;
        Ok(Finished::default())
    }
}
