//! Databases of many shapes: the restored latest state is exact in content and length.

use crate::world::World;
use pitr_testkit::App;

const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400) INSERT INTO t(x) SELECT randomblob(700) FROM n";

#[test]
fn every_page_size_and_shrinking_files_are_exact() {
    // FAILURES 5, 6
    for (page_bytes, vacuum) in [(512, "NONE"), (1024, "FULL"), (4096, "INCREMENTAL"), (65_536, "NONE")] {
        let mut world = World::new();
        let mut app = App::start("application", &world.database());
        app.sql(&format!(
            "PRAGMA page_size={page_bytes}; PRAGMA auto_vacuum={vacuum}; PRAGMA journal_mode=WAL"
        ));
        app.sql(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, x); {FILL}"));
        let watcher = world.watch();
        app.sql("DELETE FROM t WHERE id > 50");
        app.sql("PRAGMA incremental_vacuum; INSERT INTO t(x) VALUES(1)");
        let shrunk = world.copy(&mut app);
        // The number of transactions differs between shapes; a snapshot archives all of them.
        world.done(&["backup", &world.database().to_string_lossy()]);
        let transactions = world.done(&["log"])["transactions"].as_array().unwrap().len();
        app.sql(FILL);
        app.sql("DELETE FROM t WHERE id % 3 = 0");
        app.sql("VACUUM");
        let last = world.copy(&mut app);
        watcher.stop();
        world.assert_exact("latest", &[], &last);
        world.assert_exact(&format!("tx:{transactions}"), &[], &shrunk);
    }
}

#[test]
fn a_page_size_changed_without_a_watcher_begins_a_new_base() {
    // FAILURES 6
    let mut world = World::new();
    let mut app = world.application();
    app.sql(FILL);
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('small pages')");
    let small = world.copy(&mut app);
    watcher.stop();
    app.sql("PRAGMA journal_mode=DELETE; PRAGMA page_size=16384; VACUUM; PRAGMA journal_mode=WAL");
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('large pages')");
    let large = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("tx:1", &[], &small);
    world.assert_exact("latest", &[], &large);
    let info = world.done(&["info"]);
    let gaps = info["sources"][0]["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{info}");
    assert!(gaps[0]["reason"].as_str().unwrap().contains("page size"), "{info}");
}

#[test]
fn a_large_and_a_spilled_rolled_back_transaction_are_exact() {
    // FAILURES 10
    let mut world = World::new();
    let mut app = world.application();
    app.sql("PRAGMA cache_size=20");
    let watcher = world.watch();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2500) INSERT INTO t(x) SELECT randomblob(10000) FROM n";
    app.sql(&format!("BEGIN; {many}; ROLLBACK"));
    app.sql(&format!("BEGIN; {many}; COMMIT")); // 25 MB
    let first = world.copy(&mut app);
    // Returns when all of it is archived: that takes memory too.
    world.done(&["point", "create", "first"]);
    let (small, large) = (watcher.memory_peak(), format!("{many}; {many}; {many}"));
    app.sql(&format!("BEGIN; {large}; COMMIT"));
    let grown = watcher.memory_peak() - small;
    let copy = world.copy(&mut app);
    let (summary, grown) = (watcher.stop(), grown / 1_000_000);
    assert_eq!(summary["commits"], 2);
    assert!(grown < 20, "three times the size takes {grown} MB of memory more");
    world.assert_exact("latest", &[], &copy);
    world.assert_exact("tx:1", &["--workers", "3"], &first);
}

#[test]
fn ten_thousand_small_transactions_are_restored_one_by_one() {
    // FAILURES 10
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    let mut copies = Vec::new();
    for half in [1, 2] {
        app.sql(&format!("INSERT OR REPLACE INTO t(id, x) VALUES(1, {half});").repeat(5_000));
        copies.push(world.copy(&mut app));
    }
    assert_eq!(watcher.stop()["commits"], 10_000);
    world.assert_exact("tx:5000", &[], &copies[0]);
    world.assert_exact("tx:5001", &["--exclusive"], &copies[0]);
    world.assert_exact("latest", &[], &copies[1]);
    assert_eq!(world.done(&["log"])["transactions"].as_array().unwrap().len(), 10_000);
}

#[test]
fn a_long_watch_drops_archived_log_and_can_be_resumed() {
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    for _ in 0..16 {
        app.sql("INSERT OR REPLACE INTO t(id, x) VALUES(1, randomblob(3000000))");
        app.sql("PRAGMA wal_checkpoint(PASSIVE)");
        crate::world::pause(120);
    }
    watcher.stop();
    let log = world.path("app.db-pitr/timeline-00000001");
    let names =
        std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
    segments.sort();
    assert!(
        segments[0] > format!("{:0>16}.seg", 1),
        "the first segment is archived and removed: {segments:?}"
    );
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES('resumed')");
    let copy = world.copy(&mut app);
    watcher.stop();
    let info = world.done(&["info"]);
    assert_eq!(info["sources"][0]["gaps"].as_array().unwrap().len(), 0, "{info}");
    world.assert_exact("latest", &[], &copy);
}
