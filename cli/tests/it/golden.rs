//! Repositories of earlier versions, and of a later one. `cargo xtask golden` creates those of a
//! new version.

use std::fs;
use std::path::{Path, PathBuf};

use crate::second::second_reader;
use crate::world::World;
use pitr_testkit::copy_folder;

const TRANSACTIONS: usize = 4;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// Verifies a repository of `version`, restores from it, and writes to it.
fn read(version: &str, name: &str) {
    // FAILURES 36
    let golden = golden(version);
    let world = World::empty();
    copy_folder(&golden.join(name).join("repo"), &world.path("repo"));
    let key = golden.join("key").to_string_lossy().into_owned();
    let more = if name == "encrypted" { &["--key-file", &key][..] } else { &[] };
    let done = |args: &[&str]| world.done(&[args, more].concat());

    assert_eq!(done(&["verify", "--deep"])["ok"], true);
    let log = done(&["log", "--source", "app"]);
    let log = log["transactions"].as_array().unwrap();
    assert!(log.len() >= TRANSACTIONS, "{log:?}");
    for (nth, transaction) in log[log.len() - TRANSACTIONS..].iter().enumerate() {
        let copy = golden.join(name).join(format!("{nth}.db"));
        for target in [format!("tx:{}", transaction["tx"]), transaction["time"].as_str().unwrap().to_owned()]
        {
            world.assert_exact(&target, &[&["--source", "app"], more].concat(), &copy);
        }
    }
    let folder = world.path("pictures");
    let text = folder.to_string_lossy().into_owned();
    done(&["restore", "--source", "pictures", "--to", "latest", "--output", &text]);
    assert_eq!(fs::read_to_string(folder.join("old/link")).unwrap(), "one picture\n".repeat(500));
    assert_eq!(fs::read(folder.join("old/two")).unwrap(), b"");

    fs::write(folder.join("one"), "another picture\n".repeat(500)).unwrap();
    let next = done(&["backup", &text, "--source", "pictures"]);
    assert_eq!(next["kind"], "incremental");
    assert_eq!(done(&["verify", "--deep"])["ok"], true);
    done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!(done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_repository_of_version_1_is_read_and_written() {
    read("v1", "plain");
    read("v1", "encrypted");
}

#[test]
fn content_chunks_of_version_1_are_read_and_continued() {
    let world = World::empty();
    copy_folder(&golden("v1").join("text/repo"), &world.path("repo"));
    let lines: Vec<String> = (0..150_000).map(|number| format!("line {}\n", number % 997)).collect();
    let text = |put_in: &str| [&lines[..75_000].concat(), put_in, &lines[75_000..].concat()].concat();
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    let info = world.done(&["info"]);
    let snapshots = info["sources"][0]["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    for (snapshot, put_in) in snapshots.iter().zip(["", "put in\n"]) {
        let tx = &snapshot["tx"];
        let (ours, theirs) = (world.path(&format!("ours {tx}")), world.path(&format!("theirs {tx}")));
        let target = format!("tx:{tx}");
        world.done(&["restore", "--to", &target, "--output", &ours.to_string_lossy()]);
        second_reader(&world, "texts", snapshot["snapshot_id"].as_str().unwrap(), &theirs);
        for output in [ours, theirs] {
            assert!(fs::read_to_string(output.join("text")).unwrap() == text(put_in), "{put_in}");
        }
    }
    let texts = world.path("texts");
    fs::create_dir(&texts).unwrap();
    fs::write(texts.join("text"), text("put in\nand more\n")).unwrap();
    let next = world.done(&["backup", &texts.to_string_lossy(), "--source", "texts"]);
    assert_eq!(next["kind"], "incremental");
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn file_leaves_of_version_1_are_read_and_continued() {
    let world = World::empty();
    copy_folder(&golden("v1").join("many/repo"), &world.path("repo"));
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    let info = world.done(&["info"]);
    let snapshots = info["sources"][0]["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    let many = world.path("many");
    for (snapshot, of_file_50) in snapshots.iter().zip(["50\n", "another 50\n"]) {
        let tx = &snapshot["tx"];
        let theirs = world.path(&format!("theirs {tx}"));
        let (target, force) = (format!("tx:{tx}"), ["--force"]);
        let restore = ["restore", "--to", &target, "--output", &many.to_string_lossy()];
        world.done(&[&restore[..], &force].concat());
        second_reader(&world, "many", snapshot["snapshot_id"].as_str().unwrap(), &theirs);
        for (output, number) in
            [&many, &theirs].into_iter().flat_map(|output| (0..100).map(move |n| (output, n)))
        {
            let content = if number == 50 { of_file_50.to_owned() } else { format!("{number}\n") };
            assert_eq!(fs::read_to_string(output.join(number.to_string())).unwrap(), content);
        }
    }
    fs::write(many.join("100"), "one more\n").unwrap();
    let next = world.done(&["backup", &many.to_string_lossy(), "--source", "many"]);
    assert_eq!(next["kind"], "incremental");
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_second_reader_reads_version_1() {
    let world = World::empty();
    copy_folder(&golden("v1").join("plain/repo"), &world.path("repo"));
    let info = world.done(&["info"]);
    let source = info["sources"].as_array().unwrap().iter().find(|source| source["name"] == "app").unwrap();
    let newest = source["snapshots"].as_array().unwrap().last().unwrap();
    let output = world.path("second.db");
    second_reader(&world, "app", newest["snapshot_id"].as_str().unwrap(), &output);
    let copy = golden("v1").join("plain").join(format!("{}.db", TRANSACTIONS - 1));
    assert_eq!(pitr::exact::compare(&output, &copy).unwrap(), None);
}

#[test]
fn an_object_of_a_later_version_is_refused_by_name() {
    // FAILURES 36
    let world = World::empty();
    copy_folder(&golden("v1").join("plain/repo"), &world.path("repo"));
    let path = world.path("repo").join("repository");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9; // the version, in the header of every object
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    for args in [&["info"][..], &["verify"], &["prune", "--keep-snapshots", "1", "--execute"]] {
        let refused = world.pitr(args);
        assert!(refused.code != 0 && refused.stderr.contains("version 9"), "{args:?}: {}", refused.stderr);
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
