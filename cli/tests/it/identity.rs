//! The identity of a source: one database at one path, or a restored state of it.

use std::fs;
use std::path::{Path, PathBuf};

use pitr_testkit::App;

use crate::world::{Answer, Watcher, World};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A folder with a closed database `app.db` of one row, and a copy of the database.
fn database(world: &mut World, folder: &str, row: &str) -> (PathBuf, PathBuf) {
    fs::create_dir(world.path(folder)).unwrap();
    let path = world.path(folder).join("app.db");
    let copy = insert(world, &path, row);
    (path, copy)
}

/// Inserts a row into a database. Returns a copy taken after it.
fn insert(world: &mut World, database: &Path, row: &str) -> PathBuf {
    let mut app = world.application_on(database);
    commit(world, &mut app, row)
}

/// A database that was watched while two rows came.
struct Watched {
    app: App,
    /// Copies of the database after each row.
    copies: [PathBuf; 2],
}

/// Watches the database while two rows come, then stops.
fn watched(world: &mut World) -> Watched {
    let (watched, watcher) = watching(world);
    watcher.stop();
    watched
}

/// As [`watched`]; the watcher goes on.
fn watching(world: &mut World) -> (Watched, Watcher) {
    let mut app = world.application();
    let watcher = world.watch();
    let copies = ["common", "of the original alone"].map(|row| commit(world, &mut app, row));
    (Watched { app, copies }, watcher)
}

/// Inserts a row. Returns a copy of the database after it.
fn commit(world: &mut World, app: &mut App, row: &str) -> PathBuf {
    app.sql(&format!("INSERT INTO t(x) VALUES('{row}')"));
    world.copy(app)
}

fn assert_refused(answer: &Answer, names: &[&Path]) {
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    for name in names {
        assert!(answer.stderr.contains(&text(name)), "{}", answer.stderr);
    }
    assert!(answer.stderr.contains("--source") && answer.stderr.contains("--adopt"), "{}", answer.stderr);
}

fn forks(world: &World) -> Vec<String> {
    let info = world.done(&["info", "--source", "app"]);
    let gaps = info["sources"][0]["gaps"].as_array().unwrap().len();
    let timelines = fs::read_dir(world.path("repo/sources/app/timelines")).unwrap().count();
    vec![format!("{timelines} timelines"), format!("{gaps} gaps")]
}

#[test]
fn two_databases_with_the_same_name_are_not_one_source() {
    // FAILURES 50
    let mut world = World::new();
    let ((a, of_a), (b, of_b)) = (database(&mut world, "a", "of a"), database(&mut world, "b", "of b"));
    world.done(&["backup", &text(&a)]);
    for command in ["backup", "watch"] {
        assert_refused(&world.pitr(&[command, &text(&b)]), &[&a, &b]);
    }
    assert!(!world.path("b/app.db-pitr").exists(), "a folder of source app would keep b from another name");
    world.assert_exact("latest", &[], &of_a);
    world.done(&["backup", &text(&b), "--source", "app-of-b"]);
    world.done(&["backup", &text(&a)]);
    world.assert_exact("latest", &["--source", "app"], &of_a);
    world.assert_exact("latest", &["--source", "app-of-b"], &of_b);
}

#[test]
fn a_moved_database_needs_adopt() {
    // FAILURES 50
    let mut world = World::new();
    let (a, _) = database(&mut world, "a", "before");
    world.done(&["backup", &text(&a)]);
    fs::rename(world.path("a"), world.path("b")).unwrap();
    let b = world.path("b/app.db");
    assert_refused(&world.pitr(&["backup", &text(&b)]), &[&a, &b]);
    world.done(&["backup", &text(&b), "--adopt"]);
    let after = insert(&mut world, &b, "after");
    world.done(&["backup", &text(&b)]);
    world.assert_exact("latest", &[], &after);
    // The local log was moved together with the database.
    assert_eq!(forks(&world), ["1 timelines", "0 gaps"]);
    let (a, _) = database(&mut world, "a", "another");
    assert_refused(&world.pitr(&["backup", &text(&a)]), &[&a, &b]);
}

#[test]
fn a_restored_copy_at_another_path_forks_and_both_histories_stay() {
    // FAILURES 8
    let mut world = World::new();
    let Watched { app: _original, copies: [common, original] } = watched(&mut world);
    let moved = world.path("moved.db");
    fs::rename(world.restored("tx:1", &[]), &moved).unwrap();
    let watcher = world.watch_at(&moved, &["--source", "app", "--rpo", "200ms"]);
    let mut app = world.application_on(&moved);
    let after = commit(&mut world, &mut app, "of the copy alone");
    watcher.stop();
    // All pages were compared: it is exactly the restored state.
    assert_eq!(forks(&world), ["2 timelines", "0 gaps"]);
    world.assert_exact("latest", &[], &after);
    world.assert_exact("tx:1", &[], &common);
    world.assert_exact("tx:2", &["--timeline", "1"], &original);
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_restored_copy_with_later_commits_forks_after_a_gap() {
    // FAILURES 8. The commit is only in SQLite's log; commits since the restore are unknown.
    let mut world = World::new();
    let Watched { app: _original, copies: [_, original] } = watched(&mut world);
    let copy = world.path("moved.db");
    fs::rename(world.restored("tx:1", &[]), &copy).unwrap();
    let mut app = world.application_on(&copy);
    app.sql("INSERT INTO t(x) VALUES('not seen')");
    world.done(&["backup", &text(&copy), "--source", "app"]);
    let after = world.copy(&mut app);
    assert_eq!(forks(&world), ["2 timelines", "1 gaps"]);
    world.assert_exact("latest", &[], &after);
    world.assert_exact("latest", &["--timeline", "1"], &original);
}

#[test]
fn a_restore_over_the_original_forks() {
    // FAILURES 8
    let mut world = World::new();
    let Watched { app, copies: [_, damaged] } = watched(&mut world);
    drop(app);
    let database = text(&world.database());
    world.done(&["restore", "--to", "tx:1", "--force", "--output", &database]);
    let watcher = world.watch();
    let mut app = world.application();
    let after = commit(&mut world, &mut app, "goes on");
    watcher.stop();
    world.assert_exact("latest", &[], &after);
    world.assert_exact("latest", &["--timeline", "1"], &damaged);
    assert_eq!(forks(&world), ["2 timelines", "0 gaps"]);
    // The next backup continues the database's timeline.
    world.done(&["backup", &database]);
    assert_eq!(forks(&world), ["2 timelines", "0 gaps"]);
}

#[test]
fn a_known_restored_state_of_the_original_is_not_a_gap() {
    // The original equals a state restored elsewhere, but is not a copy (FAILURES 8).
    let mut world = World::new();
    let mut app = world.application();
    let watcher = world.watch();
    let copy = commit(&mut world, &mut app, "1");
    world.done(&["backup", &text(&world.database())]);
    world.assert_exact("latest", &[], &copy);
    watcher.kill();
    assert!(app.sql("PRAGMA wal_checkpoint(TRUNCATE)").starts_with('0'));
    let watcher = world.watch();
    let copy = commit(&mut world, &mut app, "2");
    watcher.stop();
    assert_eq!(forks(&world), ["1 timelines", "0 gaps"]);
    world.assert_exact("latest", &[], &copy);
    // Without a known state there is a gap, but no fork.
    let watcher = world.watch();
    app.sql("INSERT INTO t(x) VALUES(3)");
    world.done(&["backup", &text(&world.database())]);
    watcher.kill();
    assert!(app.sql("PRAGMA wal_checkpoint(TRUNCATE)").starts_with('0'));
    world.done(&["backup", &text(&world.database())]);
    assert_eq!(forks(&world), ["1 timelines", "1 gaps"]);
}

#[test]
fn a_restored_copy_moved_over_a_watched_original_forks() {
    // FAILURES 8, 9
    let mut world = World::new();
    let (Watched { app, copies: [_, damaged] }, mut watcher) = watching(&mut world);
    world.done(&["backup", &text(&world.database())]);
    drop(app);
    let restored = world.restored("tx:1", &[]);
    for beside in ["app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(world.path(beside));
    }
    fs::rename(restored, world.database()).unwrap();
    watcher.until("watched from now on");
    let mut app = world.application();
    let after = commit(&mut world, &mut app, "goes on");
    watcher.stop();
    world.assert_exact("latest", &[], &after);
    world.assert_exact("latest", &["--timeline", "1"], &damaged);
    assert_eq!(forks(&world)[0], "2 timelines");
}

#[test]
fn unknown_content_at_the_path_of_a_source_begins_after_a_gap() {
    // FAILURES 9
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('old')");
    let watcher = world.watch();
    let old = world.copy(&mut app);
    watcher.stop();
    drop(app);
    fs::remove_file(world.database()).unwrap();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES('new')");
    let watcher = world.watch();
    let new = world.copy(&mut app);
    watcher.stop();
    assert_eq!(forks(&world), ["1 timelines", "1 gaps"]);
    world.assert_exact("latest", &[], &new);
    let base = world.done(&["info"])["sources"][0]["snapshots"][0]["lsn"].as_u64().unwrap();
    world.assert_exact(&format!("lsn:{base}"), &[], &old);
}

#[test]
fn names_in_any_script_are_distinct_sources() {
    // FAILURES 50
    let mut world = World::new();
    for name in ["日本", "数据", "база", "my läden"] {
        let path = world.path(&format!("{name}.db"));
        let copy = insert(&mut world, &path, name);
        world.done(&["backup", &text(&path)]);
        world.assert_exact("latest", &["--source", &name.replace(' ', "_")], &copy);
    }
    let info = world.done(&["info"]);
    let names: Vec<_> =
        info["sources"].as_array().unwrap().iter().map(|source| source["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["my_läden", "база", "数据", "日本"]);
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    let verified = world.done(&["verify", "--deep"]);
    assert_eq!(verified["ok"], true);
}

#[test]
fn an_encrypted_repository_reveals_neither_path_nor_content() {
    let mut world = World::empty();
    let done = |world: &World, args: &[&str]| world.done_with("PITR_PASSPHRASE", "secret", args);
    done(&world, &["init", "--encrypt"]);
    let database = world.path("日本.db");
    insert(&mut world, &database, "common");
    done(&world, &["backup", &text(&database)]);
    insert(&mut world, &database, "of the original alone");
    done(&world, &["backup", &text(&database)]);
    let (restored, moved) = (world.path("restored.db"), world.path("moved.db"));
    done(&world, &["restore", "--to", "latest", "--output", &text(&restored)]);
    fs::rename(&restored, &moved).unwrap();
    done(&world, &["backup", &text(&moved), "--source", "日本"]);
    let info = done(&world, &["info"]);
    let gaps = info["sources"][0]["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 0, "known by its content: {info}");
    let mut folders = vec![world.path("repo")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let bytes = fs::read(&path).unwrap();
                    let tells = |what: &str| bytes.windows(what.len()).any(|part| part == what.as_bytes());
                    assert!(!tells("日本") && !tells("moved.db"), "{}", path.display());
                }
            }
        }
    }
    assert_eq!(done(&world, &["verify", "--deep"])["ok"], true);
}

#[test]
fn origins_and_restored_states_survive_a_prune() {
    let mut world = World::new();
    let mut app = world.application();
    let database = text(&world.database());
    for _ in 0..3 {
        let copy = commit(&mut world, &mut app, "one more");
        world.done(&["backup", &database]);
        world.assert_exact("latest", &[], &copy);
    }
    let files = |folder: &str| -> Vec<PathBuf> {
        fs::read_dir(world.path("repo/sources/app").join(folder))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect()
    };
    // An unchanged path has one object, and each restored state has one.
    let before = (files("origins"), files("restored"));
    assert_eq!((before.0.len(), before.1.len()), (1, 3));
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    assert_eq!((files("origins"), files("restored")), before);
    let verified = world.pitr(&["verify", "--deep"]);
    assert_eq!(verified.json["ok"], true);
    assert!(!verified.stderr.contains("origins") && !verified.json.to_string().contains("origins"));
    // A damaged object is a fault, but backups still work.
    fs::write(&before.0[0], "damaged").unwrap();
    assert_eq!(world.pitr(&["verify"]).code, 4);
    world.done(&["backup", &database]);
}

#[test]
fn a_read_only_repository_can_be_restored_from() {
    let mut world = World::new();
    let database = world.database();
    let copy = insert(&mut world, &database, "1");
    world.done(&["backup", &text(&database)]);
    // A file replaces the folder: no restored state can be recorded.
    fs::write(world.path("repo/sources/app/restored"), "").unwrap();
    world.assert_exact("latest", &[], &copy);
}
