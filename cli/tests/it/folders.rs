//! Folders as sources.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};

use crate::world::World;

#[test]
fn a_damaged_parent_is_reported_and_causes_a_full_snapshot() {
    // FAILURES 25
    let world = World::new();
    let folder = world.path("photos");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one"), vec![1; 2_000_000]).unwrap();
    let args = ["backup", &folder.to_string_lossy()];
    assert!(!world.pitr(&args).stderr.contains("WARN"));
    let repository = pitr::objects::Objects::local(world.path("repo")).unwrap();
    for pack in repository.list("packs").unwrap() {
        fs::remove_file(world.path("repo").join(pack.path)).unwrap();
    }
    let next = world.pitr(&args);
    assert!(next.stderr.contains("WARN") && next.stderr.contains("pitr verify"), "{}", next.stderr);
    assert_eq!((next.code, next.json["kind"].as_str()), (0, Some("full")));
    let output = world.path("out").to_string_lossy().into_owned();
    world.done(&["restore", "--to", "latest", "--output", &output]);
    assert_eq!(fs::read(world.path("out/one")).unwrap(), vec![1; 2_000_000]);
}

#[test]
fn a_folder_is_backed_up_and_restored() {
    let world = World::new();
    let folder = world.path("photos");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("one"), vec![1; 2_000_000]).unwrap();
    symlink("one", folder.join("two")).unwrap();
    let folder_arg = folder.to_string_lossy().into_owned();
    let first = world.done(&["backup", &folder_arg]);
    assert_eq!((first["kind"].as_str(), first["lsn"].as_u64()), (Some("full"), Some(1)));
    fs::write(folder.join("three"), b"3").unwrap();
    let second = world.done(&["backup", &folder_arg]);
    assert_eq!((second["kind"].as_str(), second["lsn"].as_u64()), (Some("incremental"), Some(2)));
    let full = world.done(&["backup", &folder_arg, "--full"]);
    assert_eq!(full["kind"], "full");

    let info = world.done(&["info"]);
    assert_eq!(
        (info["sources"][0]["name"].as_str(), info["sources"][0]["engine"].as_str()),
        (Some("photos"), Some("directory"))
    );
    assert_eq!(info["sources"][0]["gaps"].as_array().unwrap().len(), 0, "{info}");
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);

    let output = world.path("restored");
    let text = output.to_string_lossy().into_owned();
    let planned = world.done(&["restore", "--to", "lsn:1", "--output", &text, "--dry-run"]);
    assert!(!output.exists() && planned["snapshot_id"] == first["snapshot_id"]);
    let done = world.done(&["restore", "--to", "lsn:1", "--output", &text, "--workers", "1"]);
    assert_eq!(
        (done["snapshot_id"].clone(), done["workers"].as_u64()),
        (first["snapshot_id"].clone(), Some(1))
    );
    assert!(fs::read(output.join("two")).unwrap() == vec![1; 2_000_000] && !output.join("three").exists());
    let again = world.pitr(&["restore", "--to", "latest", "--output", &text]);
    assert!(again.code == 2 && again.stderr.contains("--force"), "{}", again.stderr);
    world.done(&["restore", "--to", "latest", "--output", &text, "--force"]);
    assert_eq!(fs::read(output.join("three")).unwrap(), b"3");
    let between = world.pitr(&["restore", "--to", "2020-01-01T00:00:00Z", "--output", &text]);
    assert_eq!(between.code, 3, "{}", between.stderr);
}

#[test]
fn two_folders_with_the_same_name_are_not_one_source() {
    let world = World::new();
    for place in ["a", "b"] {
        fs::create_dir_all(world.path(place).join("photos.old")).unwrap();
        fs::write(world.path(place).join("photos.old/where"), place).unwrap();
    }
    let at = |place: &str| world.path(place).join("photos.old/").to_string_lossy().into_owned();
    world.done(&["backup", &at("a")]);
    assert_eq!(world.done(&["info"])["sources"][0]["name"], "photos.old");
    let other = world.pitr(&["backup", &at("b")]);
    assert!(other.code == 2 && other.stderr.contains("--source photos.old"), "{}", other.stderr);
    // The folder is the same, but has moved.
    let moved = world.done(&["backup", &at("b"), "--source", "photos.old"]);
    assert_eq!(moved["kind"], "incremental");
    // Restores by transaction, to an output path with a trailing slash.
    let output = world.path("out").to_string_lossy().into_owned() + "/";
    world.done(&["restore", "--to", "tx:1", "--output", &output]);
    assert_eq!(fs::read(world.path("out/where")).unwrap(), b"a");
    world.done(&["restore", "--to", "tx:2", "--output", &output, "--force"]);
    assert_eq!(fs::read(world.path("out/where")).unwrap(), b"b");
    let between = world.pitr(&["restore", "--to", "1 minute ago", "--output", &output, "--force"]);
    assert!(between.code == 3, "{}", between.stderr);
}

#[test]
fn a_folder_and_a_database_are_never_one_source() {
    let world = World::new();
    let folder = world.path("app");
    fs::create_dir(&folder).unwrap();
    let folder = folder.to_string_lossy().into_owned();
    let state = world.pitr(&["backup", &folder, "--state", "/tmp/x"]);
    assert!(state.code == 2 && state.stderr.contains("--state"), "{}", state.stderr);
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    world.done(&["backup", &world.database().to_string_lossy()]);
    let other = world.pitr(&["backup", &folder]);
    assert!(other.code == 2 && other.stderr.contains("another name"), "{}", other.stderr);
    world.done(&["backup", &folder, "--source", "folder"]);
    let (database, state) = (world.database(), world.path("state"));
    let (database, state) = (database.to_string_lossy(), state.to_string_lossy());
    let other = world.pitr(&["backup", &database, "--source", "folder", "--state", &state]);
    assert!(other.code == 2 && other.stderr.contains("another name"), "{}", other.stderr);
}

#[test]
fn changed_ranges_limit_what_is_read() {
    let world = World::new();
    let folder = world.path("store");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("told"), vec![1; 3 << 20]).unwrap();
    fs::write(folder.join("other"), vec![1; 3 << 20]).unwrap();
    let folder_arg = folder.to_string_lossy().into_owned();
    let list = world.path("list");
    let list_arg = list.to_string_lossy().into_owned();
    let told = |lines: &str| {
        fs::write(&list, lines).unwrap();
        world.done(&["backup", &folder_arg, "--changed-ranges", &list_arg])
    };
    let first = world.done(&["backup", &folder_arg]);
    assert!(first["changed_ranges"].is_null());
    let write = |name: &str, at: u64| {
        fs::File::options()
            .write(true)
            .open(folder.join(name))
            .unwrap()
            .write_all_at(&[2; 4096], at)
            .unwrap();
    };
    ["told", "other"].iter().for_each(|name| [4096, 1 << 20].iter().for_each(|at| write(name, *at)));
    let head = format!("pitr changed ranges 1\nsince {}\n", first["snapshot_id"].as_str().unwrap());
    let second = told(&format!("{head}4096 4096 told\n0 0 gone\n"));
    let used = &second["changed_ranges"];
    assert_eq!(
        (&used["since_is_known"], &used["files"], &used["unmatched"]),
        (&true.into(), &1.into(), &1.into())
    );
    let output = world.path("out");
    let text = output.to_string_lossy().into_owned();
    world.done(&["restore", "--to", "latest", "--output", &text]);
    assert!(fs::read(output.join("other")).unwrap() == fs::read(folder.join("other")).unwrap());
    // Changes outside the list are not found.
    let back = fs::read(output.join("told")).unwrap();
    assert!((back[4096], back[1 << 20]) == (2, 1));
    // A list of another source is not used, and this is reported.
    let other = told("pitr changed ranges 1\nsince 00112233445566778899aabbccddeeff\n");
    assert_eq!(other["changed_ranges"]["since_is_known"], false);
    fs::write(&list, format!("{head}0 x told\n")).unwrap();
    for (args, told) in [
        (vec!["backup", &folder_arg, "--changed-ranges", &list_arg], "line 3"),
        (vec!["backup", &folder_arg, "--changed-ranges", "/no/list"], "/no/list"),
        (vec!["backup", &folder_arg, "--changed-ranges", &list_arg, "--full"], "--full"),
        (
            vec!["backup", &world.database().to_string_lossy(), "--changed-ranges", &list_arg],
            "omit it for a database",
        ),
    ] {
        let refused = world.pitr(&args);
        assert!(refused.code == 2 && refused.stderr.contains(told), "{}", refused.stderr);
    }
}
