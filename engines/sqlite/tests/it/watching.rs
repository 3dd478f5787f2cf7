//! A complete watch in this process, with the test's clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use crate::attacks::SetClock;
use crate::exactly::{application, assert_exact};
use pitr_dedup::ChunkStore;
use pitr_engine::{Capture, CaptureOptions, EngineContext, Event, Events, LiveSource};
use pitr_format::{SourceName, TimelineId};
use pitr_objects::{Location, Objects};
use pitr_recovery::{History, RecoveryTarget, RestoreOptions, Restorer, Target};
use pitr_sqlite::restore::DatabaseTarget;
use pitr_sqlite::watch::Watch;
use pitr_sqlite::{Sqlite, place};
use pitr_testkit::{Answer, Operation, Outcome, Request, TestFs, TestStore};
use pitr_vfs::{Clock, Env, OsFs, SystemClock};

pub(crate) fn restore(objects: &Objects, source: &SourceName, timeline: Option<u32>, output: &Path) {
    let history = History::load(objects, source, timeline.map(TimelineId::new)).unwrap();
    let stop = history.resolve(&Target::at(RecoveryTarget::Latest)).unwrap();
    let plan = history.plan(&stop).unwrap();
    let chunks = ChunkStore::open(objects.clone()).unwrap();
    let restorer = Restorer {
        history: &history,
        chunks: &chunks,
        target: &DatabaseTarget,
        fs: &OsFs,
        clock: &SystemClock::default(),
        progress: &|_| {},
    };
    let options = RestoreOptions::to(output);
    restorer.restore(&plan, &options).unwrap();
}

/// Drains the watch, and asserts that the restored database equals the application's.
fn assert_drains_exactly(
    watch: &mut Watch,
    app: &mut pitr_testkit::App,
    objects: &Objects,
    source: &SourceName,
    dir: &Path,
) {
    let (copy, restored) = (dir.join("copy.db"), dir.join("restored.db"));
    app.copy(&copy);
    watch.drain().unwrap();
    restore(objects, source, None, &restored);
    assert_exact(&restored, &copy);
}

/// A repository in `dir`, and the database as its source.
pub(crate) fn context(dir: &Path, database: &Path, clock: Arc<dyn Clock>) -> (EngineContext, LiveSource) {
    let location = Location::Folder(dir.join("repo"));
    let objects = Objects::create(&location, None, &Env::system().with_clock(clock)).unwrap();
    context_of(objects, database)
}

fn context_of(objects: Objects, database: &Path) -> (EngineContext, LiveSource) {
    let repository = objects.init_repository(objects.env().clock.now()).unwrap().id;
    let source = SourceName::new("app").unwrap();
    let watched = Sqlite.source(&place::resolve(database).unwrap(), source, None);
    (EngineContext { objects, repository }, watched)
}

#[test]
fn a_watch_stopped_at_once_still_stores_its_base() {
    // FAILURES 7: once capture is established, something can be restored.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES('there before')");
    let (context, watched) = context(dir.path(), &database, Arc::new(SystemClock::default()));
    let (objects, source) = (context.objects.clone(), watched.source.clone());
    let mut watch = Watch::begin(context, watched, CaptureOptions::default(), Arc::new(|_| {})).unwrap();
    app.sql("INSERT INTO t VALUES('captured')");
    assert_drains_exactly(&mut watch, &mut app, &objects, &source, dir.path());
}

/// Files of which the `-wal` file seems to restart all the time: `reads_left` reads of its start
/// alternate between no bytes and the real ones.
fn restarting(reads_left: Arc<AtomicU32>) -> TestFs {
    TestFs::os().answering(move |operation, path| {
        let is_start = operation == Operation::Read { offset: 0 };
        if !is_start || !path.to_string_lossy().ends_with(".db-wal") {
            return Outcome::Serve;
        }
        let left = reads_left.load(Ordering::Relaxed);
        reads_left.fetch_sub(u32::from(left > 0), Ordering::Relaxed);
        if left % 2 == 1 { Outcome::NoBytes } else { Outcome::Serve }
    })
}

#[test]
fn an_application_that_writes_during_attach_does_not_end_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let (context, watched) = context(dir.path(), &database, Arc::new(SystemClock::default()));
    let (objects, source) = (context.objects.clone(), watched.source.clone());
    let begin = |context| Watch::begin(context, watched.clone(), CaptureOptions::default(), Arc::new(|_| {}));
    begin(context.clone()).unwrap().run(&AtomicBool::new(true)).unwrap();

    app.sql("INSERT INTO t VALUES('committed between')");
    let reads_left = Arc::new(AtomicU32::new(3000)); // more than one look makes
    let env = Env::system().with_fs(Arc::new(restarting(Arc::clone(&reads_left))));
    let reopened = Objects::open(&Location::Folder(dir.path().join("repo")), &env).unwrap();
    let mut watch = begin(EngineContext { objects: reopened, ..context }).unwrap();
    assert_eq!(reads_left.load(Ordering::Relaxed), 0);
    assert_drains_exactly(&mut watch, &mut app, &objects, &source, dir.path());
}

#[test]
fn a_base_read_across_several_checkpoints_is_one_state() {
    // FAILURES 3
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(8000000))");
    }
    let store = TestStore::memory().answering(|request| match request {
        Request::Put(path) if path.starts_with("packs/") => Answer::ServeAfter(Duration::from_millis(400)),
        _ => Answer::Serve,
    });
    let objects = Objects::with_store(Arc::new(store)).unwrap();
    let (context, watched) = context_of(objects.clone(), &database);
    let source = watched.source.clone();
    let taken = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&taken);
    let events: Events = Arc::new(move |event| {
        if matches!(event, Event::Snapshot { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let watch = Watch::begin(context, watched, CaptureOptions::default(), events).unwrap();
    let (stop, mut checkpoints) = (AtomicBool::new(false), 0);
    let copy = dir.path().join("copy.db");
    std::thread::scope(|scope| {
        let end = &stop;
        let running = scope.spawn(move || watch.run(end));
        while taken.load(Ordering::Relaxed) == 0 && !running.is_finished() {
            // Overwrite every page of the base, and checkpoint repeatedly.
            app.sql("UPDATE t SET x = randomblob(200000) WHERE id = 1 + abs(random()) % 3");
            app.sql("PRAGMA wal_checkpoint(PASSIVE)");
            checkpoints += 1;
        }
        app.sql("INSERT INTO t(x) VALUES('last')");
        app.copy(&copy);
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap();
    });
    assert!(checkpoints > 5, "{checkpoints}");
    let restored = dir.path().join("restored.db");
    restore(&objects, &source, None, &restored);
    assert_exact(&restored, &copy);
}

#[test]
fn a_clock_set_far_back_begins_a_timeline_and_both_histories_are_kept() {
    // FAILURES 15: clock set back by more than five minutes.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let clock = Arc::new(SetClock::default());
    let (context, watched) = context(dir.path(), &database, clock.clone());
    let (objects, source) = (context.objects.clone(), watched.source.clone());
    let options = CaptureOptions { ship_every: Duration::from_millis(50), ..CaptureOptions::default() };
    let forks = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&forks);
    let events: Events = Arc::new(move |event| {
        if matches!(event, Event::Forked { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let watch = Watch::begin(context, watched, options, events).unwrap();
    let stop = AtomicBool::new(false);
    let copy = |app: &mut pitr_testkit::App, name: &str| {
        let path = dir.path().join(name);
        app.copy(&path);
        path
    };
    let (before, after) = std::thread::scope(|scope| {
        let end = &stop;
        let running = scope.spawn(move || watch.run(end));
        app.sql("INSERT INTO t VALUES('before')");
        std::thread::sleep(Duration::from_millis(300));
        let before = copy(&mut app, "before.db");
        clock.set(-3_600_000_000);
        while forks.load(Ordering::Relaxed) == 0 && !running.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        app.sql("INSERT INTO t VALUES('after')");
        let after = copy(&mut app, "after.db");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(running.join().unwrap().unwrap().commits, 2);
        (before, after)
    });
    let restored = dir.path().join("restored.db");
    restore(&objects, &source, None, &restored);
    assert_exact(&restored, &after);
    let first = dir.path().join("first.db");
    restore(&objects, &source, Some(1), &first);
    assert_exact(&first, &before);
    // A time that the clock showed twice identifies no state.
    let history = History::load(&objects, &source, None).unwrap();
    let twice = Target::at(RecoveryTarget::Timestamp(clock.now()));
    assert!(matches!(history.resolve(&twice), Err(pitr_recovery::Error::TargetUnreachable { .. })));
}
