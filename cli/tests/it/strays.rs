//! Special files in place of regular ones, and foreign files in a repository (FAILURES 59).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::world::World;

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Each command ends, because none opens the pipe.
#[test]
fn a_named_pipe_is_refused_wherever_a_file_is_expected() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('kept')");
    let database = world.database().to_string_lossy().into_owned();
    world.done(&["backup", &database]);
    let path = |name: &str| world.path(name).to_string_lossy().into_owned();
    let (pipe_path, folder) = (path("pipe"), path("folder"));
    pipe(&world.path("pipe"));
    fs::create_dir(world.path("folder")).unwrap();
    let device = path("device");
    symlink("/dev/zero", &device).unwrap();
    for (line, code) in [
        (vec!["backup", &pipe_path, "--source", "pipe"], 2),
        (vec!["backup", &device, "--source", "device"], 2),
        (vec!["watch", &pipe_path, "--source", "pipe"], 2),
        (vec!["restore", "--to", "latest", "--output", &pipe_path], 2),
        (vec!["restore", "--to", "latest", "--output", &pipe_path, "--delta"], 1),
        (vec!["backup", &folder, "--changed-ranges", &pipe_path], 2),
        (vec!["info", "--passphrase-file", &pipe_path], 2),
        (vec!["info", "--key-file", &device], 2),
    ] {
        let answer = world.pitr(&line);
        assert_eq!(answer.code, code, "{line:?}: {}", answer.stderr);
        let told = ["a named pipe", "a device", "exists already"];
        assert!(told.iter().any(|what| answer.stderr.contains(what)), "{line:?}: {}", answer.stderr);
    }
    assert!(
        !world.path("pipe-pitr").exists() && !world.path("device-pitr").exists(),
        "a state folder is left"
    );
    // A pipe as the journal: SQLite would open it.
    let journal = world.path("app.db-journal");
    pipe(&journal);
    let answer = world.pitr(&["backup", &database]);
    assert!(answer.code == 2 && answer.stderr.contains("app.db-journal"), "{}", answer.stderr);
    fs::remove_file(journal).unwrap();
    // The watcher's own files.
    let identity = world.path("app.db-pitr/identity");
    fs::remove_file(&identity).unwrap();
    pipe(&identity);
    let answer = world.pitr(&["backup", &database]);
    assert!(answer.code == 2 && answer.stderr.contains("a named pipe"), "{}", answer.stderr);
}

#[test]
fn foreign_files_in_a_repository_are_reported_and_ignored() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('kept')");
    let database = world.database().to_string_lossy().into_owned();
    world.done(&["backup", &database]);
    let copy = world.copy(&mut app);
    let at = |name: &str| world.path("repo").join(name);
    for folder in ["", "packs/", "index/", "sources/", "sources/app/", "sources/app/log/", "leases/"] {
        fs::create_dir_all(at(folder)).unwrap();
        fs::write(at(folder).join(".DS_Store"), b"theirs").unwrap();
        fs::create_dir_all(at(folder).join("lost+found")).unwrap();
        pipe(&at(folder).join("pipe"));
        symlink("itself", at(folder).join("itself")).unwrap();
        symlink("nothing", at(folder).join("gone+")).unwrap();
    }
    fs::write(at("sources/app/snapshots/.DS_Store"), b"theirs").unwrap();
    fs::create_dir(at("sources/junk")).unwrap();
    fs::write(at("sources/junk/notes.txt"), b"theirs").unwrap();
    symlink("/", at("packs/everything")).unwrap();
    world.assert_exact("latest", &[], &copy);
    for line in [&["info"][..], &["log"], &["backup", &database], &["prune", "--keep-snapshots", "5"]] {
        let answer = world.pitr(line);
        assert_eq!(answer.code, 0, "{line:?}: {}", answer.stderr);
    }
    let info = world.pitr(&["info"]);
    assert_eq!(info.json["sources"].as_array().unwrap().len(), 1, "{}", info.json);
    assert!(info.json["sources"][0]["damaged"].is_null(), "{}", info.json);
    // Each foreign file is reported once in a run.
    let told = world.pitr(&["log"]).stderr;
    assert_eq!(told.matches("sources/app/log/pipe is not an object").count(), 1, "{told}");
    let verified = world.done(&["verify", "--deep"]);
    let strangers = verified["strangers"].to_string();
    for stranger in [
        "\"packs/pipe (a named pipe",
        "\"itself (a loop",
        "\"index/gone+ (a symbolic link to nothing)",
        "\"packs/everything (a symbolic link to a folder",
        "\"sources/junk/notes.txt\"",
        "\"sources/app/snapshots/.DS_Store\"",
        "\"packs/.DS_Store\"",
    ] {
        assert!(strangers.contains(stranger), "{stranger}: {strangers}");
    }
    // A link may lead to a source on an unmounted disk. Other sources can be read, and nothing is
    // deleted.
    symlink("nothing", at("sources/other")).unwrap();
    world.assert_exact("latest", &[], &copy);
    let told = world.pitr(&["info"]);
    assert!(told.code == 0 && told.stderr.contains("sources/other"), "{}", told.stderr);
    assert_ne!(world.pitr(&["prune", "--keep-snapshots", "5"]).code, 0);
    assert_eq!(world.pitr(&["verify"]).code, 4);
    fs::remove_file(at("sources/other")).unwrap();
    // A pipe in place of an object is a fault. It is not opened.
    let logs = world.path("repo/sources/app/log/00000001/0000000000000001");
    let object = fs::read_dir(&logs).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&object).unwrap();
    pipe(&object);
    let answer = world.pitr(&["verify"]);
    assert_eq!(answer.code, 4, "{}", answer.stderr);
    assert!(answer.json["failures"].to_string().contains("a named pipe"), "{}", answer.json);
    world.pitr(&["log"]);
}
