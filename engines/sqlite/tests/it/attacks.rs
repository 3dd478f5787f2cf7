//! Behaviour of applications that could harm a watcher: checkpoints, crashes, clock changes.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::exactly::{Watched, application};
use pitr_format::record::Record;
use pitr_format::{Lsn, Timestamp};
use pitr_sqlite::Error;
use pitr_sqlite::KeeperOptions;
use pitr_sqlite::parts::with_suffix;
use pitr_sqlite::parts::{Checksum, WalFile};
use pitr_vfs::{Access, Clock, FileSystem, OsFs, SystemClock};
use pitr_wal::Records;

const EAGER: KeeperOptions = KeeperOptions { soft_bytes: 64 << 10, hard_bytes: 128 << 10 };

/// True if this process holds SQLite's shared lock on the database file. Only Linux shows locks;
/// elsewhere it returns true.
fn holds_shared_lock(database: &Path) -> bool {
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return true };
    let inode = format!(":{}", std::fs::metadata(database).unwrap().ino());
    let ours = std::process::id().to_string();
    locks.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, "POSIX", _, "READ", pid, file, "1073741826", _] if pid == ours && file.ends_with(&inode))
    })
}

#[test]
fn our_own_descriptors_never_drop_our_locks() {
    // FAILURES 38: neither an application's TRUNCATE nor the close of its last connection may
    // remove unread frames.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t(x) VALUES(1)");
    // This snapshot takes a base. Then it drops the view, which shares the database's descriptor.
    let mut watched = Watched::start(dir.path(), &database, KeeperOptions::default());
    for tx in 1..=6 {
        app.sql(&format!("INSERT INTO t(x) VALUES('unread {tx}')"));
        let answer = app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        assert!(answer.starts_with("1|"), "TRUNCATE succeeded despite our read transaction: {answer}");
    }
    for tx in 7..=9 {
        watched.step();
        app.sql(&format!("INSERT INTO t(x) VALUES('unread {tx}')"));
        app.reopen();
        // SQLite 3.51 also detects the watcher through the wal-index. An older application relies
        // on this lock alone.
        assert!(holds_shared_lock(&database));
    }
    watched.until(9);
    watched.replay(9);
    let copy = dir.path().join("copy.db");
    app.copy(&copy);
    watched.assert_exact(&copy);
}

#[test]
fn an_unpublished_commit_is_never_captured() {
    // FAILURES 44: the writer dies between its commit frame and the index.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(id INTEGER PRIMARY KEY, x)",
    );
    let mut watched = Watched::start(dir.path(), &database, KeeperOptions::default());
    app.sql("INSERT INTO t(x) VALUES('published')");
    watched.until(1);
    let position = *watched.capture.position();

    // A frame as the killed writer left it: valid salts, valid sums, a commit.
    let path = with_suffix(&database, "-wal");
    let header = WalFile::new(OsFs.open(&path, Access::Read).unwrap()).header().unwrap().unwrap();
    let page = vec![0x5a; header.page_bytes as usize];
    let mut frame = Vec::new();
    frame.extend_from_slice(&2u32.to_be_bytes());
    frame.extend_from_slice(&2u32.to_be_bytes());
    let Checksum { s0, s1 } = position.checksum.over(&frame, false).over(&page, false);
    frame.extend_from_slice(&header.salts.0);
    frame.extend_from_slice(&s0.to_be_bytes());
    frame.extend_from_slice(&s1.to_be_bytes());
    frame.extend_from_slice(&page);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let offset = 32 + u64::from(position.frame) * (24 + u64::from(header.page_bytes));
    file.write_all_at(&frame, offset).unwrap();
    // The frame reader accepts the frame if it is told to read that far.
    let mut frames = watched.source.log().frames(header, position.frame, position.checksum);
    assert_eq!(frames.next(position.frame + 1).unwrap().commit_pages, 2);
    // FAILURES 4: the reader never accepts a frame with wrong salts or sums.
    for at in [9, 17, 24, frame.len() - 1] {
        let mut stale = frame.clone();
        stale[at] ^= 1;
        file.write_all_at(&stale, offset).unwrap();
        let mut frames = watched.source.log().frames(header, position.frame, position.checksum);
        assert!(matches!(frames.next(position.frame + 1), Err(Error::FrameChanged { .. })), "byte {at}");
    }
    file.write_all_at(&frame, offset).unwrap();

    for _ in 0..10 {
        watched.step();
    }
    assert_eq!(watched.capture.last_tx().get(), 1);
    app.sql("INSERT INTO t(x) VALUES('the real second')");
    watched.until(2);
    watched.replay(2);
    let copy = dir.path().join("copy.db");
    app.copy(&copy);
    watched.assert_exact(&copy);
}

#[test]
fn an_application_without_a_busy_timeout_is_rarely_refused() {
    // FAILURES 39: the watcher causes "database is locked" only while it holds the write lock,
    // which is rare and short.
    const COMMITS: u64 = 2000; // about 25 MB of -wal
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [("default", KeeperOptions::default()), ("eager", EAGER)] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let database = dir.join("app.db");
        let mut app = application(&database);
        app.sql(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x)",
        );
        let mut watched = Watched::start(&dir, &database, options);
        let writer = std::thread::spawn(move || {
            let mut busy = 0u64;
            let mut done = 0;
            while done < COMMITS {
                match app.try_sql("INSERT INTO t(x) VALUES(randomblob(3000))") {
                    Ok(_) => {
                        done += 1;
                        std::thread::sleep(std::time::Duration::from_micros(500));
                    }
                    Err(e) => {
                        assert!(e.contains("locked"), "{e}");
                        busy += 1;
                    }
                }
            }
            (app, busy)
        });
        watched.until(COMMITS);
        let (mut app, busy) = writer.join().unwrap();
        watched.replay(COMMITS);
        let copy = dir.join("copy.db");
        app.copy(&copy);
        watched.assert_exact(&copy);
        let held = watched.keeper.write_lock_held();
        println!(
            "{name}: {COMMITS} commits, BUSY {busy} times, write lock held {} times: {held:.1?}",
            held.len()
        );
        assert!(
            busy == 0 || !held.is_empty(),
            "{name}: BUSY {busy} times although the watcher never took the write lock"
        );
        assert!(held.len() < 1000, "{name}: the write lock was taken {} times", held.len());
        if name == "eager" {
            let log_bytes = std::fs::metadata(with_suffix(&database, "-wal")).unwrap().len();
            assert!(log_bytes < 16 << 20, "the -wal file grew to {log_bytes} bytes");
        }
    }
}

#[test]
fn closing_the_last_connection_keeps_the_log() {
    // NO_CKPT_ON_CLOSE alone keeps SQLite from checkpointing and removing the `-wal` file.
    // PERSIST_WAL is not needed.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let watched = Watched::start(dir.path(), &database, KeeperOptions::default());
    app.sql("INSERT INTO t VALUES(1)");
    app.kill();
    drop(watched);
    assert!(std::fs::metadata(with_suffix(&database, "-wal")).unwrap().len() > 0);
}

/// The system's clock plus an offset that the test sets.
#[derive(Debug, Default)]
pub(crate) struct SetClock {
    system: SystemClock,
    offset_micros: AtomicI64,
}

impl SetClock {
    /// Sets the offset to the system's clock.
    pub(crate) fn set(&self, offset_micros: i64) {
        self.offset_micros.store(offset_micros, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.system.now().micros() + self.offset_micros.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

/// Reads from the local log each clock step in seconds, and the earliest time and timestamp of each
/// commit.
fn steps_and_times(watched: &Watched) -> (Vec<i64>, Vec<(Timestamp, Timestamp)>) {
    let (mut steps, mut times) = (Vec::new(), Vec::new());
    let mut reader = watched.wal.reader(Lsn::ORIGIN).unwrap();
    let mut records = Records::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        let taken = records.feed::<pitr_wal::Error>(&batch, |record| {
            match Record::decode(record.kind, record.payload).unwrap() {
                Record::ClockStep { from, to } => steps.push((to.micros() - from.micros()) / 1_000_000),
                Record::Commit(commit) => times.push((commit.earliest, commit.time)),
                _ => {}
            }
            Ok(())
        });
        taken.unwrap();
    }
    (steps, times)
}

#[test]
fn a_commit_time_is_between_the_previous_look_and_the_one_that_found_it() {
    // FAILURES 15
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let clock = Arc::new(SystemClock::new());
    let mut watched = Watched::start_by(clock.clone(), dir.path(), &database, KeeperOptions::default());
    let mut committed = Vec::new();
    for tx in 1..=5 {
        watched.step();
        let before = clock.now();
        app.sql(&format!("INSERT INTO t VALUES({tx})"));
        committed.push((before, clock.now()));
        std::thread::sleep(Duration::from_millis(3));
        watched.until(tx);
    }
    let (_, times) = steps_and_times(&watched);
    for ((before, after), (earliest, time)) in committed.into_iter().zip(times) {
        assert!(earliest <= before && after <= time, "{earliest} {before} {after} {time}");
    }
}

#[test]
fn clock_steps_are_logged_and_timestamps_never_decrease() {
    // FAILURES 15: clock set back, clock set forward.
    const MINUTE: i64 = 60_000_000;
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let clock = Arc::new(SetClock::default());
    let mut watched = Watched::start_by(clock.clone(), dir.path(), &database, KeeperOptions::default());
    for (tx, offset) in [(1, 0), (2, 10 * MINUTE), (3, 7 * MINUTE), (4, 7 * MINUTE)] {
        clock.set(offset);
        app.sql(&format!("INSERT INTO t VALUES({tx})"));
        watched.until(tx);
    }
    let (steps, times) = steps_and_times(&watched);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!((599..=601).contains(&steps[0]) && (-181..=-179).contains(&steps[1]), "{steps:?}");
    assert!(times.is_sorted_by_key(|(_, time)| *time), "{times:?}");
    assert!(times.iter().all(|(earliest, time)| earliest <= time), "{times:?}");
    assert_eq!(times[1].1, times[2].1.min(times[1].1), "the timestamp repeats until the clock has caught up");

    // A clock set back by more than five minutes needs a new timeline.
    clock.set(-MINUTE);
    let looked = watched.capture.look(&watched.source);
    assert!(matches!(looked, Err(pitr_sqlite::Error::ClockSetBack { .. })), "{looked:?}");
}
