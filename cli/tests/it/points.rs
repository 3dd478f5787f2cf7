//! `pitr point`: named recovery points.

use std::path::PathBuf;

use crate::world::{World, pause};

/// Database with a watcher, three snapshots and a copy of each state.
fn copies(world: &mut World, count: usize) -> Vec<(u64, PathBuf)> {
    let mut app = world.application();
    let watcher = world.watch();
    let mut states = Vec::new();
    for no in 0..count {
        app.sql(&format!("INSERT INTO t(x) VALUES ('state {no}')"));
        states.push((last_tx(world, no), world.copy(&mut app)));
        world.done(&["backup", &world.database().to_string_lossy()]);
        app.sql(&format!("UPDATE t SET x = x || ' then {no}'"));
        states.push((last_tx(world, no), world.copy(&mut app)));
    }
    watcher.stop();
    states
}

/// The number of the newest commit once it is archived.
fn last_tx(world: &World, no: usize) -> u64 {
    let mut last = 0;
    // The watcher archives every 200 ms. A commit is archived if nothing new comes for a second.
    for _ in 0..5 {
        pause(200 + no as u64);
        last = newest(world);
    }
    last
}

fn newest(world: &World) -> u64 {
    let log = world.done(&["log"]);
    log["transactions"].as_array().unwrap().last().map_or(0, |last| last["tx"].as_u64().unwrap())
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_point_outlives_a_prune_and_is_restored_exactly() {
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES ('kept')");
    let database = world.database().to_string_lossy().into_owned();
    world.done(&["backup", &database]);
    app.sql("INSERT INTO t(x) VALUES ('named')");
    let named = world.copy(&mut app);
    last_tx(&world, 0);
    let created = world.done(&["point", "create", "移行前 7", "--note", "before migration"]);
    assert_eq!(
        (created["newest"].as_bool(), created["note"].as_str()),
        (Some(true), Some("before migration"))
    );
    let tx = created["tx"].as_u64().unwrap();

    app.sql("DELETE FROM t");
    for no in 0..3 {
        app.sql(&format!("INSERT INTO t(x) VALUES ('later {no}')"));
        world.done(&["backup", &database]);
    }
    last_tx(&world, 0);
    watcher.stop();
    let planned = world.done(&["prune", "--keep-snapshots", "1"]);
    let kept = planned["sources"][0]["kept"].as_array().unwrap();
    assert_eq!(strings(&kept[0]["reasons"]), ["point 移行前 7"], "{planned}");
    assert_eq!(planned["sources"][0]["points"][0]["tx"], tx);
    assert_eq!(planned["sources"][0]["points"][0]["snapshot_id"], kept[0]["snapshot_id"]);
    let done = world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!(done["sources"][0]["removed"].as_array().unwrap().len(), 3, "{done}");
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);

    world.assert_exact("point:移行前 7", &[], &named);
    assert_eq!(world.restore(&format!("tx:{}", tx + 2), &[]).0.code, 3);
    let before = world.restored("point:移行前 7", &["--exclusive"]);
    assert!(pitr::exact::compare(&before, &named).unwrap().is_some());
    let from = world.done(&["log", "--from", "point:移行前 7", "--to", "point:移行前 7"]);
    assert_eq!(from["transactions"].as_array().unwrap().len(), 1, "{from}");
    assert_eq!(from["transactions"][0]["tx"], tx);
    assert_eq!(strings(&world.done(&["info"])["sources"][0]["points"]), ["移行前 7"]);
    let listed = world.done(&["point", "list"]);
    assert_eq!((listed["points"][0]["tx"].as_u64(), listed["source"].as_str()), (Some(tx), Some("app")));

    world.done(&["point", "delete", "移行前 7"]);
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    let (refused, _) = world.restore("point:移行前 7", &[]);
    assert_eq!((refused.code, refused.json["error"]["code"].as_str()), (3, Some("unreachable-target")));
    assert_eq!(world.restore(&format!("tx:{tx}"), &[]).0.code, 3);
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn at_names_an_earlier_state_and_names_are_used_once() {
    let mut world = World::new();
    let states = copies(&mut world, 2);
    for (no, (tx, copy)) in states.iter().enumerate() {
        let name = format!("p{no}");
        let created = world.done(&["point", "create", &name, "--at", &format!("tx:{tx}")]);
        assert_eq!((created["tx"].as_u64(), created["newest"].as_bool()), (Some(*tx), Some(false)));
        assert_eq!(created["note"], "");
        world.assert_exact(&format!("point:{name}"), &[], copy);
    }
    for (args, code, kind, says) in [
        (&["create", "p1"][..], 2, "point-exists", "`pitr point delete`"),
        (&["create", "x", "--at", "tx:999"], 3, "unreachable-target", "the nearest state before it is"),
        (&["create", "x", "--at", "point:p9"], 3, "unreachable-target", "it has p0, p1"),
        (&["create", "x", "--note", &"n".repeat(1025)], 2, "usage", "1025 bytes"),
        (&["create", ""], 2, "usage", "1 to 100 characters"),
        (&["create", "a\nb"], 2, "usage", "control characters"),
        (&["create", "x", "--source", "other"], 2, "unknown-source", "its sources are app"),
        (&["delete", "q1"], 2, "unknown-point", "it has p1, p0"),
        (&["list", "--source", "other"], 2, "unknown-source", "its sources are app"),
    ] {
        let refused = world.pitr(&[&["point"], args].concat());
        let error = &refused.json["error"];
        assert_eq!(
            (refused.code, error["code"].as_str()),
            (code, Some(kind)),
            "{args:?}: {}",
            refused.stderr
        );
        assert!(refused.stderr.contains(says), "{args:?}: {}", refused.stderr);
    }
    let count = |world: &World| world.done(&["point", "list"])["points"].as_array().unwrap().len();
    assert_eq!(count(&world), states.len());
    let (unknown, _) = world.restore("point:p11", &[]);
    assert_eq!(unknown.code, 3);
    assert!(unknown.stderr.contains("it has p1"), "{}", unknown.stderr);
    world.done(&["point", "delete", "p1"]);
    assert_eq!(count(&world), states.len() - 1);
    // The name is free again.
    world.done(&["point", "create", "p1"]);
    world.assert_exact("point:p1", &[], &states.last().unwrap().1);
}

#[test]
fn snapshots_of_a_folder_can_be_named() {
    let world = World::new();
    let folder = world.path("folder");
    std::fs::create_dir(&folder).unwrap();
    for no in 0..3 {
        std::fs::write(folder.join("file"), no.to_string()).unwrap();
        world.done(&["backup", &folder.to_string_lossy()]);
        if no == 0 {
            world.done(&["point", "create", "first"]);
        }
    }
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    let (answer, output) = world.restore("point:first", &[]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(std::fs::read_to_string(output.join("file")).unwrap(), "0");
    world.done(&["point", "delete", "first"]);
    let done = world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!(done["sources"][0]["removed"].as_array().unwrap().len(), 1);
}

#[test]
fn a_point_contains_every_commit_that_returned_before_it() {
    // The watcher archives by itself only every ten minutes.
    let mut world = World::new();
    let mut app = world.application();
    let mut commit = |world: &mut World, what: &str| {
        app.sql(&format!("INSERT INTO t(x) VALUES ('{what}')"));
        world.copy(&mut app)
    };
    let create =
        |world: &World, name: &str, more: &[&str]| world.pitr(&[&["point", "create", name], more].concat());
    let slow = ["--rpo", "10m"];
    let watcher = world.watch_with(&slow);
    // The first snapshot makes the log restorable.
    world.done(&["backup", &world.database().to_string_lossy()]);
    for name in ["first", "second"] {
        let copy = commit(&mut world, name);
        let created = create(&world, name, &[]);
        assert_eq!((created.code, &created.json["complete"]), (0, &true.into()), "{}", created.stderr);
        world.assert_exact(&format!("point:{name}"), &[], &copy);
    }
    watcher.kill();
    let known = world.last_copy();
    commit(&mut world, "not watched");
    let created = create(&world, "behind", &[]);
    assert_eq!((created.code, &created.json["complete"]), (0, &false.into()));
    assert!(created.stderr.contains("no watcher of app answers"), "{}", created.stderr);
    let until = created.json["archived_until"].as_str().unwrap();
    assert!(created.stderr.contains(&format!("the archive reaches {until}")), "{}", created.stderr);
    world.assert_exact("point:behind", &[], &known);

    // A watcher with a state folder of its own.
    let state = world.path("state").to_string_lossy().into_owned();
    let watcher = world.watch_with(&[&slow[..], &["--state", &state]].concat());
    world.done(&["backup", &world.database().to_string_lossy(), "--state", &state]);
    let copy = commit(&mut world, "in another folder");
    assert_eq!(create(&world, "unasked", &[]).json["complete"], false);
    let created = create(&world, "asked", &["--state", &state]);
    assert_eq!(created.json["complete"], true, "{}", created.stderr);
    world.assert_exact("point:asked", &[], &copy);
    watcher.stop();
}
