//! Listed states can be restored, and gaps are listed (FAILURES 55, 60).

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{World, pause};

/// A database, watched twice, with commits before and after a gap.
fn with_a_gap() -> World {
    let world = World::new();
    let mut app = world.application();
    for round in 0..2 {
        let watcher = world.watch();
        for _ in 0..3 {
            app.sql("INSERT INTO t(x) VALUES('seen')");
            pause(250);
        }
        watcher.stop();
        if round == 0 {
            app.sql("INSERT INTO t(x) VALUES('missed'); PRAGMA wal_checkpoint(TRUNCATE)");
            app.sql("INSERT INTO t(x) VALUES('missed too')");
        }
    }
    world
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn log_lists_the_gap_and_every_state_of_info_can_be_restored() {
    let world = with_a_gap();
    let log = world.done(&["log"]);
    let gaps = list(&log["gaps"]);
    assert_eq!((gaps.len(), list(&log["forks"]).len()), (1, 0), "{log}");
    let lsn = |value: &Value| value["lsn"].as_u64().unwrap();
    let transactions = list(&log["transactions"]);
    assert!(transactions.iter().all(|tx| tx["restorable"] == true), "{log}");
    let (before, after) = transactions.split_at(3);
    assert!(before.iter().all(|tx| lsn(tx) <= lsn(&gaps[0]["from"])), "{log}");
    assert!(after.iter().all(|tx| lsn(tx) >= lsn(&gaps[0]["to"])), "{log}");
    assert!(gaps[0]["reason"].as_str().unwrap().contains("captured"), "{log}");
    // `pitr log` lists only entries that overlap the requested range.
    for (part, count) in [(["--to", "tx:2"], 0), (["--from", "tx:5"], 0), (["--from", "tx:3"], 1)] {
        let some = world.done(&[&["log"][..], &part].concat());
        assert_eq!(list(&some["gaps"]).len(), count, "{part:?}: {some}");
    }
    let info = world.done(&["info"]);
    let spans = list(&info["sources"][0]["restorable"]);
    assert_eq!((spans.len(), &spans[0]["from"]["tx"]), (2, &Value::from(0)), "{info}");
    for (span, end) in spans.iter().flat_map(|span| [(span, "from"), (span, "to")]) {
        let answer = world.restore(&format!("lsn:{}", lsn(&span[end])), &["--dry-run"]).0;
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    for tx in (1..=6).map(|tx| format!("tx:{tx}")).chain(["tx:0".to_owned()]) {
        assert_eq!(world.restore(&tx, &["--dry-run"]).0.code, 0, "{tx}");
    }
}

#[test]
fn verify_finds_lost_objects_and_damage_ends_a_restore_with_4() {
    let world = with_a_gap();
    assert_eq!(world.pitr(&["verify"]).code, 0);
    let folder = |name: &str| world.path("repo/sources/app").join(name);
    let in_folder = |name: &str| {
        let mut paths: Vec<_> = fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    };
    // The object with the end of a writer's log, and the one that it was merged into.
    let end_of_log = |name: &str| {
        let end = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[17..33].to_owned();
        let paths = in_folder(name);
        let last = paths.iter().map(end).max().unwrap();
        paths.into_iter().filter(|path| end(path) == last).collect::<Vec<_>>()
    };
    let base = in_folder("snapshots/00000001/0000000000000002").remove(0);
    for (paths, kind) in [
        (vec![folder("timelines/00000001")], "missing"),
        (end_of_log("log/00000001/0000000000000001"), "missing"),
        (end_of_log("log/00000001/0000000000000002"), "missing"),
        (vec![base.clone()], "unrestorable"),
    ] {
        let lost: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
        let verified = world.pitr(&["verify"]);
        assert_eq!(verified.code, 4, "{paths:?}: {}", verified.json);
        assert!(list(&verified.json["failures"]).iter().all(|f| f["kind"] == kind), "{}", verified.json);
        if paths[0].ends_with("timelines/00000001") {
            assert_eq!(world.restore("latest", &[]).0.code, 4, "a lost timeline is no usage error");
        }
        paths.iter().zip(lost).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
    let mut bytes = fs::read(&base).unwrap();
    bytes[100] ^= 1;
    fs::write(&base, bytes).unwrap();
    for target in ["latest", "tx:5"] {
        let answer = world.restore(target, &[]).0;
        assert!(answer.code == 4 && answer.stderr.contains("damaged"), "{target}: {}", answer.stderr);
    }
    assert_eq!(world.restore("tx:2", &[]).0.code, 0);
}
