//! `pitr wal`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pitr::format::record::Record;
use pitr::format::{Lsn, PartitionId, SegmentSize, TxId};
use pitr::vfs::Env;
use pitr::wal::{BatchBuilder, Start, Wal, WalOptions};

use crate::world::World;

const SEGMENT_BYTES: u64 = 16 << 10;

/// An open log of several segments with a gap, and its folder.
fn log(world: &World) -> (Wal, PathBuf) {
    let dir = world.path("log");
    let start =
        Start { segment_size: SegmentSize::new(SEGMENT_BYTES as u32).unwrap(), ..Start::first([0xab; 16]) };
    let options = WalOptions { background: false, ..WalOptions::default() };
    let wal = Wal::create(&Env::system(), &dir, &start, &options).unwrap();
    (1..=20).for_each(|tx| commit(&wal, tx));
    wal.skip().unwrap();
    (21..=23).for_each(|tx| commit(&wal, tx));
    (wal, dir)
}

fn commit(wal: &Wal, tx: u64) {
    let mut batch = BatchBuilder::new();
    batch.push(PartitionId::FIRST, TxId::new(tx), &Record::Data(&[0xcd; 1_500])).unwrap();
    batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"").unwrap();
    wal.commit(batch).unwrap();
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// Changes a byte of a file.
fn damage(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn inspect_works_beside_a_writer_and_changes_nothing() {
    let world = World::new();
    let (wal, dir) = log(&world);
    let before = files(&dir);
    let seen = world.done(&["wal", "inspect", dir.to_str().unwrap()]);
    assert_eq!(files(&dir), before);
    assert_eq!((&seen["timeline"], &seen["segment_bytes"]), (&1.into(), &SEGMENT_BYTES.into()));
    assert_eq!(seen["log_id"], "ab".repeat(16));
    let segments = seen["segments"].as_array().unwrap();
    let batches: u64 = segments.iter().map(|segment| segment["batches"].as_u64().unwrap()).sum();
    assert!(segments.len() >= 4 && batches >= 23, "{seen}");
    let newest = segments.last().unwrap();
    assert!(newest["sealed"] == false && newest["gap_before"] == true && segments[0]["sealed"] == true);
    assert_eq!((&seen["tail"]["decision"], &seen["tail"]["lsn"]), (&"clean".into(), &wal.end().get().into()));
    assert!(seen["tail"]["durable_lsn"].as_u64().unwrap() <= wal.durable().get());
    let gap = &seen["gaps"][0];
    assert_eq!(gap["to_lsn"].as_u64().unwrap() - gap["from_lsn"].as_u64().unwrap(), SEGMENT_BYTES);
    assert!(seen["failures"].as_array().unwrap().is_empty() && seen["gone"].as_array().unwrap().is_empty());

    std::fs::write(dir.join("0000000000000001.seg.free"), [0; 77]).unwrap();
    let again = world.done(&["wal", "inspect", dir.to_str().unwrap()]);
    let other = serde_json::json!([{"name": "0000000000000001.seg.free", "bytes": 77}]);
    assert_eq!(again["other_files"], other);
}

#[test]
fn the_archived_lsn_decides_about_the_tail() {
    // Bytes after the end are a torn tail, unless more was archived (FAILURES 12).
    let world = World::new();
    let (wal, dir) = log(&world);
    let (end, newest) = (wal.end(), segment(&dir, wal.end().get() / SEGMENT_BYTES));
    drop(wal);
    damage(&newest, (end.get() % SEGMENT_BYTES) as usize + 40);
    let dir = dir.to_str().unwrap();
    let torn = world.done(&["wal", "inspect", dir]);
    assert_eq!((&torn["tail"]["decision"], &torn["tail"]["dropped_bytes"]), (&"cut".into(), &41.into()));
    assert_eq!(world.pitr(&["wal", "verify", dir]).code, 0);

    let beyond = (end.get() + 8).to_string();
    let hole = world.done(&["wal", "inspect", dir, "--archived-to", &beyond]);
    assert_eq!(hole["tail"]["decision"], "refused");
    assert!(hole["tail"]["error"].as_str().unwrap().contains("the archive"), "{hole}");
    let answer = world.pitr(&["wal", "verify", dir, "--archived-to", &beyond]);
    assert_eq!((answer.code, &answer.json["ok"]), (4, &false.into()));
}

#[test]
fn verify_lists_each_damage_with_its_position() {
    let world = World::new();
    let (wal, dir) = log(&world);
    let whole = world.done(&["wal", "verify", dir.to_str().unwrap()]);
    assert!(whole["ok"] == true && whole["frames"].as_u64().unwrap() >= 46, "{whole}");
    drop(wal);
    // FAILURES 29
    damage(&segment(&dir, 1), 4096 + 200);
    damage(&segment(&dir, 2), 4096 + 200);
    let answer = world.pitr(&["wal", "verify", dir.to_str().unwrap()]);
    assert_eq!(answer.code, 4, "{}", answer.stderr);
    assert!(
        answer.stderr.contains("damaged in 2 places") && answer.stderr.lines().count() == 1,
        "{}",
        answer.stderr
    );
    let failures = answer.json["failures"].as_array().unwrap();
    let places: Vec<_> =
        failures.iter().map(|f| (f["segment"].as_u64(), f["offset"].as_u64(), f["lsn"].as_u64())).collect();
    assert_eq!(places, [1, 2].map(|n| (Some(n), Some(4096), Some(n * SEGMENT_BYTES + 4096))));
    // The other segments can still be inspected.
    let dumped = world.pitr(&["wal", "dump", dir.to_str().unwrap()]);
    assert_eq!(dumped.code, 4);
    assert!(dumped.json["frames"].as_array().unwrap().len() > 20);
}

#[test]
fn dump_prints_the_requested_frames() {
    let world = World::new();
    let (wal, dir) = log(&world);
    let dump = |more: &[&str]| {
        let mut args = vec!["wal", "dump", dir.to_str().unwrap()];
        args.extend_from_slice(more);
        world.done(&args)["frames"].as_array().unwrap().clone()
    };
    let all = dump(&[]);
    let commits: Vec<_> = all.iter().filter(|frame| frame["kind"] == "commit").collect();
    let numbers: Vec<_> = commits.iter().map(|frame| frame["tx"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=23).collect::<Vec<_>>());
    assert!(commits.iter().all(|commit| commit["time"].is_string() && commit["part"] == "whole"));
    assert!(
        all.iter().any(|frame| frame["part"] == "first")
            && all.iter().all(|frame| frame["payload"].is_null())
    );

    let lsns: Vec<u64> = all.iter().map(|frame| frame["lsn"].as_u64().unwrap()).collect();
    let (from, to) = (lsns[5].to_string(), lsns[12].to_string());
    assert_eq!(dump(&["--from", &from, "--to", &to]), all[5..12]);
    assert_eq!(dump(&["--from", &from]), all[5..]);
    let of_seven: Vec<_> = all.iter().filter(|frame| frame["tx"] == 7).cloned().collect();
    assert!(of_seven.len() >= 2);
    assert_eq!(dump(&["--tx", "7"]), of_seven);
    assert_eq!(dump(&["--tx", "99"]).len(), 0);
    let with_payload = dump(&["--tx", "7", "--payload"]);
    let hex = with_payload[0]["payload"].as_str().unwrap();
    assert!(hex.starts_with("cdcd") && hex.len() as u64 == 2 * with_payload[0]["bytes"].as_u64().unwrap());
    assert!(wal.durable() > Lsn::ORIGIN);
}

#[test]
fn a_folder_without_a_log_is_a_usage_error() {
    let world = World::new();
    for command in ["inspect", "verify", "dump"] {
        for dir in [world.path("repo"), world.path("nowhere")] {
            let answer = world.pitr(&["wal", command, dir.to_str().unwrap()]);
            assert_eq!(answer.code, 2, "{}", answer.stderr);
            assert!(answer.stderr.contains(".seg files"), "{}", answer.stderr);
        }
    }
    assert_eq!(world.pitr(&["wal", "inspect", "d", "--archived-to", "never"]).code, 2);
}
