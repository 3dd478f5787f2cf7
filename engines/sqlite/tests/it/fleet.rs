//! Fleets: many databases, and temporary loss of their files or the repository.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::exactly::{application, assert_exact};
use pitr_engine::{Capture, CaptureOptions, EngineContext, Event, Events, Found, LiveSource};
use pitr_format::{SourceName, Timestamp};
use pitr_objects::Objects;
use pitr_recovery::{Error, History, RecoveryTarget, Target, Why};
use pitr_sqlite::watch::Fleet;
use pitr_sqlite::watch::folder::FolderSearch;
use pitr_sqlite::{Sqlite, place};
use pitr_testkit::App;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    dir: tempfile::TempDir,
    context: EngineContext,
    send: Mutex<Sender<(String, Event)>>,
    received: Mutex<Receiver<(String, Event)>>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::create_local(dir.path().join("repo")).unwrap();
        let repository = objects.init_repository(objects.env().clock.now()).unwrap().id;
        let (send, received) = channel();
        let context = EngineContext { objects, repository };
        World { dir, context, send: Mutex::new(send), received: Mutex::new(received) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn watched(&self, name: &str) -> LiveSource {
        let database = self.path(&format!("{name}.db"));
        watched_at(name, &database)
    }

    fn events(&self, name: &str) -> Events {
        let (send, name) = (Mutex::new(self.send.lock().unwrap().clone()), name.to_owned());
        Arc::new(move |event| drop(send.lock().unwrap().send((name.clone(), event))))
    }

    fn fleet(&self) -> Fleet {
        let ship_every = Duration::from_millis(20);
        Fleet::new(self.context.clone(), CaptureOptions { ship_every, ..CaptureOptions::default() }).unwrap()
    }

    /// A fleet that watches the database of this name as soon as it exists.
    fn fleet_of(&self, name: &str) -> Fleet {
        let mut fleet = self.fleet();
        fleet.add_waiting(self.watched(name), self.events(name));
        fleet
    }

    fn next(&self) -> Option<(String, Event)> {
        self.received.lock().unwrap().recv_timeout(PATIENCE).ok()
    }

    /// Waits for an event of this kind; returns the events before it.
    fn wait(&self, name: &str, kind: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            let (of, event) = self.next().unwrap_or_else(|| panic!("{name}: {before:?}"));
            if of == name && kind(&event) {
                return before;
            }
            before.push(event);
        }
    }

    fn watching(&self, name: &str) -> Vec<Event> {
        self.wait(name, |event| matches!(event, Event::Watching))
    }

    /// Asserts that the restored database equals the application's.
    fn assert_restores(&self, name: &str, app: &mut App) {
        let (copy, restored) = (self.path("copy"), self.path("restored"));
        app.copy(&copy);
        crate::watching::restore(&self.context.objects, &SourceName::new(name).unwrap(), None, &restored);
        assert_exact(&restored, &copy);
        std::fs::remove_file(copy).unwrap();
        std::fs::remove_file(restored).unwrap();
    }

    /// Asserts that the log vouches for no state at this time.
    fn assert_in_gap(&self, name: &str, time: Timestamp) {
        let source = SourceName::new(name).unwrap();
        let history = History::load(&self.context.objects, &source, None).unwrap();
        let found = history.resolve(&Target::at(RecoveryTarget::Timestamp(time)));
        let Err(Error::TargetUnreachable(found)) = found else { panic!("{found:?}") };
        assert!(matches!(found.why, Why::WalGap(_)), "{found}");
    }

    /// Runs a fleet while `act` runs, then drains it.
    fn run(&self, fleet: Fleet, act: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let end = EndOnDrop(&stop);
            let running = scope.spawn(|| fleet.run(&stop, None));
            act();
            drop(end);
            for (name, outcome) in running.join().unwrap().unwrap() {
                outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        });
    }
}

fn watched_at(name: &str, database: &Path) -> LiveSource {
    Sqlite.source(&place::absent(database).unwrap(), SourceName::new(name).unwrap(), None)
}

/// Ends the fleet even if a test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn made(database: &Path) -> App {
    let mut app = application(database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    app
}

/// All files and folders below a folder.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.extend(if path.is_dir() { files_of(&path) } else { Vec::new() });
        found.push(path);
    }
    found.sort();
    found
}

fn is_gap(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Gap(_) | Event::Forked { .. }))
}

#[test]
fn a_database_that_appears_late_and_is_replaced_is_watched_again() {
    // FAILURES 9, 57
    let world = World::new();
    let fleet = world.fleet_of("app");
    let database = world.path("app.db");
    let mut app = None;
    world.run(fleet, || {
        world.wait("app", |event| matches!(event, Event::Waiting(_)));
        let mut first = made(&database);
        world.watching("app");
        first.sql("INSERT INTO t(x) VALUES('first')");
        drop(first);
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            std::fs::rename(world.path(name), world.path(&format!("old-{name}"))).unwrap();
        }
        world.wait("app", |event| matches!(event, Event::Waiting(_)));
        app = Some(made(&database));
        assert!(is_gap(&world.watching("app")));
        app.as_mut().unwrap().sql("INSERT INTO t(x) VALUES('second')");
    });
    world.assert_restores("app", &mut app.unwrap());
}

#[test]
fn an_unmounted_repository_is_waited_for_and_nothing_is_written_in_its_place() {
    // FAILURES 34, 57
    let world = World::new();
    let mut app = made(&world.path("app.db"));
    let fleet = world.fleet_of("app");
    world.run(fleet, || {
        world.wait("app", |event| matches!(event, Event::Snapshot { .. }));
        // A put that has started can't be cancelled: let it finish.
        std::thread::sleep(Duration::from_millis(500));
        let (repo, away) = (world.path("repo"), world.path("away"));
        std::fs::rename(&repo, &away).unwrap();
        std::fs::create_dir(&repo).unwrap();
        app.sql("INSERT INTO t(x) VALUES('while it was away')");
        world.wait("app", |event| matches!(event, Event::ShipFailed(_)));
        assert!(files_of(&repo).is_empty(), "{:?}", files_of(&repo));
        // The watch must not write to the other repository that is now in this place.
        let other = Objects::create_local(&repo).unwrap();
        other.init_repository(world.context.env().clock.now()).unwrap();
        let before = files_of(&repo);
        app.sql("INSERT INTO t(x) VALUES('beside another one')");
        std::thread::sleep(Duration::from_millis(500)); // several attempts to ship
        assert_eq!(files_of(&repo), before);
        std::fs::remove_dir_all(&repo).unwrap();
        std::fs::rename(&away, &repo).unwrap();
        let before = world.wait("app", |event| matches!(event, Event::ShipRecovered));
        assert!(!is_gap(&before));
    });
    world.assert_restores("app", &mut app);
}

#[test]
fn a_removed_state_folder_leads_to_a_gap() {
    // FAILURES 57
    let world = World::new();
    let mut app = made(&world.path("app.db"));
    let fleet = world.fleet_of("app");
    world.run(fleet, || {
        world.wait("app", |event| matches!(event, Event::Snapshot { .. }));
        // Nothing writes to the folder: the watcher detects the loss itself.
        std::fs::remove_dir_all(world.path("app.db-pitr")).unwrap();
        assert!(is_gap(&world.watching("app")));
        app.sql("INSERT INTO t(x) VALUES('later')");
    });
    world.assert_restores("app", &mut app);
}

#[test]
fn a_file_copied_over_a_watched_database_leads_to_a_gap_and_a_new_base() {
    // FAILURES 48, 49
    let world = World::new();
    let (database, other) = (world.path("app.db"), world.path("other.db"));
    let mut app = made(&database);
    app.sql("INSERT INTO t(x) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<2000) SELECT 'old' FROM n");
    let fleet = world.fleet_of("app");
    let mut copied_at = Timestamp::MIN;
    world.run(fleet, || {
        world.wait("app", |event| matches!(event, Event::Snapshot { .. }));
        app.copy(&other);
        let mut edited = application(&other);
        edited.sql(
            "PRAGMA journal_mode=WAL; UPDATE t SET x='new' WHERE id > 1000; PRAGMA wal_checkpoint(TRUNCATE)",
        );
        drop(edited);
        while !app.sql("PRAGMA wal_checkpoint(TRUNCATE)").starts_with("0|") {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Written in place by another process: see FAILURES 38.
        let copied = std::process::Command::new("cp").args([&other, &database]).status().unwrap();
        assert!(copied.success());
        copied_at = world.context.env().clock.now();
        assert!(is_gap(&world.watching("app")));
        app.reopen();
        app.sql("INSERT INTO t(x) VALUES('after')");
    });
    world.assert_restores("app", &mut app);
    world.assert_in_gap("app", copied_at);
}

#[test]
fn a_wal_removed_while_watched_leads_to_a_gap_and_a_new_base() {
    // FAILURES 48
    let world = World::new();
    let mut app = made(&world.path("app.db"));
    let fleet = world.fleet_of("app");
    let mut again = None;
    world.run(fleet, || {
        world.wait("app", |event| matches!(event, Event::Snapshot { .. }));
        app.sql("PRAGMA wal_checkpoint(PASSIVE); INSERT INTO t(x) VALUES('lost by hand')");
        drop(app);
        std::fs::remove_file(world.path("app.db-wal")).unwrap();
        std::fs::remove_file(world.path("app.db-shm")).unwrap();
        assert!(is_gap(&world.watching("app")));
        let mut app = application(&world.path("app.db"));
        app.sql("INSERT INTO t(x) VALUES('after')");
        again = Some(app);
    });
    world.assert_restores("app", &mut again.unwrap());
}

#[test]
fn a_database_overwritten_while_unwatched_is_detected_at_the_next_watch() {
    // FAILURES 48: the `-wal` file and its generation are unchanged, only the database file
    // differs.
    let world = World::new();
    let (database, other) = (world.path("app.db"), world.path("other.db"));
    let mut app = made(&database);
    app.sql("INSERT INTO t(x) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<2000) SELECT 'old' FROM n");
    app.copy(&other);
    let begin = || world.fleet_of("app");
    world.run(begin(), || {
        world.wait("app", |event| matches!(event, Event::Snapshot { .. }));
        app.sql("UPDATE t SET x='newer'");
    });
    app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    let copied = std::process::Command::new("cp").args([&other, &database]).status().unwrap();
    assert!(copied.success());
    world.run(begin(), || {
        assert!(is_gap(&world.watching("app")));
    });
}

#[test]
fn databases_of_a_folder_appear_and_disappear() {
    let world = World::new();
    let folder = world.path("tenants");
    std::fs::create_dir(&folder).unwrap();
    let mut apps: Vec<App> = (0..4).map(|n| made(&folder.join(format!("a{n}.db")))).collect();
    let mut search = FolderSearch::new(folder.clone(), Box::new(|_| true));
    let find = || {
        let found = search.next_found().unwrap().into_iter();
        let found = found.map(|relative| {
            let name = relative.file_stem().unwrap().to_str().unwrap().to_owned();
            Found { events: world.events(&name), live: watched_at(&name, &folder.join(relative)) }
        });
        found.collect()
    };
    let (fleet, stop) = (world.fleet(), AtomicBool::new(false));
    let mut late = None;
    std::thread::scope(|scope| {
        let end = EndOnDrop(&stop);
        let running = scope.spawn(|| fleet.run(&stop, Some(Box::new(find))));
        let mut captured = 0;
        while captured < 4 {
            let (_, event) = world.next().unwrap();
            captured += usize::from(matches!(event, Event::Snapshot { .. }));
        }
        for (n, app) in apps.iter_mut().enumerate() {
            app.sql(&format!("INSERT INTO t(x) VALUES({n})"));
        }
        let mut app = made(&folder.join("late.db"));
        world.watching("late");
        app.sql("INSERT INTO t(x) VALUES('late')");
        late = Some(app);
        drop(apps.pop());
        for name in ["a3.db", "a3.db-wal", "a3.db-shm"] {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        world.wait("a3", |event| matches!(event, Event::Removed));
        drop(end);
        let outcomes = running.join().unwrap().unwrap();
        assert_eq!(outcomes.len(), 5);
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    });
    for (n, app) in apps.iter_mut().enumerate() {
        world.assert_restores(&format!("a{n}"), app);
    }
    world.assert_restores("late", &mut late.unwrap());
}
