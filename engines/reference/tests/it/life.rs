//! A store with random transactions, and a model of it.

use pitr_format::{SegmentSize, Timestamp};
use pitr_reference::{Committed, Env, Error, Options, Result, Store, TableId};
use pitr_vfs::sim::{Rng, SimClock, SimFs};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DIR: &str = "/bank";

/// The rows of each table.
pub(crate) type Model = BTreeMap<TableId, BTreeMap<u64, Vec<u8>>>;

pub(crate) fn env(fs: &SimFs) -> Env {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1_000_000)));
    Env::simulated(Arc::new(fs.clone()), clock, 1)
}

pub(crate) fn options() -> Options {
    Options { dirty_pages_max: 20, segment_size: SegmentSize::new(16 << 10).unwrap(), ..Options::default() }
}

pub(crate) fn open(env: &Env, dir: &str) -> Result<Store> {
    Store::open(env, Path::new(dir), &options())
}

/// Everything in a store.
pub(crate) fn contents(store: &Store) -> Result<Model> {
    let tables = store.tables()?;
    tables.into_iter().map(|(table, _)| Ok((table, store.rows(table)?))).collect()
}

/// A store and its states after each commit.
pub(crate) struct Life {
    pub(crate) env: Env,
    pub(crate) store: Arc<Store>,
    pub(crate) rng: Rng,
    pub(crate) model: Model,
    pub(crate) states: BTreeMap<u64, Model>,
    /// True if there are logical tables.
    pub(crate) is_logical: bool,
}

impl Life {
    pub(crate) fn begin(fs: &SimFs, seed: u64) -> Result<Self> {
        let env = env(fs);
        let store = Arc::new(open(&env, DIR)?);
        let states = BTreeMap::from([(0, Model::new())]);
        Ok(Life { env, store, rng: Rng::new(seed), model: Model::new(), states, is_logical: false })
    }

    /// The number of the last commit, and the state after it.
    fn note(&mut self) -> Result<Committed> {
        let last = self.store.last_commit()?.expect("a commit was made");
        self.states.insert(last.tx.get(), self.model.clone());
        Ok(last)
    }

    pub(crate) fn create_table(&mut self, row_bytes: usize) -> Result<Committed> {
        let table = self.store.create_table(&format!("table of {row_bytes}"), row_bytes)?;
        self.model.insert(table, BTreeMap::new());
        self.note()
    }

    /// Creates a logical table.
    pub(crate) fn create_rows_up_to(&mut self, bytes_max: usize) -> Result<Committed> {
        let table = self.store.create_table_of_rows_up_to(&format!("rows up to {bytes_max}"), bytes_max)?;
        self.model.insert(table, BTreeMap::new());
        self.is_logical = true;
        self.note()
    }

    /// The tables, each with the size of its rows, and true if it is logical.
    fn tables(&self) -> Result<Vec<(TableId, usize, bool)>> {
        let shape = |(table, name): (TableId, String)| {
            let (kind, bytes) = name.rsplit_once(' ').unwrap();
            (table, bytes.parse().unwrap(), kind == "rows up to")
        };
        Ok(self.store.tables()?.into_iter().map(shape).collect())
    }

    /// A new row of a table.
    fn row(&mut self, (_, bytes, is_logical): (TableId, usize, bool)) -> Vec<u8> {
        let len = if is_logical { self.rng.below(bytes as u64 + 1) as usize } else { bytes };
        vec![self.rng.draw() as u8; len]
    }

    /// One transaction in any tables. Before it, perhaps an aborted one of the same rows.
    pub(crate) fn commit(&mut self) -> Result<Committed> {
        self.env.clock.sleep(Duration::from_millis(1));
        let (tables, store) = (self.tables()?, Arc::clone(&self.store));
        let mut model = self.model.clone();
        let mut transaction = store.begin();
        let mut aborted = store.begin();
        for _ in 0..=self.rng.below(6) {
            let table = tables[self.rng.below(tables.len() as u64) as usize];
            let (id, row_bytes, is_logical) = table;
            let row = self.rng.below(60);
            if self.rng.once_in(4) {
                transaction.delete(id, row)?;
                model.get_mut(&id).unwrap().remove(&row);
            } else {
                let bytes = self.row(table);
                transaction.put(id, row, &bytes)?;
                model.get_mut(&id).unwrap().insert(row, bytes);
            }
            let refused = aborted.put(id, row, &vec![0xee; row_bytes]);
            assert_eq!(is_logical, matches!(refused, Err(Error::RowLocked { .. })));
            if is_logical {
                aborted.put(id, row + 60, &vec![0xee; row_bytes])?;
            }
            if self.rng.once_in(8) {
                aborted.flush()?;
                transaction.flush()?;
            }
            assert_eq!(transaction.get(id, row)?.as_ref(), model[&id].get(&row));
        }
        if self.rng.once_in(3) {
            aborted.abort();
        } else {
            drop(aborted);
        }
        transaction.commit()?;
        self.model = model;
        self.note()
    }

    /// A transaction that logs its rows early, and others that commit before it. `within` is called
    /// while it is open. True if it commits in the end.
    pub(crate) fn interleave(&mut self, mut within: impl FnMut(&mut Life) -> Result<()>) -> Result<bool> {
        let logical: Vec<_> = self.tables()?.into_iter().filter(|(_, _, is_logical)| *is_logical).collect();
        let store = Arc::clone(&self.store);
        let (mut early, mut changes) = (store.begin(), Vec::new());
        for _ in 0..3 {
            for _ in 0..=self.rng.below(4) {
                let table = logical[self.rng.below(logical.len() as u64) as usize];
                // In the pages of the other transactions, but other rows.
                let (row, bytes) = (120 + self.rng.below(10), self.row(table));
                early.put(table.0, row, &bytes)?;
                changes.push((table.0, row, bytes));
            }
            early.flush()?;
            within(self)?;
        }
        if self.rng.once_in(4) {
            return Ok(false);
        }
        early.commit()?;
        for (table, row, bytes) in changes {
            self.model.get_mut(&table).unwrap().insert(row, bytes);
        }
        self.note()?;
        Ok(true)
    }

    /// Ends the process without a checkpoint, and opens the store again.
    pub(crate) fn reopen(self) -> Result<Self> {
        let Life { env, store, rng, model, states, is_logical } = self;
        drop(store);
        let store = Arc::new(open(&env, DIR)?);
        Ok(Life { env, store, rng, model, states, is_logical })
    }
}
