//! The handle of an open store.

use crate::commit::Transaction;
use crate::control::{ControlFile, Last};
use crate::error::{Error, Result};
use crate::open::Options;
use crate::state::State;
use pitr_format::{FileId, PartitionId, TxId};
use pitr_tracker::Tracker;
use pitr_vfs::Env;
use pitr_wal::{Committed, Wal};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A table of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(FileId);

impl TableId {
    pub(crate) const FIRST: TableId = TableId(FileId::new(1));
    const SUFFIX: &str = ".table";

    pub(crate) fn new(file: FileId) -> Self {
        TableId(file)
    }

    /// The table's file in the log and in snapshots. Its number is also that of its partition.
    #[must_use]
    pub fn file(self) -> FileId {
        self.0
    }

    /// The table's partition in the log.
    pub(crate) fn partition(self) -> PartitionId {
        PartitionId::new(self.0.get())
    }

    /// Name of the table's file in the folder of the store.
    pub(crate) fn file_name(self) -> String {
        format!("{:08}{}", self.0.get(), Self::SUFFIX)
    }

    /// The table whose file has this name.
    pub(crate) fn of_file_name(name: &str) -> Option<Self> {
        let number = name.strip_suffix(Self::SUFFIX)?.parse().ok()?;
        Some(TableId(FileId::new(number))).filter(|table| table.file_name() == name)
    }

    pub(crate) fn next(self) -> Option<Self> {
        self.0.next().map(TableId)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An open store. Share it by reference or in an `Arc`. One process has a store open at a time.
///
/// Dropping it loses nothing that was committed: the next opening replays the log.
#[derive(Debug)]
pub struct Store {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) dirty_pages_max: usize,
    pub(crate) wal: Wal,
    pub(crate) tracker: Tracker,
    pub(crate) epochs: Mutex<pitr_tracker::Store>,
    pub(crate) control: Mutex<ControlFile>,
    pub(crate) state: Mutex<State>,
    /// Transactions begun so far.
    pub(crate) begun: AtomicU64,
}

impl Store {
    /// Opens the store in `dir` on this machine, or creates it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_or_create(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open(&Env::system(), dir.as_ref(), &Options::default())
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Transaction<'_> {
        Transaction::new(self, self.begun.fetch_add(1, Ordering::Relaxed))
    }

    /// A row; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::RowNumber`], [`Error::Damaged`], [`Error::Io`],
    /// [`Error::Failed`].
    pub fn get(&self, table: TableId, row: u64) -> Result<Option<Vec<u8>>> {
        let state = self.state()?;
        let (rows, page, slot) = state.place(table, row)?;
        Ok(rows.get(&state.page(table, page)?, slot).map(<[u8]>::to_vec))
    }

    /// All rows of a table, in order. They are the state of one moment, and are held in memory.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn rows(&self, table: TableId) -> Result<BTreeMap<u64, Vec<u8>>> {
        let state = self.state()?;
        let (rows, pages) = (state.table(table)?.rows, state.table(table)?.pages);
        let mut found = BTreeMap::new();
        for number in 1..pages {
            let page = state.page(table, number)?;
            let slots = (0..rows.per_page()).filter_map(|slot| Some((slot, rows.get(&page, slot)?)));
            found.extend(slots.map(|(slot, row)| (rows.number(number, slot), row.to_vec())));
        }
        Ok(found)
    }

    /// The table of this name.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn table(&self, name: &str) -> Result<Option<TableId>> {
        let state = self.state()?;
        Ok(state.tables.iter().find(|(_, table)| table.name == name).map(|(id, _)| *id))
    }

    /// The tables and their names.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn tables(&self) -> Result<Vec<(TableId, String)>> {
        Ok(self.state()?.tables.iter().map(|(id, table)| (*id, table.name.clone())).collect())
    }

    /// The last commit; `None` before the first one.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn last_commit(&self) -> Result<Option<Committed>> {
        let Last { tx, lsn, time } = self.state()?.last;
        Ok((tx != TxId::NONE).then_some(Committed { tx, lsn, time }))
    }

    /// The log of the store, for an archiver.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The state, unless memory and disk may differ.
    pub(crate) fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        if state.failed { Err(Error::Failed) } else { Ok(state) }
    }

    /// Passes an outcome on. After an error, every later call fails.
    pub(crate) fn or_fail<T, E: Into<Error>>(&self, outcome: Result<T, E>) -> Result<T> {
        outcome.map_err(|error| {
            lock(&self.state).failed = true;
            error.into()
        })
    }
}

/// Takes the lock. A panic under it leaves no half change: changes are prepared before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
