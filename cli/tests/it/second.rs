//! A second reader, written in Python from the format pages alone, must agree with the library.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::world::World;

pub(crate) fn second_reader(world: &World, source: &str, snapshot: &str, output: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/second_reader.py");
    let mut python = Command::new("python3");
    python.arg(script).arg(world.path("repo")).arg(source).arg(snapshot).arg(output);
    let done =
        python.output().expect("this test needs python3: without it the format's pages are not proven");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_second_reader_restores_a_database() {
    let mut world = World::new();
    let mut app = world.application();
    let mut copies = Vec::new();
    for round in 0..3 {
        app.sql("INSERT INTO t(x) SELECT randomblob(300) || hex(zeroblob(300)) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000) SELECT n FROM c)");
        app.sql(&format!("DELETE FROM t WHERE id % 7 = {round}"));
        let taken = world.done(&["backup", &world.database().to_string_lossy(), "--compress", "gzip"]);
        copies.push((taken, world.copy(&mut app)));
    }
    assert_eq!(copies[2].0["kind"], "incremental");
    for (no, (taken, copy)) in copies.iter().enumerate() {
        let output = world.path(&format!("second-{no}.db"));
        second_reader(&world, "app", taken["snapshot_id"].as_str().unwrap(), &output);
        if let Some(difference) = pitr::exact::compare(&output, copy).unwrap() {
            panic!("snapshot {no}: {difference}");
        }
    }
}

#[test]
fn the_second_reader_restores_a_folder() {
    let world = World::new();
    let folder = world.path("folder");
    fs::create_dir_all(folder.join("a/b")).unwrap();
    fs::write(folder.join("a/one"), "one".repeat(700_000)).unwrap();
    fs::write(folder.join("a/pages"), "page".repeat(1 << 19)).unwrap();
    fs::hard_link(folder.join("a/one"), folder.join("a/b/same")).unwrap();
    symlink("../one", folder.join("a/b/link")).unwrap();
    fs::write(folder.join("empty"), b"").unwrap();
    // Enough files for file leaves.
    (0..150).for_each(|nth| fs::write(folder.join(format!("a/b/{nth}")), nth.to_string()).unwrap());
    let backup = || world.done(&["backup", &folder.to_string_lossy(), "--compress", "gzip"]);
    backup();
    for name in ["a/one", "a/pages"] {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        bytes[1_500_000] ^= 1;
        fs::write(folder.join(name), &bytes).unwrap();
    }
    let taken = backup();
    let (theirs, ours) = (world.path("theirs"), world.path("ours"));
    second_reader(&world, "folder", taken["snapshot_id"].as_str().unwrap(), &theirs);
    world.done(&["restore", "--to", "latest", "--output", &ours.to_string_lossy()]);
    let same =
        Command::new("diff").arg("-r").arg("--no-dereference").args([&theirs, &ours]).output().unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    assert!(fs::read(theirs.join("a/b/same")).unwrap() == fs::read(folder.join("a/one")).unwrap());
    assert_eq!(
        fs::metadata(theirs.join("a")).unwrap().modified().unwrap(),
        fs::metadata(folder.join("a")).unwrap().modified().unwrap()
    );
}
