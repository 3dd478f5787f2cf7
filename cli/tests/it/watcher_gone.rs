//! Changes of a source while no watcher runs.

use crate::world::{World, now, pause};

#[test]
fn a_hole_is_refused_and_listed() {
    // FAILURES 1. With a long RPO, only the liveness mark proves the quiet moment before the kill.
    let mut world = World::new();
    let mut app = world.application();
    let mut watcher = world.watch_with(&["--rpo", "30s"]);
    watcher.until("snapshot"); // after a gap, commits before the first base can't be restored
    for i in 0..20 {
        app.sql(&format!("INSERT INTO t(x) VALUES({i})"));
    }
    let before = world.copy(&mut app);
    pause(400);
    let moment_before = now();
    pause(400);
    watcher.kill();
    for i in 0..10 {
        app.sql(&format!("INSERT INTO t(x) VALUES('unseen {i}')"));
    }
    let inside = world.copy(&mut app);
    let moment_inside = now();
    pause(200);
    assert!(app.sql("PRAGMA wal_checkpoint(TRUNCATE)").starts_with('0'));
    for i in 0..10 {
        app.sql(&format!("INSERT INTO t(x) VALUES('unseen too {i}')"));
    }
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('seen')");
    let after = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &[], &after);
    // Transaction numbers continue after the gap, so that none is used twice.
    world.assert_exact("tx:21", &[], &after);
    let log = world.done(&["log"]);
    let numbers: Vec<_> =
        log["transactions"].as_array().unwrap().iter().map(|t| t["tx"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=21).collect::<Vec<_>>());
    world.assert_exact("tx:20", &[], &before);
    world.assert_exact(&moment_before, &[], &before);
    let (answer, output) = world.restore(&moment_inside, &[]);
    match answer.code {
        3 => assert!(answer.stderr.contains("nearest"), "{}", answer.stderr),
        0 => assert_eq!(pitr::exact::compare(&output, &inside).unwrap(), None),
        code => panic!("exit {code}: {}", answer.stderr),
    }
    let info = world.done(&["info"]);
    let gaps = info["sources"][0]["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{info}");
    assert!(gaps[0]["reason"].as_str().unwrap().contains("restarted"), "{info}");
}

#[test]
fn an_orderly_stop_leaves_no_gap_if_the_log_is_removed_afterwards() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES(2)");
    pause(300);
    watcher.stop();
    // The application closes its last connection: SQLite removes the log and begins a new one.
    app.reopen();
    app.sql("INSERT INTO t(x) VALUES(3)");
    app.sql("INSERT INTO t(x) VALUES(4)");
    let copy = world.copy(&mut app);
    let watcher = world.watch();
    watcher.stop();
    let info = world.done(&["info"]);
    assert_eq!(info["sources"][0]["gaps"].as_array().unwrap().len(), 0, "{info}");
    world.assert_exact("latest", &[], &copy);
    assert_eq!(world.done(&["log"])["transactions"].as_array().unwrap().len(), 3);
}

#[test]
fn a_source_that_lost_commits_forks_and_both_histories_stay() {
    // A power loss under synchronous=NORMAL loses commits; the log continues with the same salts
    // (FAILURES 40).
    let mut world = World::new();
    let mut app = world.application();
    app.sql("PRAGMA wal_autocheckpoint=0");
    let mut watcher = world.watch();
    watcher.until("snapshot");
    for i in 1..=5 {
        app.sql(&format!("INSERT INTO t(x) VALUES({i})"));
    }
    let common = world.copy(&mut app);
    for suffix in ["", "-wal"] {
        std::fs::copy(with(&world, suffix), world.path(&format!("survived{suffix}"))).unwrap();
    }
    for i in 6..=8 {
        app.sql(&format!("INSERT INTO t(x) VALUES('lost {i}')"));
    }
    let lost = world.copy(&mut app);
    pause(700);
    watcher.kill();
    app.kill();
    for suffix in ["", "-wal"] {
        std::fs::rename(world.path(&format!("survived{suffix}")), with(&world, suffix)).unwrap();
    }
    std::fs::remove_file(with(&world, "-shm")).unwrap();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('another sixth')");
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('another seventh')");
    let latest = world.copy(&mut app);
    pause(700);
    world.assert_exact("latest", &[], &latest);
    world.assert_exact("tx:8", &["--timeline", "1"], &lost);
    world.assert_exact("tx:5", &[], &common);
    let info = world.done(&["info"]);
    let timelines: Vec<_> =
        info["sources"][0]["restorable"].as_array().unwrap().iter().map(|r| r["timeline"].clone()).collect();
    assert_eq!(timelines, [1, 2], "{info}");
    watcher.stop();
}

#[test]
fn a_replaced_database_gets_a_new_base_after_a_gap() {
    // FAILURES 9
    let mut world = World::new();
    let mut app = world.application();
    let mut watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('old')");
    let old = world.copy(&mut app);
    pause(700);
    app.kill();
    let other = world.path("other.db");
    let mut maker = pitr_testkit::App::start("application", &other);
    maker.sql("PRAGMA page_size=1024; PRAGMA journal_mode=WAL; CREATE TABLE other(y); INSERT INTO other VALUES(1),(2)");
    maker.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    drop(maker);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(with(&world, suffix));
        let _ = std::fs::remove_file(world.path(&format!("other.db{suffix}")));
    }
    std::fs::rename(&other, world.database()).unwrap();
    watcher.until("watched from now on");
    let mut app = pitr_testkit::App::start("application", &world.database());
    app.sql("INSERT INTO other VALUES(3)");
    let new = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &[], &new);
    world.assert_exact("tx:1", &[], &old);
    let info = world.done(&["info"]);
    let gaps = info["sources"][0]["gaps"].as_array().unwrap();
    assert!(gaps[0]["reason"].as_str().unwrap().contains("replaced"), "{info}");
}

#[test]
fn a_lost_local_log_forks_after_a_gap() {
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES(1)");
    let first = world.copy(&mut app);
    watcher.stop();
    std::fs::remove_dir_all(world.path("app.db-pitr")).unwrap();
    app.sql("INSERT INTO t(x) VALUES(2)");
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES(3)");
    let third = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &[], &third);
    world.assert_exact("tx:1", &["--timeline", "1"], &first);
}

fn with(world: &World, suffix: &str) -> std::path::PathBuf {
    pitr::sqlite::parts::with_suffix(&world.database(), suffix)
}
