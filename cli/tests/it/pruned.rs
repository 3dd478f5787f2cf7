//! `pitr prune`.

use std::fs;
use std::time::Duration;

use pitr::format::{SourceName, Timestamp};
use pitr::objects::{LeaseRole, Objects};
use pitr::vfs::Clock;
use serde_json::Value;

use crate::world::World;

/// 2026-01-01T12:00:00Z, microseconds.
const BEGIN: i64 = 1_767_268_800_000_000;
const DAY: i64 = 86_400_000_000;

#[derive(Debug)]
struct Noon(i64);

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(BEGIN + self.0 * DAY)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Snapshots of a folder at noon of the first 40 days of 2026. Half of the folder changes each day.
fn forty_days(world: &World) -> Objects {
    let objects = Objects::local(world.path("repo")).unwrap();
    objects.open_repository().unwrap();
    let folder = world.path("folder");
    fs::create_dir(&folder).unwrap();
    let name = SourceName::new("folder").unwrap();
    let mut bytes = vec![0; 40_000];
    for day in 0..40 {
        for file in 0..2 {
            if (day + file) % 2 == 0 {
                getrandom::fill(&mut bytes).unwrap();
                fs::write(folder.join(file.to_string()), &bytes).unwrap();
            }
        }
        let options = pitr::directory::BackupOptions::default();
        pitr::directory::backup(&objects, &Noon(day), &name, &folder, options).unwrap();
    }
    objects
}

fn kept(document: &Value) -> usize {
    document["sources"][0]["kept"].as_array().unwrap().len()
}

#[test]
fn every_rule_and_option_has_its_effect() {
    let world = World::new();
    let objects = forty_days(&world);
    let plan = |args: &[&str]| world.done(&[&["prune"], args].concat());
    // The 40th day is Monday, 9 February 2026.
    for (args, count) in [
        (&["--keep-within", "5d"][..], 6),
        (&["--keep-within", "1ms"], 2),
        (&["--keep-snapshots", "4"], 4),
        (&["--keep-snapshots", "400"], 40),
        (&["--keep-daily", "3"], 3),
        (&["--keep-weekly", "3"], 3),
        (&["--keep-monthly", "1"], 1),
        (&["--keep-monthly", "2"], 2),
        (&["--keep-daily", "3", "--keep-monthly", "2"], 4),
        (&["--keep-snapshots", "1", "--must-remain-restorable-since", "2026-02-01T12:00:00Z"], 9),
    ] {
        let planned = plan(args);
        assert_eq!(kept(&planned), count, "{args:?}: {planned}");
        assert_eq!(
            (planned["dry_run"].as_bool(), planned["condemned_bytes"].as_u64()),
            (Some(true), Some(0))
        );
    }
    assert_eq!(world.done(&["info"])["sources"][0]["snapshots"].as_array().unwrap().len(), 40);

    let waste = |most| plan(&["--keep-weekly", "3", "--max-waste", most])["packs"]["repacked"].clone();
    assert!(waste("0").as_u64() > waste("100").as_u64(), "{} {}", waste("0"), waste("100"));

    let before = world.done(&["info"])["stored_bytes"].as_u64().unwrap();
    let done = world.done(&["prune", "--keep-weekly", "3", "--execute"]);
    assert_eq!((kept(&done), done["dry_run"].as_bool()), (3, Some(false)));
    let info = world.done(&["info"]);
    assert_eq!(info["sources"][0]["snapshots"].as_array().unwrap().len(), 3);
    assert!(info["stored_bytes"].as_u64().unwrap() < before / 5, "{before} {info}");
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    assert!(objects.condemned().unwrap().is_empty());
}

#[test]
fn wrong_usage_is_refused_and_deletes_nothing() {
    let world = World::new();
    let objects = forty_days(&world);
    for (args, code, says) in [
        (&["prune"][..], 2, "--keep-within"),
        (&["prune", "--execute"], 2, "--keep-within"),
        (&["prune", "--keep-snapshots", "0"], 2, "invalid value"),
        (&["prune", "--keep-snapshots", "1", "--max-waste", "101"], 2, "invalid value"),
        (&["prune", "--must-remain-restorable-since", "latest"], 2, "takes a time"),
        (&["prune", "--keep-snapshots", "1", "--source", "folder"], 2, "omit --source"),
        (
            &["prune", "--execute", "--must-remain-restorable-since", "2025-01-01T00:00:00Z"],
            3,
            "is not restorable",
        ),
    ] {
        let answer = world.pitr(args);
        assert_eq!(answer.code, code, "{args:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(says), "{args:?}: {}", answer.stderr);
    }
    objects.renew_leases_every(Duration::from_millis(100));
    let other = objects.lease(LeaseRole::Collect).unwrap();
    let locked = world.pitr(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert!(locked.code == 5 && locked.stderr.contains(&other.id().to_string()), "{}", locked.stderr);
    assert_eq!(world.done(&["info"])["sources"][0]["snapshots"].as_array().unwrap().len(), 40);
}

#[test]
fn a_prune_beside_a_watch_keeps_what_the_policy_keeps() {
    // FAILURES 19
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    let mut copies = Vec::new();
    for _ in 0..4 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(300000))");
        app.sql("DELETE FROM t WHERE id % 3 = 0");
        let taken = world.done(&["backup", &world.database().to_string_lossy()]);
        app.sql("INSERT INTO t(x) VALUES('since')");
        copies.push((taken, world.copy(&mut app)));
    }
    let done = world.done(&["prune", "--keep-snapshots", "2", "--execute"]);
    assert_eq!(kept(&done), 2, "{done}");
    assert!(done["freed_bytes"].as_u64().unwrap() > 300_000, "{done}");
    assert!(done["sources"][0]["log_objects_removed"].as_u64().unwrap() > 0, "{done}");
    app.sql("INSERT INTO t(x) VALUES('after')");
    let last = world.copy(&mut app);
    watcher.stop();
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    world.assert_exact("latest", &[], &last);
    // Lists the kept snapshots, and the commits after them.
    for (taken, copy) in &copies[2..] {
        let info = world.done(&["info"]);
        let shots = info["sources"][0]["snapshots"].as_array().unwrap();
        let shot = shots.iter().find(|shot| shot["snapshot_id"] == taken["snapshot_id"]).unwrap();
        world.assert_exact(&format!("tx:{}", shot["tx"].as_u64().unwrap() + 1), &[], copy);
    }
    let (gone, _) = world.restore("tx:3", &[]);
    assert_eq!(gone.code, 3, "{}", gone.stderr);
}
