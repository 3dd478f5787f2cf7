//! The state in memory: the tables, and the pages that no file has yet.

use crate::control::Last;
use crate::error::{Error, Result};
use crate::locks::Locks;
use crate::page::{self, PAGE_BYTES, Page};
use crate::rows::Rows;
use crate::store::TableId;
use pitr_format::TxId;
use pitr_vfs::File;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A page of a table.
pub(crate) type PageId = (TableId, u64);

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: Rows,
    /// Number of pages, with the header.
    pub(crate) pages: u64,
    /// `None` until the first checkpoint after the table was created.
    pub(crate) file: Option<Arc<dyn File>>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) dir: PathBuf,
    pub(crate) tables: BTreeMap<TableId, Table>,
    /// The newest content of each page that changed since it was last written to its file.
    pub(crate) dirty: BTreeMap<PageId, Page>,
    pub(crate) last: Last,
    /// The highest number that a transaction got. A transaction that logs early gets its number
    /// before others that commit before it.
    pub(crate) newest: TxId,
    pub(crate) locks: Locks,
    /// A write or sync failed: memory and disk may differ.
    pub(crate) failed: bool,
}

impl State {
    pub(crate) fn table(&self, table: TableId) -> Result<&Table> {
        self.tables.get(&table).ok_or(Error::NoTable { table })
    }

    /// A page as the last transaction left it.
    pub(crate) fn page(&self, table: TableId, number: u64) -> Result<Page> {
        if let Some(page) = self.dirty.get(&(table, number)) {
            return Ok(Arc::clone(page));
        }
        read(&self.dir, table, self.table(table)?.file.as_deref(), number)
    }

    /// The number of the next transaction.
    pub(crate) fn next_tx(&self) -> Result<TxId> {
        self.newest.next().ok_or(Error::Exhausted { what: "transactions" })
    }

    /// The page and slot of a row.
    pub(crate) fn place(&self, table: TableId, row: u64) -> Result<(Rows, u64, usize)> {
        let rows = self.table(table)?.rows;
        let (page, slot) = rows.place(row).ok_or(Error::RowNumber { table, row })?;
        Ok((rows, page, slot))
    }

    /// Takes over new pages.
    pub(crate) fn apply(&mut self, pages: impl IntoIterator<Item = (PageId, Page)>) {
        for ((table, number), page) in pages {
            if let Some(table) = self.tables.get_mut(&table) {
                table.pages = table.pages.max(number + 1);
            }
            self.dirty.insert((table, number), page);
        }
    }
}

/// A page of a file, checked; zeros after the end of the file.
pub(crate) fn read(dir: &Path, table: TableId, file: Option<&dyn File>, number: u64) -> Result<Page> {
    let mut page = vec![0; PAGE_BYTES];
    let Some(file) = file else { return Ok(page.into()) };
    let path = || dir.join(table.file_name());
    let len = file.read_up_to_at(&mut page, number * PAGE_BYTES as u64);
    let len = len.map_err(|source| Error::Io { op: "read", path: path(), source })?;
    if len > 0 {
        page::check(&page[..len], table.file(), number).map_err(|fault| Error::Damaged {
            path: path(),
            page: number,
            fault,
        })?;
    }
    Ok(page.into())
}
