//! The capture protocol.

use crate::exactly::{Watched, application};
use pitr_sqlite::Error;
use pitr_sqlite::KeeperOptions;
use pitr_sqlite::parts::BaseView;

const EAGER: KeeperOptions = KeeperOptions { soft_bytes: 64 << 10, hard_bytes: 128 << 10 };

#[test]
fn every_commit_is_captured_across_restarts_of_the_wal() {
    // FAILURES 2, 4: other connections checkpoint between looks, and the `-wal` file restarts with
    // stale frames after the new ones.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO t(x) VALUES('a')");
    let mut watched = Watched::start(dir.path(), &database, EAGER);
    let mut restarts = 0;
    let mut salts = watched.capture.position().salts;
    let copy = dir.path().join("copy.db");
    for tx in 1..=300u64 {
        match tx % 7 {
            0 => app.sql(&format!("DELETE FROM t WHERE id % 5 = {}", tx % 5)),
            3 => app.sql(&format!("UPDATE t SET x = randomblob({}) WHERE id % 3 = {}", 500 + tx, tx % 3)),
            _ => app.sql(&format!(
                "BEGIN; INSERT INTO t(x) VALUES(randomblob({})); INSERT INTO t(x) VALUES('{tx}'); COMMIT",
                tx * 20
            )),
        };
        if tx % 5 == 0 {
            app.sql("PRAGMA wal_checkpoint(PASSIVE)");
        }
        if tx % 11 == 0 {
            app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        }
        watched.until(tx);
        if tx % 13 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(120));
            watched.step();
        }
        watched.replay(tx);
        if tx % 10 == 0 {
            let _ = std::fs::remove_file(&copy);
            app.copy(&copy);
            watched.assert_exact(&copy);
        }
        if watched.capture.position().salts != salts {
            salts = watched.capture.position().salts;
            restarts += 1;
        }
    }
    assert!(restarts > 2, "the -wal file restarted only {restarts} times");
    println!("300 transactions, {restarts} restarts of the log");
}

#[test]
fn a_base_is_its_state_although_a_checkpoint_skipped_pages_that_changed_after_it() {
    // FAILURES 3: a checkpoint takes the newest frame of each page. If a reader forbids that frame,
    // the checkpoint skips the page, and still counts the page's older frames as backfilled.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES('before')");
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let mut watched = Watched::start(dir.path(), &database, KeeperOptions::default());
    app.sql("UPDATE t SET x = 'the base'");
    watched.until(1);
    watched.step(); // the read transaction is now at this commit
    let copy = dir.path().join("copy.db");
    app.copy(&copy);
    app.sql("UPDATE t SET x = 'later'");
    app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    let view = BaseView::at_position(&watched.source, watched.capture.position()).unwrap();
    watched.file = vec![0; view.len() as usize];
    view.read(0, &mut watched.file).unwrap();
    drop(view);
    watched.assert_exact(&copy);
    // The sample is not compared with the skipped page either.
    watched.capture.compare_all();
    watched.until(2);
}

#[test]
fn rollbacks_and_spills_leave_no_trace() {
    // FAILURES 10
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; PRAGMA cache_size=10; CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)");
    let mut watched = Watched::start(dir.path(), &database, EAGER);
    for tx in 1..=20u64 {
        app.sql("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300) INSERT INTO t(x) SELECT randomblob(1000) FROM n");
        watched.step();
        app.sql("ROLLBACK");
        watched.step();
        app.sql("BEGIN; INSERT INTO t(x) VALUES(1); SAVEPOINT s; INSERT INTO t(x) SELECT randomblob(3000) FROM t LIMIT 50; ROLLBACK TO s; INSERT INTO t(x) VALUES(2); COMMIT");
        watched.until(tx);
        watched.replay(tx);
    }
    let copy = dir.path().join("copy.db");
    app.copy(&copy);
    watched.assert_exact(&copy);
}

#[test]
fn captured_commits_are_durable_before_the_wal_may_restart() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let Watched { mut source, mut capture, .. } =
        Watched::start(dir.path(), &database, KeeperOptions::default());
    app.sql("INSERT INTO t VALUES(1)");
    capture.look(&source).unwrap();
    let salts = capture.position().salts;
    // Frames after the old transaction are not backfilled: the `-wal` file can't restart, and can
    // be read again after a crash.
    source.hand_over(capture.position(), || panic!("the log can't restart")).unwrap();
    assert!(!source.may_restart());
    assert!(source.checkpoint().unwrap().is_some_and(|p| p.frames == p.backfilled));
    // The captured transaction is not durable, so the old read transaction stays open.
    assert!(source.hand_over(capture.position(), || Err(Error::LockLost)).is_err());
    app.sql("INSERT INTO t VALUES(2)");
    capture.look(&source).unwrap();
    assert_eq!(capture.position().salts, salts);
    assert!(!source.may_restart());
    source.hand_over(capture.position(), || panic!("the log can't restart")).unwrap();
    source.checkpoint().unwrap();
    let mut synced = false;
    let sync = || {
        synced = true;
        Ok(())
    };
    source.hand_over(capture.position(), sync).unwrap();
    assert!(synced && source.may_restart());
    app.sql("INSERT INTO t VALUES(3)");
    capture.look(&source).unwrap();
    assert_ne!(capture.position().salts, salts);
}

#[test]
fn the_read_transaction_leaves_lock_0_at_the_first_commit() {
    // FAILURES 39: while the watcher holds read lock 0, each commit of an application with a large
    // `-wal` file sorts the whole file in vain.
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("app.db");
    let mut app = application(&database);
    app.sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(0)");
    let mut watched =
        Watched::start(dir.path(), &database, KeeperOptions { soft_bytes: 0, hard_bytes: u64::MAX });
    for _ in 0..5 {
        while !watched.source.may_restart() {
            watched.step();
        }
        app.sql("INSERT INTO t VALUES(1)");
        watched.step();
        assert!(!watched.source.may_restart());
    }
}
