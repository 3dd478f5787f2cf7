//! A store with random transactions, and a model of it.

use pitr_format::{SegmentSize, Timestamp};
use pitr_reference::{Committed, Env, Options, Result, Store, TableId};
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
}

impl Life {
    pub(crate) fn begin(fs: &SimFs, seed: u64) -> Result<Self> {
        let env = env(fs);
        let store = Arc::new(open(&env, DIR)?);
        let states = BTreeMap::from([(0, Model::new())]);
        Ok(Life { env, store, rng: Rng::new(seed), model: Model::new(), states })
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

    /// One transaction in any tables. Before it, perhaps an aborted one of the same rows.
    pub(crate) fn commit(&mut self) -> Result<Committed> {
        self.env.clock.sleep(Duration::from_millis(1));
        let tables: Vec<(TableId, usize)> = (self.store.tables()?.into_iter())
            .map(|(table, name)| (table, name["table of ".len()..].parse().unwrap()))
            .collect();
        let mut model = self.model.clone();
        let mut transaction = self.store.begin();
        let mut aborted = self.store.begin();
        for _ in 0..=self.rng.below(6) {
            let (table, row_bytes) = tables[self.rng.below(tables.len() as u64) as usize];
            let row = self.rng.below(60);
            if self.rng.once_in(4) {
                transaction.delete(table, row)?;
                model.get_mut(&table).unwrap().remove(&row);
            } else {
                let bytes = vec![self.rng.draw() as u8; row_bytes];
                transaction.put(table, row, &bytes)?;
                model.get_mut(&table).unwrap().insert(row, bytes);
            }
            aborted.put(table, row, &vec![0xee; row_bytes])?;
            assert_eq!(transaction.get(table, row)?.as_ref(), model[&table].get(&row));
        }
        if self.rng.once_in(3) {
            aborted.abort();
        }
        transaction.commit()?;
        self.model = model;
        self.note()
    }

    /// Ends the process without a checkpoint, and opens the store again.
    pub(crate) fn reopen(self) -> Result<Self> {
        let Life { env, store, rng, model, states } = self;
        drop(store);
        let store = Arc::new(open(&env, DIR)?);
        Ok(Life { env, store, rng, model, states })
    }
}
