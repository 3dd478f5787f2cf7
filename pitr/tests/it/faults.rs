//! What goes wrong while a log is archived: it is reported, and nothing wrong is published.

use crate::world::{Named, World, open};
use pitr::archive::{Archive, Writer};
use pitr::codec::Codec;
use pitr::format::{FileId, Lsn, SourceName};
use pitr::objects::Objects;
use pitr::recovery::Target;
use pitr::snapshot::{BlockSource, BoxError, ConsistentAt, FileShape, FuzzySource};
use pitr::vfs::Env;
use pitr::vfs::sim::{SimClock, SimFs};
use pitr::{AttachOptions, Error, Hint, Pitr};
use pitr_reference::ReferenceEngine;
use pitr_testkit::{Answer, Request, TestStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A source with something that happens when its first block is read, and positions to choose.
struct Strange<'a> {
    source: &'a pitr_reference::Snapshot<'a>,
    at_read: &'a (dyn Fn() + Sync),
    at: Option<ConsistentAt>,
}

impl BlockSource for Strange<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        (self.at_read)();
        self.source.read_at(file, offset, buf)
    }
}

impl FuzzySource for Strange<'_> {
    fn redo_from(&self) -> Lsn {
        self.source.redo_from()
    }

    fn consistent_at(&self) -> Result<ConsistentAt, BoxError> {
        self.at.map_or_else(|| self.source.consistent_at(), Ok)
    }
}

fn snapshots(world: &World) -> usize {
    world.pitr.backups(&world.source).unwrap().backups.len()
}

#[test]
fn a_repository_that_fails_is_an_event_and_a_state_until_it_works_again() {
    let (fails, clock) =
        (Arc::new(AtomicBool::new(false)), Arc::new(SimClock::new(pitr::format::Timestamp::MIN)));
    let asked = Arc::clone(&fails);
    let store = TestStore::memory().answering(move |request| match request {
        Request::Put(_) if asked.load(Ordering::Relaxed) => Answer::Deny,
        _ => Answer::Serve,
    });
    let fs = SimFs::new();
    let env = Env::simulated(Arc::new(fs.clone()), clock.clone(), 1);
    let mut world = World::on(fs, clock, &Objects::over(Arc::new(store), &env).unwrap());
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    let tx = world.put([1], 1);
    fails.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(matches!(attached.ship(), Err(Error::Archive(_))));
    }
    let failure = attached.state().failure.unwrap();
    assert_eq!((failure.attempts, world.seen()), (3, vec!["failed".to_owned()]));
    assert!(!failure.error.is_empty() && !attached.state().is_current());
    // A snapshot needs the log.
    assert!(attached.snapshot(&world.store.begin_snapshot().unwrap(), Hint::Full).is_err());
    fails.store(false, Ordering::Relaxed);
    assert_eq!(snapshots(&world), 0);
    attached.ship().unwrap();
    assert_eq!(attached.state().failure, None);
    assert_eq!(world.seen(), ["recovered"]);
    attached.stop().unwrap();
    assert!(world.restored(tx.get()) == world.states[&tx.get()]);
}

#[test]
fn a_commit_is_archived_before_its_caller_goes_on_or_the_caller_is_told() {
    // RPO 0 (FAILURES 21, 27)
    let dir = tempfile::tempdir().unwrap();
    let (is_away, puts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (away, counted) = (Arc::clone(&is_away), Arc::clone(&puts));
    let test_store = TestStore::memory().answering(move |request| match request {
        Request::Put(_) if away.load(Ordering::Relaxed) => Answer::Break,
        Request::Put(path) if path.contains("/log/") => {
            counted.fetch_add(1, Ordering::Relaxed);
            Answer::ServeAfter(Duration::from_millis(20))
        }
        _ => Answer::Serve,
    });
    let objects = Objects::with_store(Arc::new(test_store)).unwrap();
    objects.init_repository(objects.env().clock.now()).unwrap();
    let mut pitr = Pitr::with_objects(objects.clone(), Codec::default()).unwrap();
    pitr.register_default(Arc::new(ReferenceEngine)).unwrap();
    let store = open(&Env::system(), dir.path().join("bank").to_str().unwrap());
    let table = store.create_table("accounts", 200).unwrap();
    let source = SourceName::new("bank").unwrap();
    // Nothing is shipped unless a caller waits for it.
    let options = AttachOptions::new("reference").ship_every(Some(Duration::from_secs(3600)));
    let attached = pitr.attach(store.wal(), &source, options).unwrap();
    let commit = |row: u64| {
        let mut transaction = store.begin();
        transaction.put(table, row, &[1; 200]).unwrap();
        transaction.commit().unwrap().lsn
    };
    let patience = Duration::from_secs(20);
    puts.store(0, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (attached, commit) = (&attached, &commit);
            scope.spawn(move || {
                for row in 0..5 {
                    let lsn = commit(100 * caller + row);
                    attached.wait_archived(lsn, patience).unwrap();
                    assert!(attached.state().archived.unwrap() >= lsn);
                }
            });
        }
    });
    let shipments = puts.load(Ordering::Relaxed);
    assert!((5..40).contains(&shipments), "{shipments} shipments for 40 commits");

    is_away.store(true, Ordering::Relaxed);
    let lsn = commit(1);
    match attached.wait_archived(lsn, Duration::from_millis(300)).unwrap_err() {
        Error::ArchivePatience { lsn: named, archived, .. } => assert!(named == lsn && archived < Some(lsn)),
        other => panic!("{other}"),
    }
    is_away.store(false, Ordering::Relaxed);
    attached.wait_archived(lsn, patience).unwrap();

    let archive = Archive::new(objects.clone(), source);
    Writer::claim(&archive, objects.env().clock.now()).unwrap();
    let refused = attached.wait_archived(commit(2), patience).unwrap_err();
    assert!(matches!(refused, Error::Archive(pitr::archive::Error::Fenced { .. })), "{refused}");
}

#[test]
fn a_replaced_writer_publishes_nothing_and_says_so() {
    // FAILURES 21
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    world.put([1], 1);
    let source = world.store.begin_snapshot().unwrap();
    let claim = || {
        let archive = Archive::new(world.pitr.objects().clone(), world.source.clone());
        Writer::claim(&archive, world.env.clock.now()).unwrap();
    };
    let taken_over = Strange { source: &source, at_read: &claim, at: None };
    let refused = attached.snapshot(&taken_over, Hint::Full).unwrap_err();
    let is_fenced = |error: &Error| matches!(error, Error::Archive(pitr::archive::Error::Fenced { .. }));
    assert!(is_fenced(&refused), "{refused}");
    assert!(attached.state().is_fenced);
    assert_eq!(snapshots(&world), 0);
    assert!(is_fenced(&attached.ship().unwrap_err()));
    assert!(is_fenced(&attached.stop().unwrap_err()));
}

#[test]
fn a_snapshot_whose_positions_contradict_each_other_is_not_published() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    world.put([1], 1);
    let source = world.store.begin_snapshot().unwrap();
    let right = source.consistent_at().unwrap();
    let (before, ahead) = (Lsn::new(right.lsn.get() - 1), Lsn::new(world.store.wal().durable().get() + 1));
    for lsn in [before, ahead] {
        let at = Some(ConsistentAt { lsn, ..right });
        let refused = attached.snapshot(&Strange { source: &source, at_read: &|| {}, at }, Hint::Full);
        assert!(matches!(refused, Err(Error::Positions { consistent_at, .. }) if consistent_at == lsn));
    }
    assert_eq!(snapshots(&world), 0);
    attached.stop().unwrap();
}

#[test]
fn lost_log_is_refused_or_a_gap_and_then_a_snapshot_is_needed() {
    // FAILURES 53: the log was removed before it was archived.
    let mut world = World::begin();
    for value in 0..30 {
        world.put([u64::from(value)], value);
    }
    world.store.checkpoint().unwrap();
    let refused = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap_err();
    assert!(
        matches!(refused, Error::Archive(pitr::archive::Error::Wal(pitr::wal::Error::Removed { .. }))),
        "{refused}"
    );
    assert_eq!(world.store.wal().slots(), [], "a refused attachment holds nothing");
    world.seen();
    let options = world.options().accept_gaps(true);
    let attached = world.pitr.attach(world.store.wal(), &world.source, options).unwrap();
    assert_eq!(world.seen(), ["gap"]);
    assert!(attached.needs_snapshot().unwrap());
    attached.snapshot(&world.store.begin_snapshot().unwrap(), Hint::Tracked).unwrap();
    assert!(!attached.needs_snapshot().unwrap());
    let tx = world.put([3], 99).get();
    attached.stop().unwrap();
    assert!(world.restored(tx) == world.states[&tx]);
}

#[test]
fn a_restored_store_is_archived_under_another_name() {
    let mut world = World::begin();
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    let tx = world.put([1], 1);
    attached.stop().unwrap();
    world.pitr.restore_to(&world.source, &Target::at(tx), "/copy").unwrap();
    let copy = open(&world.env, "/copy");
    // The archive of the original has another log.
    assert!(world.pitr.attach(copy.wal(), &world.source, world.options()).is_err());
    let name = SourceName::new("copy").unwrap();
    let options = world.options().accept_gaps(true);
    let attached = world.pitr.attach(copy.wal(), &name, options).unwrap();
    attached.snapshot(&copy.begin_snapshot().unwrap(), Hint::Full).unwrap();
    let mut more = copy.begin();
    more.put(world.table, 2, &[2; 200]).unwrap();
    let more = more.commit().unwrap();
    attached.stop().unwrap();
    world.pitr.restore_to(&name, &Target::at(more.tx), "/copy-of-the-copy").unwrap();
    let rows = open(&world.env, "/copy-of-the-copy").rows(world.table).unwrap();
    assert_eq!((rows[&1][0], rows[&2][0]), (1, 2));
}

#[test]
fn a_log_that_nothing_could_restore_is_refused() {
    let mut world = World::begin();
    let attach = |world: &World, engine: &str| {
        world.pitr.attach(world.store.wal(), &world.source, AttachOptions::new(engine))
    };
    assert!(matches!(attach(&world, "unknown"), Err(Error::Engine(_))));
    world.pitr.register(Arc::new(Named("restores nothing", false))).unwrap();
    assert!(matches!(attach(&world, "restores nothing"), Err(Error::Engine(_))));
    let attached = attach(&world, "reference").unwrap();
    // A second archive of the same log needs its own slot.
    let second = SourceName::new("second").unwrap();
    let refused = world.pitr.attach(world.store.wal(), &second, world.options());
    assert!(matches!(refused, Err(Error::Wal(pitr::wal::Error::SlotTaken { .. }))));
    attached.snapshot(&world.store.begin_snapshot().unwrap(), Hint::Full).unwrap();
    attached.stop().unwrap();
    world.pitr.register(Arc::new(Named("another", true))).unwrap();
    let refused = attach(&world, "another");
    assert!(matches!(refused, Err(Error::OtherEngine { engine, .. }) if engine == "reference"));
}
