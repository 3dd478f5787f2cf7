//! A source that the repository knows at another location, and a clock that was ahead.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use pitr_archive::{Archive, Origin, Writer};
use pitr_engine::{CaptureOptions, EngineContext, Events, LiveSource};
use pitr_sqlite::Error;
use pitr_sqlite::watch::Watch;
use pitr_testkit::App;
use pitr_vfs::SystemClock;

use crate::attacks::SetClock;
use crate::exactly::{application, assert_exact};
use crate::watching::{context, restore};

/// A database in WAL mode with one row.
fn database(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("app.db");
    application(&path).sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    path
}

fn backup(
    context: &EngineContext,
    watched: &LiveSource,
    options: CaptureOptions,
) -> Result<Vec<String>, Error> {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&reported);
    let events: Events = Arc::new(move |event| record.lock().unwrap().push(format!("{event:?}")));
    Watch::begin(context.clone(), watched.clone(), options, events)?.snapshot_once(false)?;
    let reported = reported.lock().unwrap().clone();
    Ok(reported)
}

/// Stops the watch, and asserts that the restored database equals the application's.
fn assert_stops_exactly(
    watch: Watch,
    app: &mut App,
    context: &EngineContext,
    watched: &LiveSource,
    dir: &Path,
) {
    let (copy, restored) = (dir.join("copy.db"), dir.join("restored.db"));
    app.copy(&copy);
    watch.run(&AtomicBool::new(true)).unwrap();
    restore(&context.objects, &watched.source, None, &restored);
    assert_exact(&restored, &copy);
}

/// Writes the statement that another machine backed up the source, from the same path or another
/// path.
fn move_origin(context: &EngineContext, watched: &LiveSource, change: impl Fn(&mut Origin)) {
    let archive = Archive::new(context.objects.clone(), watched.source.clone());
    let mut origin = archive.origin().unwrap().unwrap();
    change(&mut origin);
    Writer::claim(&archive, context.env().clock.now()).unwrap().state_origin(&origin).unwrap();
}

#[test]
fn another_host_is_refused_unless_the_local_log_is_here() {
    // FAILURES 50
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let (context, watched) = context(dir.path(), &database, Arc::new(SystemClock::default()));
    let options = CaptureOptions::default();
    backup(&context, &watched, options).unwrap();
    // A recreated container on its old volume.
    move_origin(&context, &watched, |origin| origin.host = "another".into());
    backup(&context, &watched, options).unwrap();
    // Two machines with the same path.
    move_origin(&context, &watched, |origin| origin.host = "another".into());
    std::fs::remove_dir_all(&watched.state).unwrap();
    let refused = backup(&context, &watched, options).unwrap_err();
    assert!(matches!(&refused, Error::OtherPlace { was_host, .. } if was_host == "another"), "{refused}");
    assert!(!watched.state.exists(), "nothing was created");
    backup(&context, &watched, CaptureOptions { adopt: true, ..options }).unwrap();
    backup(&context, &watched, options).unwrap();
    // Two machines with the same name.
    move_origin(&context, &watched, |origin| origin.machine = Some([7; 16]));
    std::fs::remove_dir_all(&watched.state).unwrap();
    let outcome = backup(&context, &watched, options);
    let has_identity = Path::new("/etc/machine-id").metadata().is_ok_and(|file| file.len() > 0);
    assert_eq!(matches!(outcome, Err(Error::OtherPlace { .. })), has_identity, "{outcome:?}");
}

#[test]
fn a_copied_local_log_does_not_admit_another_path() {
    // FAILURES 13, 50: a copy with its state folder must not take the original's place.
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let (context, watched) = context(dir.path(), &database, Arc::new(SystemClock::default()));
    backup(&context, &watched, CaptureOptions::default()).unwrap();
    move_origin(&context, &watched, |origin| {
        (origin.given, origin.resolved) = ("/elsewhere/app.db".into(), "/elsewhere/app.db".into());
    });
    let refused = backup(&context, &watched, CaptureOptions::default());
    assert!(matches!(refused, Err(Error::OtherPlace { .. })), "{refused:?}");
}

/// Backs up, sets the clock back by `behind` microseconds, and backs up again. Returns the events
/// of the second backup and the number of the newest timeline.
fn after_a_clock_that_was_ahead(behind: i64) -> (Vec<String>, u32) {
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let clock = Arc::new(SetClock::default());
    let (context, watched) = context(dir.path(), &database, clock.clone());
    backup(&context, &watched, CaptureOptions::default()).unwrap();
    clock.set(-behind);
    let mut app = application(&database);
    app.sql("INSERT INTO t VALUES(2)");
    let reported = backup(&context, &watched, CaptureOptions::default()).unwrap();
    // The source can also be watched.
    let watch =
        Watch::begin(context.clone(), watched.clone(), CaptureOptions::default(), Arc::new(|_| {})).unwrap();
    app.sql("INSERT INTO t VALUES(3)");
    assert_stops_exactly(watch, &mut app, &context, &watched, dir.path());
    let catalog = Archive::new(context.objects.clone(), watched.source.clone()).catalog().unwrap();
    (reported, catalog.newest_timeline().unwrap().get())
}

#[test]
fn a_clock_that_was_ahead_does_not_prevent_protection() {
    // FAILURES 56
    let (reported, timeline) = after_a_clock_that_was_ahead(86_400_000_000);
    let forked = |event: &String| event.contains("Forked") && event.contains("ClockSetBack");
    assert_eq!((reported.iter().filter(|event| forked(event)).count(), timeline), (1, 2), "{reported:?}");
    assert!(!reported.iter().any(|event| event.contains("Gap")), "{reported:?}");
}

#[test]
fn a_clock_that_was_slightly_ahead_is_reported_and_waited_for() {
    // FAILURES 56
    let (reported, timeline) = after_a_clock_that_was_ahead(60_000_000);
    let behind = reported.iter().filter(|event| event.contains("ClockBehind")).count();
    assert_eq!((behind, timeline), (1, 1), "{reported:?}");
    let (reported, timeline) = after_a_clock_that_was_ahead(0);
    assert!(!reported.iter().any(|event| event.contains("Clock")), "{reported:?}");
    assert_eq!(timeline, 1);
}

#[test]
fn a_clock_set_back_before_the_end_does_not_prevent_the_drain() {
    // FAILURES 15, 56
    let dir = tempfile::tempdir().unwrap();
    let database = database(dir.path());
    let clock = Arc::new(SetClock::default());
    let (context, watched) = context(dir.path(), &database, clock.clone());
    let watch =
        Watch::begin(context.clone(), watched.clone(), CaptureOptions::default(), Arc::new(|_| {})).unwrap();
    let mut app = application(&database);
    app.sql("INSERT INTO t VALUES(2)");
    clock.set(-86_400_000_000);
    assert_stops_exactly(watch, &mut app, &context, &watched, dir.path());
}
