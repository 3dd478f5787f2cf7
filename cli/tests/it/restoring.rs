//! Options of a restore: doing nothing, earlier states, targets, and several sources.

use std::fs;

use serde_json::Value;

use crate::world::{World, now, pause};

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn an_existing_output_is_success_with_if_absent() {
    let world = World::empty();
    let output = text(&world.path("out.db"));
    let restore = ["restore", "--to", "latest", "--output", &output];
    let if_absent = [&restore[..], &["--if-absent"]].concat();
    // Without a repository nothing can be restored, but an existing output needs none.
    assert_eq!(world.pitr(&if_absent).json["error"]["code"], "not-a-repository");
    fs::write(&output, "mine").unwrap();
    let skipped = world.done(&if_absent);
    assert_eq!((&skipped["existed"], &skipped["skipped"]), (&true.into(), &"output-exists".into()));
    assert_eq!(fs::read(&output).unwrap(), b"mine");

    world.done(&["init"]);
    let _app = world.application();
    world.done(&["backup", &text(&world.database())]);
    let refused = world.pitr(&restore);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (2, &"output-exists".into()));
    fs::remove_file(&output).unwrap();
    assert_eq!(world.done(&if_absent)["skipped"], Value::Null);
    assert!(fs::read(&output).unwrap().starts_with(b"SQLite format 3"));
    // A journal of the output, which SQLite would replay, does not count as an existing output.
    fs::remove_file(&output).unwrap();
    fs::write(world.path("out.db-wal"), "stale").unwrap();
    assert_eq!(world.pitr(&if_absent).json["error"]["code"], "output-exists");
}

#[test]
fn a_missing_source_is_success_with_if_source_exists() {
    let world = World::empty();
    let output = text(&world.path("out.db"));
    let restore =
        |more: &[&str]| world.pitr(&[&["restore", "--to", "latest", "--output", &output], more].concat());
    // The disk of a missing repository may not be mounted.
    assert_eq!(restore(&["--if-source-exists"]).json["error"]["code"], "not-a-repository");
    world.done(&["init"]);
    let refused = restore(&[]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (3, &"no-source".into()));
    let skipped = restore(&["--if-source-exists"]);
    assert_eq!(
        (skipped.code, &skipped.json["skipped"], &skipped.json["existed"]),
        (0, &"no-source".into(), &false.into())
    );

    let _app = world.application();
    world.done(&["backup", &text(&world.database())]);
    let other = ["--source", "other"];
    assert_eq!(restore(&other).json["error"]["code"], "unknown-source");
    assert_eq!(restore(&[&other[..], &["--if-source-exists"]].concat()).json["skipped"], "no-source");
    assert!(!world.path("out.db").exists());
    let unreachable = restore(&["--if-source-exists", "--timeline", "1", "--exclusive"]);
    assert_eq!((unreachable.code, &unreachable.json["error"]["code"]), (3, &"unreachable-target".into()));
    assert_eq!(restore(&["--if-source-exists"]).json["skipped"], Value::Null);
    assert!(world.path("out.db").exists());
}

#[test]
fn a_dry_run_reports_the_space_and_a_missing_folder_is_named() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
    world.done(&["backup", &text(&world.database())]);
    let plan = |output: &str| world.pitr(&["restore", "--to", "latest", "--dry-run", "--output", output]);
    let told = plan(&text(&world.path("out.db"))).json;
    let (_, restored) = world.restore("latest", &[]);
    assert_eq!(told["needed_bytes"], fs::metadata(restored).unwrap().len());
    assert!(told["free_bytes"].as_u64().is_some(), "{told}");
    // Changes that do not fit into the memory take space beside the output.
    for _ in 0..2 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
    }
    world.done(&["backup", &text(&world.database())]);
    let log = world.done(&["log"])["transactions"].clone();
    let to = format!("tx:{}", log[log.as_array().unwrap().len() - 2]["tx"]);
    let (output, plan_of) = (text(&world.path("new.db")), ["restore", "--dry-run", "--to", &to, "--output"]);
    let needed = |memory: &str| {
        let plan = world.done(&[&plan_of[..], &[&output, "--memory", memory]].concat());
        plan["needed_bytes"].as_u64().unwrap()
    };
    assert!(needed("64kB") > needed("1MiB") + 90_000);
    let missing = world.path("missing/out.db");
    let restore = ["restore", "--to", "latest", "--output", &text(&missing)];
    for refused in [plan(&text(&missing)), world.pitr(&restore)] {
        assert_eq!((refused.code, &refused.json["error"]["code"]), (2, &"output-folder-missing".into()));
        assert!(refused.stderr.contains(&text(&world.path("missing"))), "{}", refused.stderr);
        assert!(!refused.stderr.contains("lock"), "{}", refused.stderr);
    }
}

#[test]
fn a_snapshot_is_a_target_by_its_abbreviated_id() {
    let mut world = World::new();
    let mut app = world.application();
    let mut taken = Vec::new();
    let watcher = world.watch();
    for _ in 0..2 {
        app.sql("INSERT INTO t(x) VALUES(1)");
        let backup = world.done(&["backup", &text(&world.database())]);
        taken.push((
            backup["snapshot_id"].as_str().unwrap().to_owned(),
            backup["lsn"].clone(),
            world.copy(&mut app),
        ));
        app.sql("INSERT INTO t(x) VALUES(2)");
    }
    watcher.stop();
    for (id, lsn, copy) in &taken {
        world.assert_exact(&format!("snapshot:{id}"), &[], copy);
        world.assert_exact(&format!("snapshot:{}", &id[..12]), &[], copy);
        let log = world.done(&["log", "--from", &format!("snapshot:{id}")]);
        let transactions = log["transactions"].as_array().unwrap();
        assert!(transactions.iter().all(|tx| tx["lsn"].as_u64() >= lsn.as_u64()), "{log}");
    }
    let all = world.done(&["log"])["transactions"].as_array().unwrap().len();
    let from_second = world.done(&["log", "--from", &format!("snapshot:{}", taken[1].0)]);
    assert!(from_second["transactions"].as_array().unwrap().len() < all);
    let other = if taken.iter().any(|(id, ..)| id.starts_with("00000000")) { "f" } else { "0" }.repeat(8);
    let (answer, _) = world.restore(&format!("snapshot:{other}"), &[]);
    assert_eq!(answer.json["error"]["code"], "unreachable-target");
    assert_eq!(world.restore("snapshot:x", &[]).0.json["error"]["code"], "usage");
    // An unreadable snapshot must not be reported as unknown (FAILURES 55).
    let info = world.done(&["info"]);
    let snapshots = info["sources"][0]["snapshots"].as_array().unwrap();
    let damaged = snapshots.iter().find(|one| one["snapshot_id"] == *taken[1].0).unwrap();
    let root = world.path("repo").join(damaged["root"].as_str().unwrap());
    let mut bytes = fs::read(&root).unwrap();
    bytes[100] ^= 1;
    fs::write(&root, bytes).unwrap();
    let (answer, _) = world.restore(&format!("snapshot:{}", taken[1].0), &[]);
    assert_eq!((answer.code, &answer.json["error"]["code"]), (4, &"corrupt".into()), "{}", answer.stderr);
}

#[test]
fn an_unreachable_target_is_refused_or_replaced_by_the_newest_state_before_it() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    world.done(&["backup", &text(&world.database())]);
    let copy = world.copy(&mut app);
    pause(300);
    let between = now();
    pause(300);
    app.sql("INSERT INTO t(x) VALUES(2)");
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    world.done(&["backup", &text(&world.database())]);
    let (refused, _) = world.restore(&between, &[]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (3, &"unreachable-target".into()));
    world.assert_exact(&between, &["--or-before"], &copy);
    let (answer, _) = world.restore(&between, &["--or-before"]);
    assert!(
        answer.json["target_unreachable"].as_str().is_some_and(|why| why.contains("gap")),
        "{}",
        answer.json
    );
    // A restorable target is restored without a message.
    let (answer, _) = world.restore("latest", &["--or-before"]);
    assert_eq!((answer.code, &answer.json["target_unreachable"]), (0, &Value::Null));
    let (refused, _) = world.restore("1999-01-01T00:00:00Z", &["--or-before"]);
    assert_eq!(refused.code, 3);
}

#[test]
fn a_time_may_be_in_a_named_zone() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    world.done(&["backup", &text(&world.database())]);
    let said = |to: &str| {
        let stderr = world.restore(to, &["--or-before"]).0.stderr;
        stderr.lines().find_map(|line| line.strip_prefix("target: ").map(str::to_owned)).unwrap_or(stderr)
    };
    assert_eq!(said("2026-11-29 14:00 Europe/Paris"), "2026-11-29T13:00:00.000000Z");
    assert_eq!(said("2026-11-29 14:00 Asia/Kolkata"), "2026-11-29T08:30:00.000000Z");
    let (unknown, _) = world.restore("2026-11-29 14:00 Europe/Atlantis", &[]);
    assert!(unknown.code == 2 && unknown.stderr.contains("Europe/Atlantis"), "{}", unknown.stderr);
}

#[test]
fn several_sources_are_restored_to_the_same_time_or_not_at_all() {
    let world = World::new();
    let mut shop = world.application();
    let mut users = pitr_testkit::App::start("application", &world.path("users.db"));
    users.sql("PRAGMA journal_mode=WAL");
    users.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    let watcher = world.watch_with(&["--rpo", "200ms", &text(&world.path("users.db"))]);
    let mut copies = Vec::new();
    let mut moments = Vec::new();
    for round in 0..2 {
        shop.sql("INSERT INTO t(x) VALUES('shop')");
        users.sql("INSERT INTO t(x) VALUES('users')");
        let pair = [world.path(&format!("shop-{round}")), world.path(&format!("users-{round}"))];
        shop.copy(&pair[0]);
        users.copy(&pair[1]);
        copies.push(pair);
        pause(600);
        moments.push(now());
        pause(600);
    }
    watcher.stop();
    let output = world.path("together");
    let together = |to: &str, more: &[&str]| {
        world.pitr(&[&["restore", "--to", to, "--output", &text(&output)], more].concat())
    };
    let assert_exact = |pair: &[std::path::PathBuf; 2]| {
        for (name, copy) in ["app.db", "users.db"].iter().zip(pair) {
            assert_eq!(pitr::exact::compare(&output.join(name), copy).unwrap(), None, "{name}");
        }
    };
    let named = ["--source", "app", "--source", "users"];
    let plan = together(&moments[0], &["--all", "--dry-run"]).json;
    assert!(plan["needed_bytes"].as_u64() > plan["sources"][0]["needed_bytes"].as_u64(), "{plan}");
    assert!(!output.exists());
    let answer = together(&moments[0], &named);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let sources = answer.json["sources"].as_array().unwrap();
    assert_eq!(sources.iter().map(|s| s["source"].as_str().unwrap()).collect::<Vec<_>>(), ["app", "users"]);
    assert_exact(&copies[0]);
    // An existing output is refused, skipped or moved aside completely.
    assert_eq!(together("latest", &["--all"]).json["error"]["code"], "output-exists");
    assert_eq!(together("latest", &["--all", "--if-absent"]).json["skipped"], "output-exists");
    assert_exact(&copies[0]);
    assert_eq!(together("latest", &["--all", "--force"]).code, 0);
    assert_exact(&copies[1]);

    // Only the database `app` gets more commits. These are after the last known time of the other
    // database.
    shop.sql("INSERT INTO t(x) VALUES('later')");
    world.watch().stop();
    let answer = together("latest", &["--all", "--force"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_exact(&copies[1]);
    fs::remove_dir_all(&output).unwrap();
    let late = now();
    let refused = together(&late, &["--all"]);
    assert_eq!((refused.code, &refused.json["error"]["code"]), (3, &"unreachable-target".into()));
    assert!(refused.stderr.contains("source ") && !output.exists(), "{}", refused.stderr);
    let answer = together(&late, &["--all", "--or-before"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.json["sources"][1]["target_unreachable"].is_string(), "{}", answer.json);
    for (to, more) in
        [("tx:1", &["--all"][..]), ("latest", &["--all", "--exclusive"]), ("latest", &["--all", "--delta"])]
    {
        assert_eq!(together(to, more).json["error"]["code"], "usage", "{to} {more:?}");
    }

    assert_logs_merge_by_time(&world);
}

/// `pitr log` of several sources is their logs, merged by time.
fn assert_logs_merge_by_time(world: &World) {
    let log = world.done(&["log", "--all"]);
    let merged: Vec<(&str, &str)> = log["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tx| (tx["time"].as_str().unwrap(), tx["source"].as_str().unwrap()))
        .collect();
    assert!(merged.is_sorted_by_key(|(time, _)| *time), "{merged:?}");
    let of = |name: &str| {
        let one = world.done(&["log", "--source", name]);
        assert_eq!(one["transactions"][0]["source"], Value::Null);
        let count = merged.iter().filter(|(_, source)| *source == name).count();
        assert_eq!(one["transactions"].as_array().unwrap().len(), count, "{name}");
        count
    };
    assert!(of("app") > 0 && of("users") > 0);
    for part in ["gaps", "forks"] {
        let count = |log: &Value| log[part].as_array().unwrap().len();
        let each = ["app", "users"].map(|name| count(&world.done(&["log", "--source", name])));
        assert_eq!(count(&log), each.iter().sum::<usize>(), "{part}: {log}");
        assert!(log[part].as_array().unwrap().iter().all(|one| one["source"].is_string()), "{log}");
    }
    assert_eq!(world.done(&["log", "--source", "app", "--source", "users"]), log);
    assert_eq!(world.pitr(&["log", "--all", "--from", "tx:1"]).json["error"]["code"], "usage");
}

#[test]
fn a_command_for_one_source_refuses_several() {
    let world = World::new();
    let _app = world.application();
    let refused = world.pitr(&["backup", &text(&world.database()), "--source", "a", "--source", "b"]);
    assert!(refused.code == 2 && refused.stderr.contains("--source once"), "{}", refused.stderr);
    assert_eq!(world.done(&["info"])["sources"], serde_json::json!([]));
}
