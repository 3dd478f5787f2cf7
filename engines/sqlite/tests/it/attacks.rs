//! What applications and their deaths do to a watcher.

use std::os::unix::fs::FileExt;

use crate::exactly::{Watched, application};
use pitr_sqlite::keeper::KeeperOptions;
use pitr_sqlite::source::with_suffix;
use pitr_sqlite::wal::{Checksum, WalFile};
use pitr_vfs::{Access, FileSystem, OsFs};

const EAGER: KeeperOptions = KeeperOptions { soft_bytes: 64 << 10, hard_bytes: 128 << 10 };

#[test]
fn our_own_descriptors_never_drop_our_locks() {
    // FAILURES 38: an application's TRUNCATE must not remove frames that we have not read.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t(x) VALUES(1)");
    // Takes a base, and drops the view with its share of the database's descriptor.
    let mut watched = Watched::start(dir.path(), &database, KeeperOptions::default());
    for tx in 1..=6 {
        app.sql(&format!("INSERT INTO t(x) VALUES('unread {tx}')"));
        let answer = app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        assert!(answer.starts_with("1|"), "TRUNCATE went through under our read transaction: {answer}");
    }
    watched.until(6);
    watched.replay(6);
    let copy = dir.path().join("copy.db");
    app.copy(&copy);
    watched.assert_exact(&copy);
}

#[test]
fn a_commit_that_was_never_published_never_happened() {
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

    // A frame as the dead writer left it: right salts, right sums, a commit.
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
    // Our reader would take it, were it asked to.
    let mut frames = watched.source.log().frames(header, position.frame, position.checksum);
    assert_eq!(frames.next(position.frame + 1).unwrap().commit_pages, 2);

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
fn an_application_without_a_busy_timeout_is_hardly_disturbed() {
    // FAILURES 39: "database is locked" comes from us only while we hold the write lock, and that is rare and short.
    const COMMITS: u64 = 2000; // about 25 MB of log
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
            "{name}: BUSY {busy} times though we never took the write lock"
        );
        assert!(held.len() < 1000, "{name}: the write lock was taken {} times", held.len());
        if name == "eager" {
            let log_bytes = std::fs::metadata(with_suffix(&database, "-wal")).unwrap().len();
            assert!(log_bytes < 16 << 20, "the log was let grow to {log_bytes} bytes");
        }
    }
}

#[test]
fn closing_the_last_connection_keeps_the_log() {
    // NO_CKPT_ON_CLOSE alone keeps SQLite from checkpointing and removing the log: PERSIST_WAL has nothing to add.
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
