//! Transactions: their writes are held in memory, and logged as page images at the commit.

use crate::error::{Error, Result};
use crate::page::{self, NAME_BYTES_MAX, PAGE_BYTES, Page, ROW_BYTES_MAX, Rows};
use crate::state::{PageId, State, Table};
use crate::store::{Store, TableId};
use pitr_format::PartitionId;
use pitr_format::record::Record;
use pitr_tracker::BlockSize;
use pitr_wal::{BatchBuilder, Committed};
use std::collections::BTreeMap;
use std::sync::MutexGuard;

/// A transaction. Dropping it aborts it: nothing of it was written anywhere.
#[derive(Debug)]
#[must_use = "dropping a transaction aborts it"]
pub struct Transaction<'s> {
    store: &'s Store,
    /// The new rows; `None` for a deleted one.
    writes: BTreeMap<(TableId, u64), Option<Vec<u8>>>,
}

impl<'s> Transaction<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Transaction { store, writes: BTreeMap::new() }
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`Error::NoTable`], [`Error::RowNumber`], [`Error::RowBytes`], [`Error::Failed`]. The
    /// transaction is then unchanged.
    pub fn put(&mut self, table: TableId, row: u64, bytes: &[u8]) -> Result<()> {
        let (rows, ..) = self.store.state()?.place(table, row)?;
        let (expected, found) = (rows.row_bytes, bytes.len());
        if found != expected {
            return Err(Error::RowBytes { table, row, expected, found });
        }
        self.writes.insert((table, row), Some(bytes.to_vec()));
        Ok(())
    }

    /// Deletes a row, if there is one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, table: TableId, row: u64) -> Result<()> {
        self.store.state()?.place(table, row)?;
        self.writes.insert((table, row), None);
        Ok(())
    }

    /// A row as this transaction sees it: with its own writes.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get(&self, table: TableId, row: u64) -> Result<Option<Vec<u8>>> {
        match self.writes.get(&(table, row)) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(table, row),
        }
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
        let images = images(&state, self.writes)?;
        store.log(state, images, None)
    }

    /// Aborts. The same as dropping it.
    pub fn abort(self) {}
}

/// The pages that these writes change, with their new content.
fn images(
    state: &State,
    writes: BTreeMap<(TableId, u64), Option<Vec<u8>>>,
) -> Result<BTreeMap<PageId, Page>> {
    let mut pages: BTreeMap<PageId, Vec<u8>> = BTreeMap::new();
    for ((table, row), bytes) in writes {
        let (rows, number, slot) = state.place(table, row)?;
        let page = match pages.entry((table, number)) {
            std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(state.page(table, number)?.to_vec())
            }
        };
        rows.set(page, slot, bytes.as_deref());
    }
    let sealed = |((table, number), page): (PageId, Vec<u8>)| {
        ((table, number), page::seal(page, table.file(), number))
    };
    Ok(pages.into_iter().map(sealed).collect())
}

impl Store {
    /// Creates a table with rows of this size, in a transaction of its own. Durable on return.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::TableExists`], [`Error::Exhausted`]; as [`Transaction::commit`].
    pub fn create_table(&self, name: &str, row_bytes: usize) -> Result<TableId> {
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && (1..=ROW_BYTES_MAX).contains(&row_bytes);
        if !fits {
            return Err(Error::Shape { name: name.to_owned(), row_bytes });
        }
        let state = self.state()?;
        if state.tables.values().any(|table| table.name == name) {
            return Err(Error::TableExists { name: name.to_owned() });
        }
        let id = match state.tables.last_key_value() {
            None => TableId::FIRST,
            Some((last, _)) => last.next().ok_or(Error::Exhausted { what: "tables" })?,
        };
        let table = Table { name: name.to_owned(), rows: Rows { row_bytes }, pages: 1, file: None };
        let header = page::seal(page::header(name, row_bytes), id.file(), 0);
        self.log(state, BTreeMap::from([((id, 0), header)]), Some((id, table)))?;
        Ok(id)
    }

    /// Logs a transaction that leaves these pages, and waits until it is durable.
    ///
    /// The log assigns the position under the lock of the state, so transactions are in the log in
    /// the order in which they changed the pages. Waiting happens outside it: other transactions
    /// join the same sync. They may build on pages that are not durable yet, but then their own
    /// commits come later in the log.
    fn log(
        &self,
        mut state: MutexGuard<'_, State>,
        images: BTreeMap<PageId, Page>,
        new: Option<(TableId, Table)>,
    ) -> Result<Committed> {
        let tx = state.last.tx.next().ok_or(Error::Exhausted { what: "transactions" })?;
        let mut batch = BatchBuilder::new();
        for ((table, block), data) in &images {
            // One partition for each table: a restore can replay tables in parallel.
            let (file, partition) = (table.file(), PartitionId::new(table.file().get()));
            batch.push(partition, tx, &Record::Image { file, block: *block, data })?;
        }
        batch.push_commit(PartitionId::FIRST, tx, Some(self.env.clock.now()), None, b"")?;
        // The pass begins before the records have a position, and ends when they are durable. If it
        // is dropped by an error, the tracker reports everything as changed.
        let pass = self.tracker.enter();
        let ticket = self.wal.submit(batch)?;
        let committed = ticket.appended().commits[0]; // the one commit of the batch
        state.last = committed.into();
        state.tables.extend(new);
        let changed: Vec<PageId> = images.keys().copied().collect();
        state.apply(images);
        drop(state);

        self.or_fail(ticket.wait())?;
        let size = BlockSize::new(PAGE_BYTES as u32)?;
        changed.iter().for_each(|(table, number)| pass.file(table.file(), size).mark(*number));
        pass.done(committed.lsn);
        Ok(committed)
    }
}
