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
