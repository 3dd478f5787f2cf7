//! An encrypted repository, from its creation to a restore with other keys.

use std::fs;

use crate::world::World;
use pitr_testkit::{App, files_below};

const SECRET: &str = "the patient in room nine";

/// A world whose repository is encrypted with the passphrase in the file `p`.
fn encrypted() -> (World, String) {
    let world = World::empty();
    let passphrase = file(&world, "p", "correct horse battery\n");
    let made = world.done(&["init", "--encrypt", "--passphrase-file", &passphrase]);
    assert_eq!(made["encrypted"], true);
    (world, passphrase)
}

fn file(world: &World, name: &str, content: &str) -> String {
    fs::write(world.path(name), content).unwrap();
    world.path(name).to_string_lossy().into_owned()
}

/// The application in `world`, with a secret row.
fn application(world: &World) -> App {
    let mut app = world.application();
    app.sql(&format!("INSERT INTO t(x) VALUES('{SECRET}')"));
    app.sql("INSERT INTO t(x) VALUES(randomblob(3000000))");
    app
}

#[test]
fn stored_data_is_readable_only_with_the_key() {
    // FAILURES 35
    let (mut world, passphrase) = encrypted();
    let mut app = application(&world);
    let database = world.database().to_string_lossy().into_owned();
    let watcher = world.watch_with(&["--rpo", "100ms", "--passphrase-file", &passphrase]);
    app.sql("INSERT INTO t(x) VALUES('watched')");
    watcher.stop();
    let copy = world.copy(&mut app);
    world.done(&["backup", &database, "--passphrase-file", &passphrase]);
    world.assert_exact("latest", &["--passphrase-file", &passphrase], &copy);

    // No content and no name is stored in plain text: no rows, no source name, no SQLite header.
    let repository = world.path("repo");
    let files = files_below(&repository);
    assert!(files.len() > 8, "{files:?}");
    for path in &files {
        let bytes = fs::read(path).unwrap();
        for clear in [SECRET, "watched", "SQLite format 3", "sqlite"] {
            let found = bytes.windows(clear.len()).any(|window| window == clear.as_bytes());
            assert!(!found, "{clear:?} in {}", path.display());
        }
        let below = path.strip_prefix(&repository).unwrap().to_string_lossy().into_owned();
        assert!(!below.split('/').any(|part| part == "app"), "{below}");
    }

    let wrong = file(&world, "wrong", "correct horse batteri\n");
    let key = file(&world, "key", &"ab".repeat(32));
    for (args, says) in [
        (&["info"][..], "is encrypted"),
        (&["info", "--passphrase-file", &wrong], "wrong passphrase"),
        (&["info", "--key-file", &key], "wrong passphrase or key"),
        (&["backup", &database], "is encrypted"),
        (&["restore", "--to", "latest", "--output", "x", "--passphrase-file", &wrong], "wrong passphrase"),
    ] {
        let answer = world.pitr(args);
        assert_eq!(answer.code, 2, "{args:?}: {}", answer.stderr);
        assert!(answer.stderr.contains(says), "{args:?}: {}", answer.stderr);
    }
    let info = world.done(&["info", "--passphrase-file", &passphrase]);
    assert_eq!(info["sources"][0]["name"], "app");
}

#[test]
fn every_snapshot_stays_readable_when_keys_change() {
    // A key rotated between two snapshots (FAILURES 35).
    let (mut world, passphrase) = encrypted();
    let mut app = application(&world);
    let database = world.database().to_string_lossy().into_owned();
    let first = world.copy(&mut app);
    world.done(&["backup", &database, "--passphrase-file", &passphrase]);

    assert_eq!(world.done(&["key", "rotate", "--passphrase-file", &passphrase])["data_keys"], 2);
    app.sql("INSERT INTO t(x) VALUES('after the rotation')");
    let second = world.copy(&mut app);
    world.done(&["backup", &database, "--passphrase-file", &passphrase]);
    let info = world.done(&["info", "--passphrase-file", &passphrase]);
    let snapshots = info["sources"][0]["snapshots"].as_array().unwrap().clone();
    assert_eq!(snapshots.len(), 2, "{info}");

    let key = file(&world, "key", &format!("{}\n", "0f".repeat(32)));
    let added = world.done(&["key", "add", "--new-key-file", &key, "--passphrase-file", &passphrase]);
    assert!(added["added"].is_string(), "{added}");
    let listed = world.done(&["key", "list", "--key-file", &key]);
    let slots = listed["slots"].as_array().unwrap().clone();
    assert_eq!((slots.len(), listed["data_keys"].as_u64()), (2, Some(2)), "{listed}");
    let of_passphrase = slots.iter().find(|slot| slot["method"] == "argon2id").unwrap()["id"].clone();
    let of_passphrase = of_passphrase.as_str().unwrap();
    world.done(&["key", "remove", of_passphrase, "--key-file", &key]);
    assert_eq!(world.pitr(&["info", "--passphrase-file", &passphrase]).code, 2);
    let only = slots.iter().find(|slot| slot["method"] == "raw").unwrap()["id"].clone();
    let last = world.pitr(&["key", "remove", only.as_str().unwrap(), "--key-file", &key]);
    assert!(last.code == 1 && last.stderr.contains("only key slot"), "{}", last.stderr);
    assert_eq!(world.pitr(&["key", "remove", of_passphrase, "--key-file", &key]).code, 1);

    let at = |no: usize| format!("lsn:{}", snapshots[no]["lsn"]);
    world.assert_exact(&at(0), &["--key-file", &key], &first);
    world.assert_exact("latest", &["--key-file", &key], &second);
}

#[test]
fn a_key_may_come_from_a_command() {
    let world = World::empty();
    let key = file(&world, "key", &"0f".repeat(32));
    let print = format!("cat {key}");
    world.done(&["init", "--encrypt", "--key-command", &print]);
    world.done(&["info", "--key-file", &key]);
    assert_eq!(world.pitr(&["info", "--key-command", &format!("tr 0 1 < {key}")]).code, 2);
    world.done(&["key", "add", "--new-key-command", "printf %064d 7", "--key-command", &print]);
    world.done(&["info", "--key-command", "printf %064d 7"]);
    let failed = world.pitr(&["info", "--key-command", "echo no such secret >&2; exit 3"]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    for says in ["no such secret", "the key command failed: exit status: 3"] {
        assert!(failed.stderr.contains(says), "{says}: {}", failed.stderr);
    }
    let both = world.pitr(&["info", "--key-command", &print, "--key-file", &key]);
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}

#[test]
fn a_plain_repository_refuses_a_key() {
    let world = World::new();
    let passphrase = file(&world, "p", "x\n");
    for args in [
        &["info", "--passphrase-file", &passphrase][..],
        &["key", "list"],
        &["key", "rotate"],
        &["init", "--encrypt"],
        &["init", "--passphrase-file", &passphrase],
        &["key", "add"],
        &["info", "--passphrase-file", "/nowhere"],
    ] {
        let answer = world.pitr(args);
        assert_eq!(answer.code, 2, "{args:?}: {}", answer.stderr);
    }
}

#[test]
fn a_passphrase_may_come_from_the_environment() {
    let world = World::empty();
    world.done_with("PITR_PASSPHRASE", "open sesame", &["init", "--encrypt"]);
    world.done_with("PITR_PASSPHRASE", "open sesame", &["info"]);
    assert_eq!(world.pitr(&["info"]).code, 2);
    let same = file(&world, "p", "open sesame\n");
    world.done(&["info", "--passphrase-file", &same]);
    // A file takes precedence over the environment.
    let wrong = file(&world, "wrong", "open simsim\n");
    let answer = world.pitr_with("PITR_PASSPHRASE", "open sesame", &["info", "--passphrase-file", &wrong]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
}

#[test]
fn the_codec_changes_the_stored_bytes() {
    let stored = |codec: &str| {
        let mut world = World::new();
        let mut app = world.application();
        app.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) \
             INSERT INTO t(x) SELECT 'row ' || (i * 7919 % 10007) FROM n",
        );
        let copy = world.copy(&mut app);
        let taken = world.done(&["backup", &world.database().to_string_lossy(), "--compress", codec]);
        world.assert_exact("latest", &[], &copy);
        taken["stored_bytes"].as_u64().unwrap()
    };
    let sizes: Vec<u64> = ["none", "lz4", "snappy", "zstd:1", "gzip:6", "zstd:19"].map(stored).to_vec();
    let largest = sizes[0];
    assert!(sizes[1..].iter().all(|size| *size < largest * 3 / 4), "{sizes:?}");
    assert!(sizes[5] < sizes[3] && sizes[3] < sizes[1], "{sizes:?}");
    assert_eq!(World::new().pitr(&["backup", "x", "--compress", "brotli"]).code, 2);
}
