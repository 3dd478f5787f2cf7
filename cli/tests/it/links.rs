//! Databases reached through links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::world::World;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn a_link_is_followed_despite_a_stale_log_beside_it() {
    // FAILURES 51
    let mut world = World::new();
    fs::create_dir(world.path("data")).unwrap();
    let (real, link) = (world.path("data/app.db"), world.path("link.db"));
    let mut app = world.application_on(&real);
    // Leftovers of an earlier database under the link's name.
    let mut earlier = world.application_on(&link);
    earlier.sql("INSERT INTO t(x) VALUES('stale')");
    let stale = fs::read(world.path("link.db-wal")).unwrap();
    drop(earlier);
    fs::remove_file(&link).unwrap();
    fs::write(world.path("link.db-wal"), stale).unwrap();
    symlink("data/app.db", &link).unwrap();
    let watcher = world.watch_at(&link, &["--rpo", "200ms"]);
    app.sql("INSERT INTO t(x) VALUES('live')");
    let live = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &["--source", "app"], &live);
    assert!(world.path("data/app.db-pitr").exists() && !world.path("link.db-pitr").exists());
    // The same database by its own name.
    world.done(&["backup", &text(&real)]);
    assert_eq!(world.done(&["info"])["sources"].as_array().unwrap().len(), 1);
}

#[test]
fn a_moved_folder_link_is_detected_and_its_new_target_watched() {
    // FAILURES 51
    let mut world = World::new();
    let (link, new) = (world.path("current"), world.path("new"));
    // At once: a watcher that looks in between would see no database.
    let point_at = |release: &str| {
        symlink(format!("releases/{release}"), &new).unwrap();
        fs::rename(&new, &link).unwrap();
    };
    let mut apps = ["1", "2"].map(|release| {
        fs::create_dir_all(world.path("releases").join(release)).unwrap();
        let mut app = world.application_on(&world.path("releases").join(release).join("app.db"));
        app.sql(&format!("INSERT INTO t(x) VALUES('of release {release}')"));
        app
    });
    point_at("1");
    let database = link.join("app.db");
    let mut watcher = world.watch_at(&database, &["--rpo", "200ms"]);
    apps[0].sql("INSERT INTO t(x) VALUES('seen')");
    let first = world.copy(&mut apps[0]);
    world.done(&["backup", &text(&database)]);
    point_at("2");
    watcher.until("a symbolic link in the path was moved");
    watcher.until("GAP");
    watcher.until("watched from now on");
    apps[1].sql("INSERT INTO t(x) VALUES('seen too')");
    let second = world.copy(&mut apps[1]);
    watcher.stop();
    world.assert_exact("latest", &[], &second);
    world.assert_exact("tx:1", &[], &first);
    // The same given path is the same source, wherever the link leads.
    point_at("1");
    world.done(&["backup", &text(&database)]);
    world.assert_exact("latest", &[], &first);
}

#[test]
fn a_file_with_two_hard_links_is_refused_unless_allowed() {
    // FAILURES 51
    let mut world = World::new();
    let mut app = world.application();
    app.sql("INSERT INTO t(x) VALUES(1)");
    let copy = world.copy(&mut app);
    let other = world.path("other.db");
    fs::hard_link(world.database(), &other).unwrap();
    for command in ["backup", "watch"] {
        let refused = world.pitr(&[command, &text(&other)]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("2 names") && refused.stderr.contains("--allow-hard-links"));
    }
    world.done(&["backup", &text(&world.database()), "--allow-hard-links"]);
    world.assert_exact("latest", &[], &copy);
}

#[test]
fn a_watch_waits_until_a_new_file_has_one_hard_link() {
    // Created by link and unlink (FAILURES 51).
    let mut world = World::new();
    world.application().sql("INSERT INTO t(x) VALUES('old')");
    let made = world.path("made.db");
    let mut app = world.application_on(&made);
    app.sql("INSERT INTO t(x) VALUES('new'); PRAGMA wal_checkpoint(TRUNCATE)");
    drop(app);
    let mut watcher = world.watch();
    for beside in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(world.path(beside));
    }
    fs::hard_link(&made, world.database()).unwrap();
    watcher.until("2 names");
    fs::remove_file(&made).unwrap();
    watcher.until("watched from now on");
    let mut app = world.application();
    let copy = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &[], &copy);
}

#[test]
fn a_loop_of_links_is_a_usage_error() {
    // FAILURES 59
    let world = World::new();
    let link = world.path("loop.db");
    symlink("loop.db", &link).unwrap();
    let refused = world.pitr(&["watch", &text(&link)]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("loop.db"), "{}", refused.stderr);
}
