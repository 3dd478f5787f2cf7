//! Wrong usage: exit codes, and nothing is overwritten.

use std::os::unix::fs::PermissionsExt;

use crate::world::World;

#[test]
fn verbose_and_quiet_change_the_messages() {
    let world = World::new();
    let app = world.application();
    let database = world.database().to_string_lossy().into_owned();
    let said = |options: &[&str]| {
        let line = [options, &["backup", &database, "--full"]].concat();
        let done = world.pitr(&line);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stderr
    };
    let [plain, once, twice, quiet] = [&[][..], &["-v"], &["-vv"], &["-q"]].map(said);
    drop(app);
    assert!(!plain.contains("snapshot published") && once.contains("snapshot published"), "{plain}\n{once}");
    assert!(!once.contains("put") && twice.contains("put") && twice.contains("get"), "{once}\n{twice}");
    assert_eq!(quiet, "");
    assert!(!twice.contains('\x1b'), "colours are for terminals: {twice}");
}

#[test]
fn wrong_usage_has_its_exit_code_and_a_one_line_message() {
    let world = World::new();
    let mut app = world.application();
    let database = world.database().to_string_lossy().into_owned();
    let empty = world.pitr(&["restore", "--to", "latest", "--output", "x"]);
    assert_eq!(empty.code, 3, "{}", empty.stderr);
    world.done(&["backup", &database]);
    std::fs::write(world.path("text"), "hello").unwrap();
    std::fs::write(world.path("taken"), "mine").unwrap();
    let at = |name: &str| world.path(name).to_string_lossy().into_owned();
    let rollback = at("rollback.db");
    let mut other = pitr_testkit::App::start("application", world.path("rollback.db").as_path());
    other.sql("CREATE TABLE t(x)");
    let uses: Vec<(i32, Vec<String>, &str)> = vec![
        (2, vec!["init".into()], "already"),
        (2, vec!["backup".into(), at("nothing.db")], "No such file"),
        (2, vec!["backup".into(), at("text")], "not a SQLite database"),
        (2, vec!["backup".into(), rollback], "journal_mode=WAL"),
        (2, vec!["restore".into(), "--to".into(), "latest".into(), "--output".into(), at("taken")], "exists"),
        (
            2,
            vec!["restore".into(), "--to".into(), "noon".into(), "--output".into(), at("out")],
            "13 minutes ago",
        ),
        (2, vec!["watch".into(), database.clone(), "--rpo".into(), "0".into()], "RPO 0"),
        (2, vec!["log".into(), "--source".into(), "nobody".into()], "nobody"),
        (2, vec!["frobnicate".into()], "frobnicate"),
        (3, vec!["restore".into(), "--to".into(), "tx:9".into(), "--output".into(), at("out")], "nearest"),
        (
            3,
            vec![
                "restore".into(),
                "--to".into(),
                "1999-01-01T00:00:00Z".into(),
                "--output".into(),
                at("out"),
            ],
            "nearest",
        ),
        (
            6,
            vec![
                "restore".into(),
                "--to".into(),
                "latest".into(),
                "--output".into(),
                at("late"),
                "--rto".into(),
                "1us".into(),
            ],
            "RTO",
        ),
    ];
    for (code, args, says) in uses {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = world.pitr(&args);
        assert_eq!(answer.code, code, "{args:?}: {}", answer.stderr);
        let last = answer.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("pitr: ") && last.contains(says), "{args:?}: {}", answer.stderr);
        if code != 6 {
            assert_eq!(answer.json["error"]["exit"], code, "{args:?}");
        }
    }
    assert_eq!(std::fs::read(world.path("taken")).unwrap(), b"mine");
    app.sql("INSERT INTO t(x) VALUES(1)");
}

#[test]
fn a_second_watcher_is_refused() {
    let world = World::new();
    let _app = world.application();
    let watcher = world.watch();
    let second = world.pitr(&["watch", &world.database().to_string_lossy()]);
    assert_eq!(second.code, 5, "{}", second.stderr);
    watcher.stop();
}

#[test]
fn a_backup_that_the_running_watcher_cannot_take_is_refused() {
    // A successful backup is of the given source, in the given repository, with the given codec
    // (law 2).
    let world = World::new();
    let _app = world.application();
    let watcher = world.watch();
    let database = world.database().to_string_lossy().into_owned();
    let other = world.pitr(&["backup", &database, "--source", "nightly"]);
    assert!(other.code == 2 && other.stderr.contains("another repository or source"), "{}", other.stderr);
    let other = World::new().pitr(&["backup", &database]);
    assert!(other.code == 2 && other.stderr.contains("another repository or source"), "{}", other.stderr);
    let other = world.pitr(&["backup", &database, "--compress", "lz4"]);
    assert!(other.code == 2 && other.stderr.contains("--compress"), "{}", other.stderr);
    world.done(&["backup", &database]);
    watcher.stop();
}

#[test]
fn a_restored_file_has_the_permissions_of_its_source_or_of_the_replaced_output() {
    // FAILURES 58
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.database(), private).unwrap();
    world.done(&["backup", &world.database().to_string_lossy()]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_, output) = world.restore("latest", &[]);
    assert_eq!(mode(&output), 0o600);
    let text = output.to_string_lossy().into_owned();
    std::fs::set_permissions(&output, std::fs::Permissions::from_mode(0o640)).unwrap();
    world.done(&["restore", "--to", "latest", "--output", &text, "--force"]);
    assert_eq!(mode(&output), 0o640);
}

#[test]
fn a_damaged_index_object_affects_only_snapshots_that_need_it() {
    // FAILURES 25, 29
    let mut world = World::new();
    let mut app = world.application();
    let mut copies = Vec::new();
    for _ in 0..2 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
        let taken = world.done(&["backup", &world.database().to_string_lossy()]);
        copies.push((taken["lsn"].clone(), world.copy(&mut app)));
    }
    let objects = pitr::objects::Objects::local(world.path("repo")).unwrap();
    let newer = objects.list("index").unwrap().into_iter().max_by_key(|entry| {
        std::fs::metadata(world.path("repo").join(&entry.path)).unwrap().modified().unwrap()
    });
    let path = world.path("repo").join(newer.unwrap().path);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(world.path("repo/index/.stray"), "mine").unwrap();
    let to = |no: usize| format!("lsn:{}", copies[no].0);
    world.assert_exact(&to(0), &[], &copies[0].1);
    let (other_way, _) = world.restore(&to(1), &[]);
    assert_eq!((other_way.code, other_way.json["avoided"].as_array().map(Vec::len)), (0, Some(1)));
    world.assert_exact(&to(1), &[], &copies[1].1);
    assert_eq!(world.pitr(&["verify", "--level", "restore"]).code, 4);
    assert_eq!(world.pitr(&["backup", &world.database().to_string_lossy()]).code, 4);
}

#[test]
fn force_moves_aside_and_a_dry_run_writes_nothing() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    let copy = world.copy(&mut app);
    world.done(&["backup", &world.database().to_string_lossy()]);
    let output = world.path("out.db");
    let text = output.to_string_lossy().into_owned();
    let dry = world.done(&["restore", "--to", "latest", "--output", &text, "--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    assert!(!output.exists());
    // SQLite would replay a stale -wal into the output (FAILURES 43).
    std::fs::write(world.path("out.db-wal"), "stale").unwrap();
    assert_eq!(world.pitr(&["restore", "--to", "latest", "--output", &text]).code, 2);
    std::fs::write(&output, "mine").unwrap();
    world.done(&["restore", "--to", "latest", "--output", &text, "--force"]);
    assert_eq!(pitr::exact::compare(&output, &copy).unwrap(), None);
    assert!(!world.path("out.db-wal").exists());
    let names: Vec<String> = std::fs::read_dir(world.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let kept = names.iter().filter(|n| n.starts_with("out.db") && *n != "out.db").count();
    assert!(kept >= 2, "{names:?}");
}

#[test]
fn a_damaged_object_is_named_and_never_restored() {
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(100000))");
    let _ = world.copy(&mut app);
    world.done(&["backup", &world.database().to_string_lossy()]);
    let packs = world.path("repo/packs");
    let pack = walk(&packs).into_iter().next().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let (answer, output) = world.restore("latest", &[]);
    assert_eq!(answer.code, 4, "{}", answer.stderr);
    assert!(answer.stderr.contains("packs/"), "{}", answer.stderr);
    assert!(!output.exists());
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
