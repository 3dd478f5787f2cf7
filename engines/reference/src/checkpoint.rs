//! Checkpoints: changed pages reach the files, and the log below them can go.

use crate::control::Control;
use crate::error::{Error, Result};
use crate::page::{PAGE_BYTES, Page};
use crate::spare;
use crate::state::PageId;
use crate::store::{Store, TableId, lock};
use pitr_vfs::File;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a checkpoint writes: a copy of the state at its begin.
struct Work {
    control: Control,
    pages: BTreeMap<PageId, Page>,
    files: BTreeMap<TableId, Arc<dyn File>>,
    /// The tables whose pages the log can't repair.
    logical: BTreeSet<TableId>,
    has_new_files: bool,
}

impl Store {
    /// Writes the changed pages to the files, and removes the log that is no longer needed.
    /// Transactions go on while the pages are written.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Log`]. After a failed write or sync every later call gets
    /// [`Error::Failed`]: a sync that succeeds later would prove nothing (FAILURES 18).
    pub fn checkpoint(&self) -> Result<()> {
        let mut control = lock(&self.control); // one checkpoint at a time
        let work = self.begin_checkpoint();
        let work = self.or_fail(work)?;
        let written = self.write_pages(&work).and_then(|()| control.write(&work.control));
        self.or_fail(written)?;
        // A page that changed again stays. Until here every written page was in memory too, so
        // nothing read a page from a file while it was written.
        let is_written = |id: &PageId, page: &Page| work.pages.get(id).is_some_and(|w| Arc::ptr_eq(w, page));
        self.state()?.dirty.retain(|id, page| !is_written(id, page));
        self.wal.remove_below(work.control.redo_from)?;
        Ok(())
    }

    fn begin_checkpoint(&self) -> Result<Work> {
        let mut state = self.state()?;
        // No page reaches a file before its transaction is durable. Every commit is submitted under
        // the lock of the state, so at this position only transactions are open that logged early.
        // Their records are needed once they commit.
        let durable = self.wal.sync()?;
        let redo_from = state.locks.first_or(durable);
        let control = Control { redo_from, last: state.last, newest: state.newest, is_restored: false };
        let (pages, mut files, mut has_new_files) = (state.dirty.clone(), BTreeMap::new(), false);
        let logical = state.tables.iter().filter(|(_, table)| table.rows.is_logical()).map(|(id, _)| *id);
        let logical = logical.collect();
        for (id, table) in &mut state.tables {
            if table.file.is_none() {
                let path = self.dir.join(id.file_name());
                table.file = Some(self.env.fs.create_new(&path).map_err(Error::io("create", &path))?);
                has_new_files = true;
            }
            files.extend(table.file.clone().map(|file| (*id, file)));
        }
        Ok(Work { control, pages, files, logical, has_new_files })
    }

    fn write_pages(&self, work: &Work) -> Result<()> {
        let rows =
            work.pages.iter().filter(|((table, number), _)| *number > 0 && work.logical.contains(table));
        let mut rows = rows.map(|(_, page)| page).peekable();
        if rows.peek().is_some() {
            spare::write(self.env.fs.as_ref(), &self.dir, rows)?;
        }
        for (id, file) in &work.files {
            let mut pages = work.pages.range((*id, 0)..=(*id, u64::MAX)).peekable();
            if pages.peek().is_none() {
                continue;
            }
            let path = self.dir.join(id.file_name());
            for ((_, number), page) in pages {
                file.write_all_at(page, number * PAGE_BYTES as u64).map_err(Error::io("write", &path))?;
            }
            file.sync_all().map_err(Error::io("sync", &path))?;
        }
        if work.has_new_files {
            self.env.fs.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        }
        Ok(())
    }
}
