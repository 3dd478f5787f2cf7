//! Transactions: their changes are held in memory. A commit logs images of the changed pages of
//! physical tables, and the changed rows of logical tables.
//!
//! A long transaction logs its rows early, so the records of several transactions interleave in the
//! log. No page has a row before its transaction commits.

use crate::error::{Error, Result};
use crate::locks::Owner;
use crate::page::{self, PAGE_BYTES, Page};
use crate::record;
use crate::rows::{Has, Rows};
use crate::state::{PageId, State, Table};
use crate::store::{Store, TableId, lock};
use pitr_format::record::Record;
use pitr_format::{PartitionId, TxId};
use pitr_tracker::BlockSize;
use pitr_wal::{BatchBuilder, Committed};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;

/// Rows of a transaction that are not logged yet, at which it logs them, bytes.
const UNLOGGED_BYTES: usize = 64 << 10;

/// New rows; `None` for a deleted one.
type NewRows = BTreeMap<(TableId, u64), Option<Vec<u8>>>;

/// A transaction. Dropping it aborts it: none of it reaches a page.
#[derive(Debug)]
#[must_use = "dropping a transaction aborts it"]
pub struct Transaction<'s> {
    store: &'s Store,
    owner: Owner,
    /// New rows of physical tables.
    writes: NewRows,
    /// New rows of logical tables. The transaction has locked them.
    rows: NewRows,
    /// Those that are not in the log yet.
    unlogged: BTreeSet<(TableId, u64)>,
    unlogged_bytes: usize,
}

impl<'s> Transaction<'s> {
    pub(crate) fn new(store: &'s Store, owner: Owner) -> Self {
        let (writes, rows, unlogged) = (NewRows::new(), NewRows::new(), BTreeSet::new());
        Transaction { store, owner, writes, rows, unlogged, unlogged_bytes: 0 }
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::RowNumber`], [`Error::RowBytes`], [`Error::RowTooLong`],
    /// [`Error::Failed`]; in a logical table also [`Error::RowLocked`], and [`Error::Log`] if the
    /// transaction's rows can't be logged. The transaction is then unchanged.
    pub fn put(&mut self, table: TableId, row: u64, bytes: &[u8]) -> Result<()> {
        self.change(table, row, Some(bytes))
    }

    /// Deletes a row, if there is one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, table: TableId, row: u64) -> Result<()> {
        self.change(table, row, None)
    }

    fn change(&mut self, table: TableId, row: u64, bytes: Option<&[u8]>) -> Result<()> {
        let mut state = self.store.state()?;
        let (rows, ..) = state.place(table, row)?;
        if let Some(found) = bytes.map(<[u8]>::len).filter(|len| !rows.fits(*len)) {
            return Err(match rows {
                Rows::Physical(expected) => Error::RowBytes { table, row, expected, found },
                Rows::Logical(bytes_max) => Error::RowTooLong { table, row, bytes_max, found },
            });
        }
        let new = bytes.map(<[u8]>::to_vec);
        if !rows.is_logical() {
            self.writes.insert((table, row), new);
            return Ok(());
        }
        state.locks.take(table, row, self.owner)?;
        drop(state);
        self.rows.insert((table, row), new);
        self.unlogged.insert((table, row));
        self.unlogged_bytes += bytes.map_or(0, <[u8]>::len);
        if self.unlogged_bytes >= UNLOGGED_BYTES { self.flush() } else { Ok(()) }
    }

    /// A row as this transaction sees it: with its own changes.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get(&self, table: TableId, row: u64) -> Result<Option<Vec<u8>>> {
        match self.writes.get(&(table, row)).or_else(|| self.rows.get(&(table, row))) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(table, row),
        }
    }

    /// Logs the rows of logical tables that were changed so far, and goes on. They count if the
    /// transaction commits. Large transactions do this by themselves.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Exhausted`], [`Error::Failed`].
    pub fn flush(&mut self) -> Result<()> {
        if self.unlogged.is_empty() {
            return Ok(());
        }
        let mut state = self.store.state()?;
        let tx = match state.locks.logged(self.owner) {
            Some((tx, _)) => tx,
            None => state.next_tx()?,
        };
        let mut batch = BatchBuilder::new();
        self.push_rows(&state, tx, &mut batch)?;
        let appended = self.store.wal.append(batch)?;
        state.newest = state.newest.max(tx);
        state.locks.set_logged(self.owner, tx, appended.first);
        self.unlogged.clear();
        self.unlogged_bytes = 0;
        Ok(())
    }

    fn push_rows(&self, state: &State, tx: TxId, batch: &mut BatchBuilder) -> Result<()> {
        for (table, row) in &self.unlogged {
            let new = self.rows.get(&(*table, *row)).and_then(Option::as_deref);
            let record = record::encode(state.table(*table)?.rows, *row, new);
            batch.push(table.partition(), tx, &Record::Data(&record))?;
        }
        Ok(())
    }

    /// Commits. Durable on return.
    ///
    /// # Errors
    /// [`Error::Log`] if the log refused the transaction. If writing or syncing the log failed, it
    /// is unknown whether the transaction is durable, and every later call gets
    /// [`Error::Failed`]. Errors of [`Store::get`] and [`Store::checkpoint`].
    pub fn commit(self) -> Result<Committed> {
        let store = self.store;
        if store.state()?.dirty.len() >= store.dirty_pages_max {
            store.checkpoint()?;
        }
        let state = store.state()?;
        let (images, rows) = (changed(&state, &self.writes)?, changed(&state, &self.rows)?);
        let sealed = |((table, number), page): (PageId, Vec<u8>)| {
            ((table, number), page::seal(page, table.file(), number))
        };
        let images = images.into_iter().map(sealed).collect();
        store.log(state, Changes { images, rows, new: None }, Some(&self))
    }

    /// Aborts. The same as dropping it.
    pub fn abort(self) {}
}

impl Drop for Transaction<'_> {
    /// Aborts the transaction, unless it has committed.
    fn drop(&mut self) {
        let mut state = lock(&self.store.state);
        if let Some((tx, first)) = state.locks.logged(self.owner) {
            let mut batch = BatchBuilder::new();
            // Without an abort in the log, the transaction is unfinished: it does not count either.
            let pushed = batch.push_abort(PartitionId::FIRST, tx, Some(first));
            let _ = pushed.and_then(|()| self.store.wal.append(batch));
        }
        state.locks.end(self.owner, self.rows.keys().copied());
    }
}

/// The pages that these rows change, with their new content.
fn changed(state: &State, rows: &NewRows) -> Result<BTreeMap<PageId, Vec<u8>>> {
    let mut pages: BTreeMap<PageId, Vec<u8>> = BTreeMap::new();
    for ((table, row), bytes) in rows {
        let (rows, number, slot) = state.place(*table, *row)?;
        let page = match pages.entry((*table, number)) {
            Entry::Occupied(page) => page.into_mut(),
            Entry::Vacant(new) => new.insert(state.page(*table, number)?.to_vec()),
        };
        rows.set(page, slot, bytes.as_deref());
    }
    Ok(pages)
}

/// What a transaction leaves.
struct Changes {
    /// Pages of physical tables, sealed.
    images: BTreeMap<PageId, Page>,
    /// Pages of logical tables.
    rows: BTreeMap<PageId, Vec<u8>>,
    /// A new table, whose header is among the images.
    new: Option<(TableId, Table)>,
}

impl Store {
    /// Creates a table with rows of this size, in a transaction of its own. Durable on return.
    ///
    /// The log has images of the pages that a transaction changes.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::TableExists`], [`Error::Exhausted`]; as [`Transaction::commit`].
    pub fn create_table(&self, name: &str, row_bytes: usize) -> Result<TableId> {
        let bytes_max = crate::rows::ROW_BYTES_MAX;
        let shape = || Error::Shape { name: name.to_owned(), row_bytes, bytes_max };
        self.create(name, Rows::physical(row_bytes).ok_or_else(shape)?)
    }

    /// Creates a logical table, with rows of up to this size, in a transaction of its own. Durable
    /// on return.
    ///
    /// The log has the rows that a transaction changes, and not their pages. A row that a
    /// transaction changes is locked until it ends.
    ///
    /// # Errors
    /// As [`create_table`](Self::create_table).
    pub fn create_table_of_rows_up_to(&self, name: &str, bytes_max: usize) -> Result<TableId> {
        let (row_bytes, bytes_max) = (bytes_max, crate::rows::LOGICAL_ROW_BYTES_MAX);
        let shape = || Error::Shape { name: name.to_owned(), row_bytes, bytes_max };
        self.create(name, Rows::logical(row_bytes).ok_or_else(shape)?)
    }

    fn create(&self, name: &str, rows: Rows) -> Result<TableId> {
        if !(1..=page::NAME_BYTES_MAX).contains(&name.len()) {
            let (row_bytes, bytes_max) = (rows.bytes_max(), crate::rows::ROW_BYTES_MAX);
            return Err(Error::Shape { name: name.to_owned(), row_bytes, bytes_max });
        }
        let state = self.state()?;
        if state.tables.values().any(|table| table.name == name) {
            return Err(Error::TableExists { name: name.to_owned() });
        }
        let id = match state.tables.last_key_value() {
            None => TableId::FIRST,
            Some((last, _)) => last.next().ok_or(Error::Exhausted { what: "tables" })?,
        };
        let table = Table { name: name.to_owned(), rows, pages: 1, file: None };
        let header = page::seal(page::header(name, rows), id.file(), 0);
        let images = BTreeMap::from([((id, 0), header)]);
        self.log(state, Changes { images, rows: BTreeMap::new(), new: Some((id, table)) }, None)?;
        Ok(id)
    }

    /// Logs a transaction that makes these changes, and waits until it is durable.
    ///
    /// The log assigns the position under the lock of the state, so transactions are in the log in
    /// the order in which they changed the pages. Waiting happens outside it: other transactions
    /// join the same sync. They may build on pages that are not durable yet, but then their own
    /// commits come later in the log.
    fn log(
        &self,
        mut state: MutexGuard<'_, State>,
        changes: Changes,
        of: Option<&Transaction<'_>>,
    ) -> Result<Committed> {
        let logged = of.and_then(|transaction| state.locks.logged(transaction.owner));
        let (tx, first) = match logged {
            Some((tx, first)) => (tx, Some(first)),
            None => (state.next_tx()?, None),
        };
        let Changes { images, rows, new } = changes;
        let mut batch = BatchBuilder::new();
        for ((table, block), data) in &images {
            // One partition for each table: a restore can replay tables in parallel. That of a
            // logical table has rows only, so the image of its header is in the first one.
            let is_header = new.as_ref().is_some_and(|(_, table)| table.rows.is_logical());
            let partition = if is_header { PartitionId::FIRST } else { table.partition() };
            batch.push(partition, tx, &Record::Image { file: table.file(), block: *block, data })?;
        }
        if let Some(transaction) = of {
            transaction.push_rows(&state, tx, &mut batch)?;
        }
        batch.push_commit(PartitionId::FIRST, tx, Some(self.env.clock.now()), first, b"")?;
        // The pass begins before the records have a position, and ends when they are durable. If it
        // is dropped by an error, the tracker reports everything as changed.
        let pass = self.tracker.enter();
        let ticket = self.wal.submit(batch)?;
        let committed = ticket.appended().commits[0]; // the one commit of the batch
        (state.last, state.newest) = (committed.into(), state.newest.max(tx));
        state.tables.extend(new);
        let changed: Vec<PageId> = images.keys().chain(rows.keys()).copied().collect();
        state.apply(images);
        state.apply(rows.into_iter().map(|((table, number), mut page)| {
            Has::up_to(committed.lsn).put(&mut page);
            ((table, number), page::seal(page, table.file(), number))
        }));
        if let Some(transaction) = of {
            state.locks.end(transaction.owner, transaction.rows.keys().copied());
        }
        drop(state);

        self.or_fail(ticket.wait())?;
        let size = BlockSize::new(PAGE_BYTES as u32)?;
        changed.iter().for_each(|(table, number)| pass.file(table.file(), size).mark(*number));
        pass.done(committed.lsn);
        Ok(committed)
    }
}
