//! What the rest of pitr must know of a store.

use crate::control::{self, Control, ControlFile, Last};
use crate::error::Error as StoreError;
use crate::page::{self, PAGE_BYTES};
use crate::redo::{RestoredPages, RowRedo};
use crate::store::TableId;
use pitr_engine::Engine;
use pitr_format::{FileId, PartitionId};
use pitr_recovery::{
    ConsistencyCheck, Error, FilePlace, Finding, Finished, FolderLayout, Layout, Redo, RestoreState,
    RestoreTarget, Result, Unfinished,
};
use pitr_vfs::Access;
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

/// The name of a table, from the header page of its file.
fn name_in(state: &RestoreState<'_>, file: FileId) -> Result<Option<String>> {
    let Some(header) = state.block(file, 0, PAGE_BYTES as u32)? else { return Ok(None) };
    let name = page::check(&header, file, 0).and_then(|()| page::decode_header(&header));
    let path = TableId::new(file).file_name().into();
    let damaged = |fault| failed(StoreError::Damaged { path, page: 0, fault });
    name.map(|(name, _)| Some(name)).map_err(damaged)
}

fn failed(error: StoreError) -> Error {
    Error::engine(error.severity(), error)
}

impl ConsistencyCheck for ReferenceEngine {
    /// Checks every page of every table, and that each file is that of a table.
    fn check(&self, result: &Unfinished<'_>) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let io = |op, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { op, path, source }
        };
        for name in result.fs.list(result.path).map_err(io("list", result.path))? {
            let Some(table) = name.to_str().and_then(TableId::of_file_name) else { continue };
            let path = result.path.join(&name);
            let file = result.fs.open(&path, Access::Read).map_err(io("open", &path))?;
            let pages = file.len().map_err(io("measure", &path))?.div_ceil(PAGE_BYTES as u64);
            let mut page = vec![0; PAGE_BYTES];
            for number in 0..pages {
                let offset = number * PAGE_BYTES as u64; // within the file
                let len = file.read_up_to_at(&mut page, offset).map_err(io("read", &path))?;
                let mut checked = page::check(&page[..len], table.file(), number);
                if number == 0 {
                    checked = checked.and_then(|()| page::decode_header(&page).map(drop));
                }
                if let Err(fault) = checked {
                    findings.push(Finding::new(format!("{}: page {number}: {fault}", table.file_name())));
                }
            }
        }
        Ok(findings)
    }
}

impl RestoreTarget for ReferenceEngine {
    /// A folder with one file for each table.
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        let place = |file: FileId| FilePlace::new(file, TableId::new(file).file_name());
        let files = state.files().into_iter().map(place).collect();
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    /// A table is a file. Tables are named by their names, or by the names of their files.
    fn files_of(&self, tables: &[String], state: &RestoreState<'_>) -> Result<Vec<FileId>> {
        let names = state.files().into_iter().map(|file| Ok((file, name_in(state, file)?)));
        let names = names.collect::<Result<Vec<_>>>()?;
        let find = |table: &String| {
            let is_it = |(file, name): &&(FileId, Option<String>)| {
                name.as_ref() == Some(table) || TableId::new(*file).file_name() == *table
            };
            let found = names.iter().find(is_it).map(|(file, _)| *file);
            found.ok_or_else(|| Error::NoSuchTable { table: table.clone() })
        };
        tables.iter().map(find).collect()
    }

    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        Some(self)
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
        ControlFile::create(unfinished.fs, unfinished.path, &Control::restored(last)).map_err(failed)?;
        Ok(Finished::default())
    }
}
