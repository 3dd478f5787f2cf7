//! A folder in the repository of a database.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use pitr_testkit::noise;

use super::database::verify;
use crate::world::World;

/// Backs a folder up three times, restores the first state and the last one, and prunes.
pub(super) fn backed_up(world: &World) {
    let folder = world.path("photos");
    fs::create_dir_all(folder.join("2026")).unwrap();
    fs::write(folder.join("2026/large"), noise(1, 3_000_000)).unwrap();
    for number in 0..40 {
        fs::write(folder.join(format!("2026/{number}")), noise(number, 1_000)).unwrap();
    }
    symlink("2026/large", folder.join("link")).unwrap();
    let text = |name: &str| world.path(name).to_string_lossy().into_owned();
    let copy = |name: &str| {
        assert!(Command::new("cp").arg("-a").args([text("photos"), text(name)]).status().unwrap().success());
    };
    let backup = || world.done(&["backup", &text("photos")]);
    let first = backup();
    assert_eq!((&first["kind"], &first["lsn"]), (&"full".into(), &1.into()));
    copy("first");
    let mut bytes = fs::read(folder.join("2026/large")).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(folder.join("2026/large"), bytes).unwrap();
    fs::remove_file(folder.join("2026/7")).unwrap();
    let second = backup();
    assert_eq!(second["kind"], "incremental");
    assert!(second["stored_bytes"].as_u64() < Some(1_500_000), "{second}");
    fs::write(folder.join("new"), "new").unwrap();
    backup();
    copy("last");

    let assert_same = |to: &str, name: &str| {
        let output = text(&format!("photos-{name}"));
        world.done(&["restore", "--source", "photos", "--to", to, "--output", &output, "--force"]);
        let diff =
            Command::new("diff").args(["-r", "--no-dereference", &output, &text(name)]).output().unwrap();
        assert!(diff.status.success(), "{to}: {}", String::from_utf8_lossy(&diff.stdout));
    };
    assert_same("lsn:1", "first");
    assert_same("latest", "last");
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_same("latest", "last");
    let output = text("gone");
    let gone = world.pitr(&["restore", "--source", "photos", "--to", "lsn:1", "--output", &output]);
    assert_eq!(gone.code, 3, "{}", gone.stderr);
    verify(world);
}
