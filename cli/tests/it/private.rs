//! Permissions of created files, and messages if access is denied (FAILURES 58).

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::World;

const NOBODY: u32 = 65534;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder and everything below it except sockets and links.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(tree(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Files that users other than the owner may read or write.
fn open_to_others(folder: &Path) -> Vec<String> {
    let open = tree(folder).into_iter().filter(|path| mode(path) & 0o077 != 0);
    open.map(|path| format!("{} {:o}", path.display(), mode(&path))).collect()
}

#[test]
fn created_files_are_private_whatever_the_umask() {
    let mut world = World::empty();
    world.setup = "umask 000";
    world.done(&["init"]);
    let mut app = world.application();
    let watcher = world.watch();
    let state = world.path("app.db-pitr");
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
        world.done(&["backup", &world.database().to_string_lossy()]);
    }
    assert!(state.join("control").exists());
    assert_eq!(open_to_others(&state), [""; 0]);
    watcher.stop();
    world.done(&["verify"]);
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!(open_to_others(&world.path("repo")), [""; 0]);
    assert_eq!(open_to_others(&state), [""; 0]);
    assert_eq!(world.done(&["info"])["readable_by"], Value::Null);
}

#[test]
fn a_mode_shares_the_repository_until_its_folder_is_closed() {
    let mut world = World::empty();
    world.setup = "umask 077";
    world.done(&["init", "--mode", "0640"]);
    let app = world.application();
    let database = world.database().to_string_lossy().into_owned();
    world.done(&["backup", &database]);
    let repo = world.path("repo");
    for path in tree(&repo) {
        assert_eq!(mode(&path), if path.is_dir() { 0o750 } else { 0o640 }, "{}", path.display());
    }
    assert_eq!(world.done(&["info"])["readable_by"]["who"], "group");
    let before = tree(&repo);
    set_mode(&repo, 0o755);
    let info = world.done(&["info"]);
    assert_eq!(info["readable_by"]["who"], "everyone");
    // The reported command works.
    let command = info["readable_by"]["command"].as_str().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    world.done(&["backup", &database, "--full"]);
    assert!(tree(&repo).len() > before.len());
    assert_eq!(open_to_others(&repo), [""; 0]);
    assert_eq!(world.done(&["info"])["readable_by"], Value::Null);
    drop(app);
}

#[test]
fn a_readable_local_log_of_an_earlier_version_becomes_private() {
    let world = World::new();
    let mut app = world.application();
    world.watch().stop();
    let state = world.path("app.db-pitr");
    set_mode(&state, 0o755);
    set_mode(&world.database(), 0o600);
    app.sql("INSERT INTO t(x) VALUES(1)");
    world.watch().stop();
    assert_eq!(mode(&state), 0o700);
}

#[test]
fn a_fresh_restore_has_the_owner_and_mode_of_the_source() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    drop(app);
    let is_root = rustix::process::geteuid().is_root();
    for wanted in [0o640, 0o604] {
        set_mode(&world.database(), wanted);
        if is_root {
            chown(world.database(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        world.done(&["backup", &world.database().to_string_lossy(), "--full"]);
        let (answer, output) = world.restore("latest", &[]);
        assert_eq!((answer.code, mode(&output)), (0, wanted), "{}", answer.stderr);
        assert_eq!(answer.json["not_given"], Value::Null);
        if is_root {
            let meta = fs::metadata(&output).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY));
        }
    }
}

/// Runs the program as another user. `None` if the test may not change users.
struct OtherUser {
    program: PathBuf,
    repo: PathBuf,
}

impl OtherUser {
    fn of(world: &World) -> Option<OtherUser> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        set_mode(&world.path(""), 0o755);
        // The program may be in a folder that only this user may enter.
        let program = world.path("pitr");
        fs::copy(env!("CARGO_BIN_EXE_pitr"), &program).unwrap();
        set_mode(&program, 0o755);
        Some(OtherUser { program, repo: world.path("repo") })
    }

    /// The answer, or the failure document.
    fn pitr(&self, args: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        command.arg("--repo").arg(&self.repo).arg("--json").args(args).current_dir("/");
        command.env_remove("PITR_REPO").env_remove("PITR_PASSPHRASE");
        let done = command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).output().unwrap();
        serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&done.stderr)))
    }

    fn denied(&self, args: &[&str], names: &Path, next: &str) {
        let error = &self.pitr(args)["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert_eq!(error["code"], "permission-denied", "{args:?}: {message}");
        let says = message.contains(&*names.to_string_lossy()) && message.contains(next);
        assert!(says && !message.contains("lock"), "{args:?}: {message}");
    }
}

#[test]
fn a_denied_access_names_the_file_and_what_to_do() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    drop(app);
    let database = world.database().to_string_lossy().into_owned();
    world.done(&["backup", &database]);
    let Some(other) = OtherUser::of(&world) else { return };
    let (ours, theirs) = (world.path("ours"), world.path("theirs"));
    for folder in [&ours, &theirs] {
        fs::create_dir(folder).unwrap();
        set_mode(folder, 0o755);
    }
    chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    other.denied(&["info"], &world.path("repo"), "run it as");
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(world.path("repo")).status().unwrap().success());
    let output = |folder: &Path| folder.join("out.db").to_string_lossy().into_owned();
    other.denied(&["restore", "--to", "latest", "--output", &output(&ours)], &ours, "another place");
    // Owner and group can't be set: then the group gets no more access than others.
    set_mode(&world.database(), 0o640);
    world.done(&["backup", &database, "--full"]);
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(world.path("repo")).status().unwrap().success());
    let restored = other.pitr(&["restore", "--to", "latest", "--output", &output(&theirs)]);
    assert_eq!(restored["not_given"], serde_json::json!({"uid": 0, "gid": 0, "mode": "0640"}), "{restored}");
    assert_eq!(mode(&theirs.join("out.db")), 0o600);
    // A folder in which no local log can be created, as on a read-only mount.
    assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(world.path("repo")).status().unwrap().success());
    let copy = ours.join("app.db");
    fs::copy(world.database(), &copy).unwrap();
    set_mode(&copy, 0o666);
    let backup = ["backup", &copy.to_string_lossy(), "--source", "copy"];
    other.denied(&backup, &ours.join("app.db-pitr"), "--state");
    // SQLite can't create its -shm file in that folder either.
    let state = theirs.join("state");
    other.denied(&[&backup[..], &["--state", &state.to_string_lossy()]].concat(), &copy, "-shm");
}
