//! Snapshots taken while transactions and checkpoints go on, archived, and restored to each
//! transaction.

use crate::life::{DIR, Life, contents, env, open};
use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_engine::{Engine, Registry};
use pitr_format::{FileId, SourceName, TxId};
use pitr_objects::{Location, Objects};
use pitr_recovery::{
    Error as RecoveryError, History, Plan, Progress, Recovery, RecoveryRequest, RestoreOptions, Restored,
    Restorer, Target,
};
use pitr_reference::{Error, PageFault, ReferenceEngine, Snapshot};
use pitr_snapshot::{BlockSource, BoxError, FileShape, Manifest, Tracked, write_full, write_increment};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Mode, Op, SimFs, Survivors};
use pitr_wal::Slot;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;

/// A source with transactions before each page is read.
struct Busy<'a> {
    source: &'a Snapshot<'a>,
    before: &'a (dyn Fn() + Sync),
}

impl BlockSource for Busy<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        for (page, offset) in buf.chunks_mut(PAGE).zip((offset..).step_by(PAGE)) {
            (self.before)();
            self.source.read_at(file, offset, page)?;
        }
        Ok(())
    }
}

/// A store and its archiver.
pub(crate) struct Running {
    pub(crate) life: Life,
    shipper: Shipper,
    /// Keeps checkpoints from removing log that is not archived.
    slot: Slot,
}

impl Running {
    fn commit(&mut self) {
        match self.life.is_logical {
            true if self.life.rng.once_in(3) => {
                self.life.interleave(|life| life.commit().map(drop)).unwrap();
            }
            _ => drop(self.life.commit().unwrap()),
        }
        self.ship();
        if self.life.rng.once_in(6) {
            self.life.store.checkpoint().unwrap();
        }
    }

    pub(crate) fn ship(&mut self) {
        self.shipper.ship(self.life.store.wal()).unwrap();
        if let Some(archived) = self.shipper.archived() {
            self.slot.advance(archived).unwrap();
        }
    }
}

pub(crate) struct World {
    pub(crate) archive: Archive,
    pub(crate) chunks: ChunkStore,
    running: Mutex<Running>,
}

impl World {
    pub(crate) fn begin(seed: u64) -> World {
        let life = Life::begin(&SimFs::new(), seed).unwrap();
        let objects = Objects::open(&Location::Memory, &life.env).unwrap();
        objects.init_repository(life.env.clock.now()).unwrap();
        let archive = Archive::new(objects.clone(), SourceName::new("bank").unwrap());
        let shipper = Shipper::claim(&archive, life.store.wal(), ShipOptions::default()).unwrap();
        let chunks = ChunkStore::open(objects).unwrap();
        let slot = life.store.wal().slot("archiver", life.store.wal().first()).unwrap();
        World { archive, chunks, running: Mutex::new(Running { life, shipper, slot }) }
    }

    /// Commits, a full snapshot, commits, an increment, a restart, another increment; transactions
    /// all the time.
    fn live(seed: u64) -> (World, Vec<Manifest>) {
        Self::begin(seed).live_on()
    }

    /// Lives on, as [`live`](Self::live).
    pub(crate) fn live_on(mut self) -> (World, Vec<Manifest>) {
        let world = &mut self;
        for row_bytes in [300, 90, 1000] {
            world.running().life.create_table(row_bytes).unwrap();
            (0..10).for_each(|_| world.running().commit());
        }
        let commit = |world: &World| world.running().commit();
        let full = world.take(None, commit);
        (0..10).for_each(|_| world.running().commit());
        assert!(full.snapshot.meta.redo_from < full.snapshot.meta.consistent_at, "it is fuzzy");
        let second = world.take(Some(&full), commit);
        (0..5).for_each(|_| world.running().commit());
        let World { archive, chunks, running } = self;
        let Running { life, shipper, slot } = running.into_inner().unwrap();
        drop(slot); // it has the log open
        let life = life.reopen().unwrap();
        let slot = life.store.wal().slot("archiver", shipper.archived().unwrap()).unwrap();
        let running = Mutex::new(Running { life, shipper, slot });
        let world = World { archive, chunks, running };
        world.running().life.create_table(500).unwrap();
        (0..5).for_each(|_| world.running().commit());
        let third = world.take(Some(&second), commit);
        (0..5).for_each(|_| world.running().commit());
        (world, vec![full, second, third])
    }

    pub(crate) fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap()
    }

    /// Takes a snapshot. Calls `before` before each page is read.
    pub(crate) fn take(&self, parent: Option<&Manifest>, before: impl Fn(&World) + Sync) -> Manifest {
        let store = Arc::clone(&self.running().life.store);
        let source = store.begin_snapshot().unwrap();
        let meta = source.meta(self.archive.source().clone());
        let busy = Busy { source: &source, before: &|| before(self) };
        let mut taken = match parent {
            None => write_full(&self.chunks, &busy, meta, None).unwrap(),
            Some(parent) => {
                let changes = source.changes_since(parent.snapshot.meta.redo_from).unwrap();
                write_increment(&self.chunks, parent, &mut Tracked::new(&busy, &changes), meta).unwrap()
            }
        };
        source.complete(&mut taken.snapshot.meta).unwrap();
        self.running().ship();
        taken.publish(&self.chunks).unwrap()
    }

    pub(crate) fn recover(&self, fs: &SimFs, request: &RecoveryRequest) -> Result<Recovery, RecoveryError> {
        let history = History::load(self.archive.objects(), self.archive.source(), None).unwrap();
        let clock = Arc::clone(&self.running().life.env.clock);
        let (history, chunks, target) = (&history, &self.chunks, &ReferenceEngine);
        Restorer { history, chunks, target, fs, clock: clock.as_ref(), progress: &|_| {} }.recover(request)
    }

    pub(crate) fn restore(&self, fs: &SimFs, tx: u64) -> (Plan, Restored) {
        let history = History::load(self.archive.objects(), self.archive.source(), None).unwrap();
        let plan = history.plan_for(&Target::at(TxId::new(tx))).unwrap();
        let registry = Registry::new(Arc::new(ReferenceEngine));
        let target = registry.named("reference").unwrap().need_restore_target().unwrap();
        let (clock, progress) = (Arc::clone(&self.running().life.env.clock), |_: Progress| {});
        let (history, chunks) = (&history, &self.chunks);
        let restorer = Restorer { history, chunks, target, fs, clock: clock.as_ref(), progress: &progress };
        let restored = restorer.restore(&plan, &RestoreOptions::to(DIR)).unwrap();
        (plan, restored)
    }
}

#[test]
fn a_store_snapshotted_while_it_is_written_is_restored_to_every_transaction() {
    // law 5, and FAILURES 3: a snapshot takes longer than the time between checkpoints.
    for seed in 0..3 {
        let (world, snapshots) = World::live(seed);
        let states = world.running().life.states.clone();
        let mut bases = BTreeSet::new();
        for (tx, state) in states.iter().filter(|(tx, _)| **tx > 0) {
            let fs = SimFs::new();
            let (plan, restored) = world.restore(&fs, *tx);
            assert_eq!(restored.reached().tx, TxId::new(*tx));
            bases.insert(plan.snapshot.map(|id| id.0));
            let store = open(&env(&fs), DIR).unwrap();
            assert!(contents(&store).unwrap() == *state, "seed {seed}, transaction {tx}");
            // It continues, with the next number, also after a power loss.
            let table = store.tables().unwrap()[0].0;
            let mut transaction = store.begin();
            transaction.put(table, 3, &[7; 300]).unwrap();
            assert_eq!(transaction.commit().unwrap().tx, TxId::new(tx + 1));
            let again = open(&env(&SimFs::on(fs.durable_disk())), DIR).unwrap();
            assert_eq!(again.get(table, 3).unwrap(), Some(vec![7; 300]));
            assert_eq!(again.last_commit().unwrap().unwrap().tx, TxId::new(tx + 1));
        }
        assert_eq!(bases.len(), 1 + snapshots.len(), "the empty base, and each snapshot");
    }
}

#[test]
fn a_page_that_changes_after_a_snapshot_read_it_is_in_the_next_one() {
    let world = World::begin(6);
    let store = Arc::clone(&world.running().life.store);
    let table = store.create_table("a", 1000).unwrap();
    let put = |row: u64, value: u8| {
        let mut transaction = store.begin();
        transaction.put(table, row, &[value; 1000]).unwrap();
        transaction.commit().unwrap().tx.get()
    };
    for row in 0..20 {
        put(row, 1);
    }
    let reads = AtomicU64::new(0);
    let full = world.take(None, |_| {
        if reads.fetch_add(1, Ordering::Relaxed) == 3 {
            put(0, 2); // in page 1, of which the snapshot has the old content
        }
    });
    let during = put(9, 3);
    let increment = world.take(Some(&full), |_| {});
    let after = put(19, 4);
    world.running().ship();
    for (tx, last) in [(during, 1), (after, 4)] {
        let fs = SimFs::new();
        assert_eq!(world.restore(&fs, tx).0.snapshot, Some(increment.snapshot.id));
        let rows = open(&env(&fs), DIR).unwrap().rows(table).unwrap();
        assert_eq!([0, 1, 9, 19].map(|row| rows[&row][0]), [2, 1, 3, last], "transaction {tx}");
    }
}

#[test]
fn an_increment_reads_what_changed() {
    let life = Life::begin(&SimFs::new(), 7).unwrap();
    let objects = Objects::open(&Location::Memory, &life.env).unwrap();
    let (chunks, name) = (ChunkStore::open(objects).unwrap(), SourceName::new("bank").unwrap());
    let table = life.store.create_table("a", 1000).unwrap();
    let mut all = life.store.begin();
    (0..400).for_each(|row| all.put(table, row, &[1; 1000]).unwrap());
    all.commit().unwrap();
    let take = |parent: Option<&Manifest>| {
        let source = life.store.begin_snapshot().unwrap();
        let meta = source.meta(name.clone());
        let mut taken = match parent {
            None => write_full(&chunks, &source, meta, None).unwrap(),
            Some(parent) => {
                let changes = source.changes_since(parent.snapshot.meta.redo_from).unwrap();
                write_increment(&chunks, parent, &mut Tracked::new(&source, &changes), meta).unwrap()
            }
        };
        source.complete(&mut taken.snapshot.meta).unwrap();
        taken.publish(&chunks).unwrap()
    };
    let full = take(None);
    assert_eq!(full.snapshot.sizes.changed, 101 * PAGE as u64);
    let mut one = life.store.begin();
    one.put(table, 77, &[2; 1000]).unwrap();
    one.commit().unwrap();
    let increment = take(Some(&full));
    assert_eq!(increment.snapshot.sizes.changed, PAGE as u64);
    // Changes that no epoch has are read from the log, after a crash too.
    let life = life.reopen().unwrap();
    let mut one = life.store.begin();
    one.put(table, 5, &[3; 1000]).unwrap();
    one.commit().unwrap();
    let life = life.reopen().unwrap();
    let source = life.store.begin_snapshot().unwrap();
    let changes = source.changes_since(increment.snapshot.meta.redo_from).unwrap();
    let size = pitr_tracker::BlockSize::new(4096).unwrap();
    assert!(changes.blocks(table.file(), size, 101 * PAGE as u64).eq([2]));
    // What neither an epoch nor the log has counts as changed.
    life.store.forget_changes_below(source.redo_from()).unwrap();
    assert!(!source.changes_since(full.snapshot.meta.redo_from).unwrap().is_whole(), "the log has it");
    while life.store.wal().first() < source.redo_from() {
        let mut one = life.store.begin();
        one.put(table, 5, &[4; 1000]).unwrap();
        one.commit().unwrap();
        life.store.checkpoint().unwrap();
    }
    assert!(source.changes_since(full.snapshot.meta.redo_from).unwrap().is_whole());
}

#[test]
fn power_loss_during_a_restore_leaves_nothing_that_opens() {
    // FAILURES 32 and law 4
    let (world, _) = World::live(5);
    let states = world.running().life.states.clone();
    let (tx, state) = states.iter().nth(60).unwrap();
    let fs = SimFs::new();
    world.restore(&fs, *tx);
    let trace = fs.trace();
    let (mut survivors, mut faults) = (Survivors::new(&trace), BTreeSet::new());
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().zip(cut as u64..) {
            let after = SimFs::on(survivors.disk(mode, seed));
            for name in after.list(Path::new("/")).unwrap_or_default() {
                let path = format!("/{}", name.to_str().unwrap());
                if !after.exists(&Path::new(&path).join("CONTROL")).unwrap() {
                    continue;
                }
                match open(&env(&after), &path).and_then(|store| contents(&store)) {
                    Ok(found) => assert!(found == *state, "cut {cut}, {mode:?}: {path} opens"),
                    // Marked, or the bytes are not on disk yet.
                    Err(Error::Damaged { fault, .. }) => drop(faults.insert(fault.to_string())),
                    Err(Error::Control { .. }) => {}
                    Err(other) => panic!("cut {cut}, {mode:?}: {other}"),
                }
            }
        }
        if survivors.advance().is_none() {
            break;
        }
    }
    assert!(faults.contains(&PageFault::Unfinished.to_string()), "{faults:?}");
}

#[test]
fn power_loss_when_a_restored_store_is_first_opened_loses_nothing() {
    // Law 1: the log begins at that moment, at every cut of the trace.
    let (world, _) = World::live(8);
    let states = world.running().life.states.clone();
    let (tx, restored) = states.last_key_value().unwrap();
    let fs = SimFs::new();
    world.restore(&fs, *tx);
    let fs = SimFs::on(fs.durable_disk());
    let store = open(&env(&fs), DIR).unwrap();
    let (table, mut changed) = (store.tables().unwrap()[0].0, restored.clone());
    let mut transaction = store.begin();
    transaction.put(table, 3, &[7; 300]).unwrap();
    transaction.commit().unwrap();
    fs.ack(1);
    changed.get_mut(&table).unwrap().insert(3, vec![7; 300]);
    let trace = fs.trace();
    let (mut survivors, mut acknowledged) = (Survivors::new(&trace), false);
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().zip(cut as u64..) {
            let after = SimFs::on(survivors.disk(mode, seed));
            let found = open(&env(&after), DIR).and_then(|store| contents(&store));
            let found = found.unwrap_or_else(|error| panic!("cut {cut}, {mode:?}: {error}"));
            assert!(found == changed || !acknowledged && found == *restored, "cut {cut}, {mode:?}");
        }
        match survivors.advance() {
            None => break,
            Some(op) => acknowledged |= matches!(op, Op::Ack(_)),
        }
    }
    assert!(acknowledged);
}

#[test]
fn single_tables_are_restored_by_their_names() {
    let (world, _) = World::live(4);
    let (tx, state) = world.running().life.states.last_key_value().map(|(tx, s)| (*tx, s.clone())).unwrap();
    let tables = world.running().life.store.tables().unwrap();
    for (table, name) in tables {
        for named in [name.clone(), format!("{:08}.table", table.file().get())] {
            let fs = SimFs::new();
            let request = RecoveryRequest::partial(Target::at(TxId::new(tx)), vec![named], DIR);
            world.recover(&fs, &request).unwrap();
            let found = contents(&open(&env(&fs), DIR).unwrap()).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), [&table]);
            assert!(found[&table] == state[&table], "{name}");
        }
    }
    // Before the first snapshot, only the log has the headers.
    let early = RecoveryRequest::partial(Target::at(TxId::new(3)), vec!["table of 300".to_owned()], DIR);
    let recovery = world.recover(&SimFs::new(), &early).unwrap();
    assert_eq!((recovery.stats.snapshot, recovery.restored.unwrap().files), (None, 1));
    let missing = RecoveryRequest::partial(Target::latest(), vec!["no such table".to_owned()], DIR);
    let refused = world.recover(&SimFs::new(), &missing);
    assert!(matches!(refused, Err(RecoveryError::NoSuchTable { .. })), "{refused:?}");
}

#[test]
fn a_damaged_page_is_found_before_the_store_is_published() {
    let world = World::begin(6);
    world.running().life.create_table(300).unwrap();
    (0..20).for_each(|_| world.running().commit());
    let store = Arc::clone(&world.running().life.store);
    let source = store.begin_snapshot().unwrap();
    let mut meta = source.meta(world.archive.source().clone());
    source.complete(&mut meta).unwrap();
    let spoiled = Spoiled(&source);
    write_full(&world.chunks, &spoiled, meta, None).unwrap().publish(&world.chunks).unwrap();
    let (fs, mut request) = (SimFs::new(), RecoveryRequest::full(Target::latest(), DIR));
    request.options.check = true;
    match world.recover(&fs, &request) {
        Err(RecoveryError::Inconsistent { findings }) => {
            let text = findings[0].to_string();
            assert!(text.contains("page 1: the checksum does not match"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!fs.exists(Path::new(DIR)).unwrap());
    request.options.check = false;
    world.recover(&fs, &request).unwrap();
    // A sound store passes.
    world.take(None, |_| {});
    let (fs, mut request) = (SimFs::new(), RecoveryRequest::full(Target::latest(), DIR));
    request.options.check = true;
    world.recover(&fs, &request).unwrap();
}

/// A source whose second page is damaged.
struct Spoiled<'a>(&'a Snapshot<'a>);

impl BlockSource for Spoiled<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.0.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        self.0.read_at(file, offset, buf)?;
        let at = (PAGE as u64 + 100).checked_sub(offset).filter(|at| *at < buf.len() as u64);
        if let Some(at) = at {
            buf[at as usize] ^= 1;
        }
        Ok(())
    }
}

#[test]
fn the_engine_recognizes_its_stores() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!ReferenceEngine.detect(dir.path()));
    drop(pitr_reference::Store::open_or_create(dir.path()).unwrap());
    assert!(ReferenceEngine.detect(dir.path()));
}
