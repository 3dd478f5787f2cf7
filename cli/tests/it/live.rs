//! `pitr verify --level live`.

use crate::world::{World, pause};

#[test]
fn a_watched_database_equals_its_archive_while_it_is_written() {
    let world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(randomblob(500000))");
    let watcher = world.watch();
    // Nothing can be restored, and compared, before the first base is stored.
    while world.done(&["info"])["sources"][0]["snapshots"].as_array().is_none_or(Vec::is_empty) {
        pause(20);
    }
    for _ in 0..3 {
        app.sql("INSERT INTO t(x) VALUES(randomblob(5000))");
        let answer = world.done(&["verify", "--level", "live"]);
        let live = &answer["live"][0];
        assert_eq!((live["ok"].as_bool(), live["whole"].as_bool()), (Some(true), Some(true)), "{answer}");
        assert_eq!(live["differing"], 0);
        assert!(
            live["compared_bytes"].as_u64().unwrap() > 500_000 && live["state"]["tx"].as_u64().unwrap() > 0
        );
    }
    let path = world.database().to_string_lossy().into_owned();
    let part =
        world.done(&["verify", "--level", "live", "--database", &path, "--share", "1", "--rate", "1GB"]);
    assert!(part["live"][0]["compared_bytes"].as_u64().unwrap() < 3_000_000);
    app.sql("INSERT INTO t(x) VALUES(randomblob(3000000))");
    let short = world.done(&["verify", "--level", "live", "--budget", "1s", "--rate", "1kB"]);
    assert_eq!(short["live"][0]["whole"], false);
    watcher.stop();
    let alone = world.pitr(&["verify", "--level", "live"]);
    assert_eq!(alone.code, 5, "{}", alone.stderr);
    for (args, says) in [
        (&["--share", "5"][..], "belongs to the level live"),
        (&["--database", "x"], "belongs to the level live"),
        (&["--rate", "1MB"], "belongs to --every and to the level live"),
        (&["--budget", "5s"], "belongs to --every and to the level live"),
    ] {
        let refused = world.pitr(&[&["verify"], args].concat());
        assert!(refused.code == 2 && refused.stderr.contains(says), "{args:?}: {}", refused.stderr);
    }
}
