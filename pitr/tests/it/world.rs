//! A store of the reference engine, attached to a repository, on a simulated machine.

use pitr::codec::Codec;
use pitr::engine::{Engine, Event, Events};
use pitr::format::{SegmentSize, SourceName, Timestamp, TxId};
use pitr::objects::{Location, Objects};
use pitr::recovery::{RestoreTarget, SingleFile, Target};
use pitr::vfs::Env;
use pitr::vfs::sim::{SimClock, SimFs};
use pitr::{AttachOptions, Pitr};
use pitr_reference::{Options, ReferenceEngine, Store, TableId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) type Rows = BTreeMap<u64, Vec<u8>>;

pub(crate) struct World {
    pub(crate) fs: SimFs,
    pub(crate) env: Env,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) pitr: Pitr,
    pub(crate) source: SourceName,
    pub(crate) store: Store,
    pub(crate) table: TableId,
    /// The rows after each transaction.
    pub(crate) states: BTreeMap<u64, Rows>,
    /// The events, as text.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn open(env: &Env, dir: &str) -> Store {
    let segment_size = SegmentSize::new(16 << 10).unwrap();
    Store::open(env, Path::new(dir), &Options { segment_size, ..Options::default() }).unwrap()
}

impl World {
    /// A store with one table, and a repository in memory.
    pub(crate) fn begin() -> World {
        let (fs, clock) = (SimFs::new(), Arc::new(SimClock::new(Timestamp::from_micros(1_000_000))));
        let env = Env::simulated(Arc::new(fs.clone()), clock.clone(), 1);
        Self::on(fs, clock, &Objects::open(&Location::Memory, &env).unwrap())
    }

    pub(crate) fn on(fs: SimFs, clock: Arc<SimClock>, objects: &Objects) -> World {
        let env = objects.env().clone();
        objects.init_repository(env.clock.now()).unwrap();
        let mut pitr = Pitr::with_objects(objects.clone(), Codec::default()).unwrap();
        pitr.register_default(Arc::new(ReferenceEngine)).unwrap();
        let store = open(&env, "/bank");
        let table = store.create_table("accounts", 200).unwrap();
        let (source, seen) = (SourceName::new("bank").unwrap(), Arc::default());
        let states = BTreeMap::from([(1, Rows::new())]);
        World { fs, env, clock, pitr, source, store, table, states, seen }
    }

    pub(crate) fn options(&self) -> AttachOptions {
        AttachOptions::new("reference").events(self.events())
    }

    fn events(&self) -> Events {
        let seen = Arc::clone(&self.seen);
        Arc::new(move |event| {
            seen.lock().unwrap().push(match event {
                Event::ShipFailed(_) => "failed".to_owned(),
                Event::ShipRecovered => "recovered".to_owned(),
                Event::Snapshot { .. } => "snapshot".to_owned(),
                Event::Gap(_) => "gap".to_owned(),
                other => format!("{other:?}"),
            });
        })
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Writes rows in one transaction.
    pub(crate) fn put(&mut self, rows: impl IntoIterator<Item = u64>, value: u8) -> TxId {
        self.clock.pass(std::time::Duration::from_millis(1));
        let mut state = self.states.values().next_back().unwrap().clone();
        let mut transaction = self.store.begin();
        for row in rows {
            transaction.put(self.table, row, &[value; 200]).unwrap();
            state.insert(row, vec![value; 200]);
        }
        let tx = transaction.commit().unwrap().tx;
        self.states.insert(tx.get(), state);
        tx
    }

    /// The rows that a restore to the transaction gives.
    pub(crate) fn restored(&self, tx: u64) -> Rows {
        let output = format!("/restored-{tx}-{}", self.fs.writes());
        self.pitr.restore_to(&self.source, &Target::at(TxId::new(tx)), &output).unwrap();
        open(&self.env, &output).rows(self.table).unwrap()
    }
}

/// An engine of one file: its name, and whether it restores.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) &'static str, pub(crate) bool);

impl Engine for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn detect(&self, _: &Path) -> bool {
        false
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        self.1.then_some(&SingleFile)
    }
}
