//! Every transaction of an application can be restored, by number and by time.

use crate::world::{World, now, pause};

#[test]
fn every_transaction_is_restored_by_number_and_by_time() {
    // FAILURES 15: a target exactly on a commit, exclusive, before the first commit, after the
    // last.
    let mut world = World::new();
    let mut app = world.application();
    app.sql("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t(x) VALUES('before')");
    let base = world.copy(&mut app);
    let watcher = world.watch();
    let mut copies = vec![base];
    let mut moments = Vec::new();
    for tx in 1..=40u64 {
        let statement = match tx % 6 {
            0 => format!("DELETE FROM t WHERE id % 7 = {}; INSERT INTO t(x) VALUES('kept')", tx % 7),
            1 => format!("INSERT OR REPLACE INTO w VALUES('k{}', randomblob(900))", tx % 9),
            2 => "UPDATE t SET x = x || 'y' WHERE id % 2 = 0; INSERT INTO t(x) VALUES(1)".to_owned(),
            3 => format!(
                "SAVEPOINT s; INSERT INTO t(x) VALUES('gone'); ROLLBACK TO s; INSERT INTO t(x) VALUES({tx})"
            ),
            _ => format!("INSERT INTO t(x) VALUES(randomblob({}))", tx * 40),
        };
        app.sql(&format!("BEGIN; {statement}; COMMIT"));
        copies.push(world.copy(&mut app));
        if tx % 5 == 0 {
            app.sql("PRAGMA wal_checkpoint(PASSIVE)");
            app.sql("BEGIN; INSERT INTO t(x) VALUES('never'); ROLLBACK");
        }
        if tx % 8 == 0 {
            // A distance to any commit that suffices even on a busy machine.
            pause(300);
            moments.push((now(), tx));
            pause(300);
        }
    }
    let summary = watcher.stop();
    assert_eq!(summary["commits"], 40);
    let log = world.done(&["log"]);
    let numbers: Vec<u64> =
        log["transactions"].as_array().unwrap().iter().map(|t| t["tx"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    for tx in 1..=40 {
        world.assert_exact(&format!("tx:{tx}"), &[], &copies[tx]);
        if tx % 3 == 0 {
            world.assert_exact(&format!("tx:{tx}"), &["--exclusive"], &copies[tx - 1]);
        }
    }
    for (moment, tx) in &moments {
        world.assert_exact(moment, &["--workers", "1"], &copies[*tx as usize]);
    }
    world.assert_exact("latest", &[], &copies[40]);
    let three = world.path("three.db");
    let restored =
        world.done(&["restore", "--to", "latest", "--output", &three.to_string_lossy(), "--workers", "3"]);
    assert_eq!(restored["workers"], 3);
    for unreachable in ["tx:41", "2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        assert_eq!(world.restore(unreachable, &[]).0.code, 3, "{unreachable}");
    }
    // `log --from --to` limits the list.
    let some = world.done(&["log", "--from", "tx:10", "--to", "tx:12"]);
    assert_eq!(some["transactions"].as_array().unwrap().len(), 3);
}

#[test]
fn first_contact_is_restorable_and_a_snapshot_reads_only_changes() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) INSERT INTO t(x) SELECT randomblob(500) FROM n");
    let first = world.copy(&mut app);
    let mut watcher = world.watch();
    watcher.until("snapshot");
    world.assert_exact("latest", &[], &first);
    app.sql("UPDATE t SET x = randomblob(500) WHERE id = 77");
    let second = world.copy(&mut app);
    // A running watcher takes the requested snapshot.
    let backup = world.done(&["backup", &world.database().to_string_lossy()]);
    assert_eq!(backup["kind"], "incremental");
    let changed = backup["changed_bytes"].as_u64().unwrap();
    assert!(changed > 0 && changed < 20_000, "{backup}");
    let full = world.done(&["backup", &world.database().to_string_lossy(), "--full"]);
    assert_eq!(full["kind"], "full");
    watcher.stop();
    world.assert_exact("latest", &[], &second);
    world.assert_exact("tx:1", &[], &second);
    let info = world.done(&["info"]);
    assert_eq!(info["sources"][0]["snapshots"].as_array().unwrap().len(), 3, "{info}");
    assert_eq!(info["sources"][0]["gaps"].as_array().unwrap().len(), 0, "{info}");
}

#[test]
fn every_option_of_watch_has_its_effect() {
    let mut world = World::new();
    let mut app = world.application();
    let state = world.path("elsewhere");
    let snapshots = |every: &str, app: &mut pitr_testkit::App| {
        let before = world.done(&["info"])["sources"][0]["snapshots"].as_array().map_or(0, Vec::len);
        let options = ["--state", &state.to_string_lossy(), "--snapshot-every", every, "--rpo", "50ms"];
        let watcher = world.watch_with(&options);
        for i in 0..20 {
            app.sql(&format!("INSERT INTO t(x) VALUES({i})"));
            crate::world::pause(50);
        }
        watcher.stop();
        world.done(&["info"])["sources"][0]["snapshots"].as_array().unwrap().len() - before
    };
    // The first watch takes a base.
    assert_eq!(snapshots("1h", &mut app), 1);
    assert_eq!(snapshots("1h", &mut app), 0);
    assert!(snapshots("200ms", &mut app) >= 2);
    assert!(
        state.join("timeline-00000001").is_dir(),
        "{:?}",
        std::fs::read_dir(&state).unwrap().collect::<Vec<_>>()
    );
    assert!(!world.path("app.db-pitr").exists());
    let copy = world.copy(&mut app);
    world.assert_exact("latest", &[], &copy);
}
