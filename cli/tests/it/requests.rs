//! `pitr restore`: the engine's check, validation, and the recovery time objective.

use std::fs;
use std::path::{Path, PathBuf};

use pitr::recovery::{Rate, Rates};
use pitr::{Pitr, PitrConfig};
use serde_json::Value;

use crate::world::{Answer, World, pause};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn restore(world: &World, more: &[&str]) -> Answer {
    let output = text(&world.path("out.db"));
    world.pitr(&[&["restore", "--to", "latest", "--output", &output], more].concat())
}

/// Names in the folder of the world that begin with that of the output.
fn outputs(world: &World) -> usize {
    let names = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("out.db")).count()
}

/// The log objects of the world's repository.
fn log_objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(log_objects(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_state_that_sqlite_finds_inconsistent_is_not_published_with_check() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    world.done(&["backup", &text(&world.database())]);
    let sound = restore(&world, &["--check"]);
    assert_eq!((sound.code, &sound.json["checked"]), (0, &true.into()), "{}", sound.stderr);
    assert!(sound.json["phases"]["check"].is_number(), "{}", sound.json);
    fs::remove_file(world.path("out.db")).unwrap();

    app.sql("CREATE TABLE child(t REFERENCES t(id))");
    app.sql("PRAGMA foreign_keys=OFF");
    app.sql("INSERT INTO child VALUES(77)");
    world.done(&["backup", &text(&world.database())]);
    let refused = restore(&world, &["--check"]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (4, &"corrupt".into()), "{}", refused.stderr);
    assert!(refused.stderr.contains("row 1 of child has no parent in t"), "{}", refused.stderr);
    assert_eq!(outputs(&world), 0);
    let unchecked = restore(&world, &[]);
    assert_eq!((unchecked.code, &unchecked.json["checked"]), (0, &Value::Null));
}

#[test]
fn a_folder_has_no_check_of_its_own() {
    let world = World::new();
    fs::create_dir(world.path("files")).unwrap();
    fs::write(world.path("files/a"), b"a").unwrap();
    world.done(&["backup", &text(&world.path("files"))]);
    let refused = restore(&world, &["--check"]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (2, &"usage".into()), "{}", refused.stderr);
    assert_eq!(outputs(&world), 0);
}

#[test]
fn a_validation_finds_damage_and_restores_nothing() {
    let world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    (0..3).for_each(|_| {
        app.sql("INSERT INTO t(x) VALUES(randomblob(5000))");
        pause(100);
    });
    watcher.stop();
    let before = fs::read_dir(world.path("")).unwrap().count();
    let answer = world.done(&["restore", "--to", "latest", "--validate", "--workers", "1"]);
    assert_eq!((&answer["validated"], &answer["workers"]), (&true.into(), &1.into()));
    assert!(answer["wal_bytes"].as_u64() > Some(15_000), "{answer}");
    assert!(answer["transactions"]["applied"].as_u64() >= Some(3), "{answer}");
    let (restored, _) = world.restore("latest", &[]);
    for key in ["reached", "wal_bytes", "records", "transactions", "snapshot_id", "timeline"] {
        assert_eq!(answer[key], restored.json[key], "{key}");
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), before + 1, "only the restore wrote a file");
    let both = world.pitr(&["restore", "--to", "latest", "--validate", "--output", "x"]);
    assert_eq!(both.json["error"]["code"], "usage");
    assert_eq!(world.pitr(&["restore", "--to", "latest"]).json["error"]["code"], "usage");

    let sources = world.path("repo/sources");
    let source = fs::read_dir(sources).unwrap().next().unwrap().unwrap().path();
    let newest = log_objects(&source.join("log")).into_iter().max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let damaged = world.pitr(&["restore", "--to", "latest", "--validate"]);
    assert_eq!((damaged.code, &damaged.json["error"]["code"]), (4, &"corrupt".into()), "{}", damaged.stderr);
}

/// Records these rates, in bytes per second, as those of the newest restore.
fn record(world: &World, rate: u64) {
    let rate = Rate::per_second(rate);
    let pitr = Pitr::open(&PitrConfig::at(world.path("repo"))).unwrap();
    Rates { base: rate, log: rate, logical: None, finish: rate }.record(pitr.objects()).unwrap();
}

#[test]
fn an_rto_is_compared_with_the_estimate_and_with_the_time_taken() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(50000))");
    world.done(&["backup", &text(&world.database())]);
    let plan = restore(&world, &["--dry-run"]).json;
    assert_eq!(plan["is_guess"], true, "{plan}");

    record(&world, 100);
    let plan = restore(&world, &["--dry-run", "--rto", "5m"]);
    assert_eq!(plan.code, 6, "{}", plan.stderr);
    assert_eq!(plan.json["is_guess"], false);
    assert!(plan.json["seconds"].as_f64() > Some(500.0), "{}", plan.json);
    let refused = restore(&world, &["--rto", "5m"]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (6, &"too-late".into()), "{}", refused.stderr);
    assert!(refused.stderr.contains("the snapshot alone takes"), "{}", refused.stderr);
    assert_eq!(outputs(&world), 0, "nothing was written");
    assert_eq!(restore(&world, &["--rto", "7d"]).code, 0);
    fs::remove_file(world.path("out.db")).unwrap();

    // The estimate is within the RTO, and the restore takes longer: its result is kept.
    record(&world, u64::MAX);
    let late = restore(&world, &["--rto", "1ms"]);
    assert_eq!(late.code, 6, "{}", late.stderr);
    assert!(
        late.json["reached"].is_object() && late.stderr.contains("the result is kept"),
        "{}",
        late.stderr
    );
    assert_eq!(outputs(&world), 1);
}

#[test]
fn a_refusal_says_which_snapshot_interval_would_meet_the_rto() {
    let world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    for _ in 0..20 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
        pause(50);
    }
    watcher.stop();
    let plan = restore(&world, &["--dry-run"]).json;
    let (base, log) = (plan["base_bytes"].as_u64().unwrap(), plan["wal_bytes"].as_u64().unwrap());
    assert!(log > 4 * base, "{plan}");
    // The base is restored at once, and the log in 100 seconds.
    let pitr = Pitr::open(&PitrConfig::at(world.path("repo"))).unwrap();
    let (fast, slow) = (Rate::per_second(u64::MAX), Rate::per_second(log / 100));
    Rates { base: fast, log: slow, logical: None, finish: fast }.record(pitr.objects()).unwrap();
    let refused = restore(&world, &["--rto", "50s"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("or more often would meet it"), "{}", refused.stderr);
    // Several sources: their estimates add up.
    let output = text(&world.path("all"));
    let all = world.pitr(&["restore", "--to", "latest", "--all", "--output", &output, "--rto", "50s"]);
    assert_eq!((all.code, &all.json["error"]["code"]), (6, &"too-late".into()), "{}", all.stderr);
    assert!(!world.path("all").exists());
}
