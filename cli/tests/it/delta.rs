//! `pitr restore --delta`: matching parts of an existing output are reused.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::world::World;

#[test]
fn matching_parts_are_reused_and_damaged_parts_are_not() {
    // FAILURES 33
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(6000000))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let copy = world.copy(&mut app);
    world.assert_exact("latest", &[], &copy);

    let output = world.path("restored-latest.db");
    let length = fs::metadata(&output).unwrap().len();
    let modified = fs::metadata(&output).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&output).unwrap();
    file.write_all_at(b"rot", 3_500_000).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let text = output.to_string_lossy().into_owned();
    let plain = world.pitr(&["restore", "--to", "latest", "--output", &text]);
    assert_eq!(plain.code, 2, "{}", plain.stderr);
    let done = world.done(&["restore", "--to", "latest", "--output", &text, "--delta"]);
    assert_eq!(pitr::exact::compare(&output, &copy).unwrap(), None);
    assert_eq!(done["reused_bytes"].as_u64(), Some(length - (1 << 20)));
    // The old file is kept, and an output without matching parts is not a failure.
    assert!(fs::read_dir(world.path("")).unwrap().any(|entry| {
        entry.unwrap().file_name().to_string_lossy().starts_with("restored-latest.db.before-")
    }));
    let fresh = world.path("fresh.db").to_string_lossy().into_owned();
    let done = world.done(&["restore", "--to", "latest", "--output", &fresh, "--delta"]);
    assert_eq!(done["reused_bytes"], 0);

    // Overlay blocks are recognised by their sums.
    app.sql("UPDATE t SET x=randomblob(300) WHERE length(x) < 1000");
    app.sql("INSERT INTO t(x) VALUES(randomblob(100))");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let copy = world.copy(&mut app);
    let again = world.path("again.db");
    let text = again.to_string_lossy().into_owned();
    world.done(&["restore", "--to", "latest", "--output", &text]);
    let done = world.done(&["restore", "--to", "latest", "--output", &text, "--delta"]);
    assert_eq!(done["reused_bytes"].as_u64(), Some(fs::metadata(&again).unwrap().len()));
    assert_eq!(pitr::exact::compare(&again, &copy).unwrap(), None);
}

#[test]
fn an_update_in_place_replaces_the_output_and_continues_after_a_kill() {
    // FAILURES 32, 33
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(9000000))");
    let watcher = world.watch();
    let old = world.copy(&mut app);
    app.sql("UPDATE t SET x=randomblob(300) WHERE length(x) < 1000");
    app.sql("INSERT INTO t(x) VALUES(randomblob(3000))");
    let copy = world.copy(&mut app);
    watcher.stop();

    let output = world.path("live.db");
    fs::copy(&old, &output).unwrap();
    let text = output.to_string_lossy().into_owned();
    let update = ["restore", "--to", "latest", "--output", &text, "--delta", "--in-place"];
    let mut open =
        std::process::Command::new("sleep").arg("60").stdin(File::open(&output).unwrap()).spawn().unwrap();
    let refused = world.pitr(&update);
    open.kill().unwrap();
    open.wait().unwrap();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("a program has it open"), "{}", refused.stderr);
    assert_eq!(pitr::exact::compare(&output, &old).unwrap(), None);

    let done = world.done(&update);
    assert_eq!(pitr::exact::compare(&output, &copy).unwrap(), None);
    let length = fs::metadata(&output).unwrap().len();
    assert!(done["reused_bytes"].as_u64().unwrap() > length / 2, "{done}");
    let aside = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        aside.into_iter().all(|name| !name.to_string_lossy().contains(".before-")),
        "nothing is kept aside"
    );

    // What a kill leaves is no database, and any restore to the output continues with it.
    let partial = world.path("live.db.pitr-partial");
    fs::rename(&output, &partial).unwrap();
    File::options().write(true).open(&partial).unwrap().write_all_at(&[0; 512], 0).unwrap();
    fs::write(world.path("live.db.pitr-lock"), b"").unwrap();
    let done = world.done(&["restore", "--to", "latest", "--output", &text]);
    assert!(done["reused_bytes"].as_u64().unwrap() > length / 2, "{done}");
    assert_eq!(pitr::exact::compare(&output, &copy).unwrap(), None);
    assert!(!partial.exists());
}
