//! A native engine through the facade: archived, snapshotted by each hint, restored.

use crate::world::{World, open};
use pitr::archive::{Archive, PointName};
use pitr::engine::Engine;
use pitr::format::{FileId, TimelineId, Timestamp, TxId};
use pitr::recovery::{NewPoint, Target};
use pitr::snapshot::{BlockSource, BoxError, FileShape, Quiet, Snapshot, SnapshotKind};
use pitr::tracker::{BlockSize, ChangeSet};
use pitr::{AttachOptions, Hint, Pitr, PitrConfig};
use pitr_reference::{ReferenceEngine, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The state of a store that nobody writes.
struct Idle<'a>(&'a pitr_reference::Snapshot<'a>);

impl BlockSource for Idle<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.0.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        self.0.read_at(file, offset, buf)
    }
}

#[test]
fn every_hint_gives_a_snapshot_from_which_every_transaction_is_restored() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    world.put(0..100, 1);
    let take = |world: &World, hint: Hint<'_>| -> Snapshot {
        attached.snapshot(&world.store.begin_snapshot().unwrap(), hint).unwrap()
    };
    let mut taken = vec![take(&world, Hint::Tracked)];
    assert_eq!(taken[0].kind, SnapshotKind::Full, "there is no earlier snapshot");
    let one_page = 4096;
    for (hint, name) in [(Hint::Tracked, "tracked"), (Hint::Log, "log"), (Hint::Compare, "compare")] {
        world.put([7], name.len() as u8);
        let snapshot = take(&world, hint);
        assert_eq!((snapshot.kind, snapshot.sizes.changed), (SnapshotKind::Incremental, one_page), "{name}");
        assert_eq!(snapshot.parent, taken.last().map(|parent| parent.id), "{name}");
        assert_eq!(snapshot.meta.engine, ReferenceEngine.name());
        taken.push(snapshot);
        world.put([8], 9);
    }
    // A list of the engine. It begins after the last snapshot, so that can't be the parent.
    let mut blocks = ChangeSet::new();
    blocks.mark(world.table.file(), BlockSize::new(4096).unwrap(), 1);
    let since = world.store.last_commit().unwrap().unwrap().lsn;
    let listed = take(&world, Hint::Changed { since, blocks: &blocks });
    assert_eq!(listed.kind, SnapshotKind::Full);
    world.put([9], 3);
    let listed = take(&world, Hint::Changed { since, blocks: &blocks });
    assert_eq!((listed.kind, listed.sizes.changed), (SnapshotKind::Incremental, one_page));
    assert_eq!(take(&world, Hint::Full).kind, SnapshotKind::Full);

    // A new file: the log alone is not enough.
    world.store.create_table("more", 10).unwrap();
    let rows = world.states.values().next_back().unwrap().clone();
    world.states.insert(world.store.last_commit().unwrap().unwrap().tx.get(), rows);
    let compared = take(&world, Hint::Log);
    assert_eq!(compared.kind, SnapshotKind::Incremental);

    // A source that does not change.
    let fuzzy = world.store.begin_snapshot().unwrap();
    let at = pitr::snapshot::FuzzySource::consistent_at(&fuzzy).unwrap();
    let idle = Idle(&fuzzy);
    let quiet = attached.snapshot(&Quiet::new(&idle, at), Hint::Compare).unwrap();
    assert_eq!((quiet.meta.redo_from, quiet.sizes.changed), (at.lsn, 0));

    world.put([1], 77);
    attached.ship().unwrap();
    assert!(!attached.needs_snapshot().unwrap());
    for (tx, rows) in world.states.clone() {
        assert!(world.restored(tx) == rows, "transaction {tx}");
    }
    attached.stop().unwrap();
}

#[test]
fn a_log_without_a_snapshot_is_restored_by_the_default_engine() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    let tx = world.put([1], 1);
    let point = PointName::new("first").unwrap();
    assert_eq!(attached.create_point(&NewPoint::latest(point.clone())).unwrap().tx, tx);
    world.put([1], 2);
    attached.stop().unwrap();
    let point = world.pitr.point(&world.source, &point).unwrap();
    world.pitr.restore_to(&world.source, &Target::at(&point), "/at-the-point").unwrap();
    assert_eq!(open(&world.env, "/at-the-point").rows(world.table).unwrap(), world.states[&tx.get()]);
}

#[test]
fn the_log_stays_until_it_is_archived_also_while_nothing_is_attached() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    let first = world.store.wal().first();
    let write = |world: &mut World| {
        for value in 0..20 {
            world.put([u64::from(value)], value);
        }
        world.store.checkpoint().unwrap();
    };
    write(&mut world);
    assert_eq!(world.store.wal().first(), first, "nothing of it is archived");
    attached.ship().unwrap();
    world.store.checkpoint().unwrap();
    assert!(world.store.wal().first() > first);

    let archived = attached.stop().unwrap().archived.unwrap();
    write(&mut world);
    let World { store, .. } = world;
    drop(store);
    world.store = open(&world.env, "/bank");
    write(&mut world);
    assert!(world.store.wal().first() <= archived, "the slot outlives the process");
    let again = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    assert!(again.state().is_current());
    again.stop().unwrap();
    let (tx, rows) = world.states.clone().pop_last().unwrap();
    assert!(world.restored(tx) == rows);
}

#[test]
fn a_quiet_log_gets_a_watermark_a_minute() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    world.put([1], 1);
    attached.ship().unwrap();
    let until = |world: &World| -> Timestamp {
        world.pitr.history(&world.source, None).unwrap().restorable().unwrap()[0].watermark
    };
    let before = until(&world);
    world.clock.pass(Duration::from_secs(59));
    assert_eq!(attached.ship().unwrap().objects, 0);
    world.clock.pass(Duration::from_secs(1));
    assert_eq!(attached.ship().unwrap().objects, 1);
    assert!(until(&world).since(before) >= 59_000_000);
    // A stop writes one.
    world.clock.pass(Duration::from_secs(5));
    let now = world.env.clock.now();
    attached.stop().unwrap();
    assert!(until(&world) >= now);
}

#[test]
fn a_thread_ships_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut pitr = Pitr::init(&PitrConfig::at(dir.path().join("repo"))).unwrap();
    pitr.register_default(Arc::new(ReferenceEngine)).unwrap();
    let store = Store::open_or_create(dir.path().join("bank")).unwrap();
    let source = Pitr::source_for(&dir.path().join("bank")).unwrap();
    let options = AttachOptions::new("reference").ship_every(Some(Duration::from_millis(1)));
    let attached = pitr.attach(store.wal(), &source, options).unwrap();
    let table = store.create_table("accounts", 8).unwrap();
    let archive = Archive::new(pitr.objects().clone(), source.clone());
    while archive.catalog().unwrap().end(TimelineId::FIRST) < Some(store.wal().durable()) {
        assert_eq!(attached.state().failure, None);
        std::thread::yield_now();
    }
    let mut last = store.begin();
    last.put(table, 1, &[5; 8]).unwrap();
    let last = last.commit().unwrap();
    drop(attached); // a drop archives the rest
    let output = dir.path().join("restored");
    let restored = pitr.restore_to(&source, &Target::latest(), &output).unwrap();
    assert_eq!((restored.reached().tx, last.tx), (TxId::new(2), TxId::new(2)));
    assert_eq!(Store::open_or_create(&output).unwrap().get(table, 1).unwrap(), Some(vec![5; 8]));
    assert!(Path::new(&output).is_dir());
}

#[test]
fn a_restored_store_goes_on_under_its_name_and_both_histories_are_restored() {
    // FAILURES 8
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    world.put([1], 1);
    attached.snapshot(&world.store.begin_snapshot().unwrap(), Hint::Tracked).unwrap();
    let kept = world.put([2], 2);
    let lost = world.put([3], 3);
    attached.stop().unwrap();
    let restored = world.pitr.restore_to(&world.source, &Target::at(kept), "/again").unwrap();
    let timeline = world.pitr.fork(&world.source, &restored.reached()).unwrap();
    assert_eq!(timeline.get(), 2);

    let options = pitr_reference::Options {
        segment_size: pitr::format::SegmentSize::new(16 << 10).unwrap(),
        timeline,
        ..pitr_reference::Options::default()
    };
    let store = Store::open(&world.env, Path::new("/again"), &options).unwrap();
    let attached = world.pitr.attach(store.wal(), &world.source, world.options()).unwrap();
    assert!(!attached.needs_snapshot().unwrap(), "the log continues that of the original");
    let mut transaction = store.begin();
    transaction.put(world.table, 9, &[9; 200]).unwrap();
    let new = transaction.commit().unwrap();
    attached.snapshot(&store.begin_snapshot().unwrap(), Hint::Tracked).unwrap();
    attached.stop().unwrap();

    // The newest timeline has what both share, and its own transaction.
    let of_new = world.pitr.restore_to(&world.source, &Target::at(new.lsn), "/of-new").unwrap();
    assert_eq!(of_new.reached().timeline, timeline);
    assert_eq!(open(&world.env, "/of-new").rows(world.table).unwrap(), store.rows(world.table).unwrap());
    assert!(world.restored(kept.get()) == world.states[&kept.get()]);
    // The old timeline still has the lost one.
    let first = world.pitr.history(&world.source, Some(pitr::format::TimelineId::FIRST)).unwrap();
    let plan = first.plan_for(&Target::at(lost)).unwrap();
    let to = pitr::recovery::RestoreOptions::to("/of-old");
    world.pitr.restore(&first, &plan, &to, &|_| {}).unwrap();
    assert!(open(&world.env, "/of-old").rows(world.table).unwrap() == world.states[&lost.get()]);
}
