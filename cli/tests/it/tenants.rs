//! Databases of a folder, and databases created later.

use crate::world::{World, pause};

#[test]
fn the_databases_of_a_folder_are_watched_and_restored_together() {
    let mut world = World::new();
    let folder = world.path("tenants");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    let mut apps: Vec<_> =
        ["a.db", "deep/b.db"].map(|name| world.application_on(&folder.join(name))).into_iter().collect();
    let unmatched = world.application_on(&folder.join("c.sqlite"));
    let mut watcher = world.watch_at(&folder, &["--match", "*.db", "--rpo", "100ms"]);
    for app in &mut apps {
        app.sql("INSERT INTO t(x) VALUES('seen')");
    }
    apps.push(world.application_on(&folder.join("late.db")));
    watcher.until("late: watched from now on");
    apps[2].sql("INSERT INTO t(x) VALUES('late')");
    let copies: Vec<_> = apps.iter_mut().map(|app| world.copy(app)).collect();
    let ended = watcher.stop();
    let names: Vec<_> =
        ended["sources"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "deep.b", "late"]);
    drop(unmatched);
    let output = world.path("all");
    world.done(&["restore", "--all", "--to", "latest", "--output", output.to_str().unwrap()]);
    for (name, copy) in ["a.db", "deep/b.db", "late.db"].iter().zip(&copies) {
        assert_eq!(pitr::exact::compare(&output.join(name), copy).unwrap(), None, "{name}");
    }
}

#[test]
fn two_databases_of_a_folder_are_never_one_source() {
    // FAILURES 50
    let world = World::new();
    let folder = world.path("tenants");
    std::fs::create_dir(&folder).unwrap();
    let (_first, _second) =
        (world.application_on(&folder.join("a.db")), world.application_on(&folder.join("a.sqlite")));
    let watcher = world.watch_at(&folder, &[]);
    let ended = watcher.stop();
    assert_eq!(ended["sources"].as_array().unwrap().len(), 1);
    // A pattern needs a folder.
    let answer = world.pitr(&["watch", folder.join("a.db").to_str().unwrap(), "--match", "*"]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
}

#[test]
fn databases_beyond_the_descriptor_limit_do_not_affect_watched_ones() {
    // FAILURES 57
    let mut world = World::new();
    world.setup = "ulimit -n 180";
    let folder = world.path("tenants");
    std::fs::create_dir(&folder).unwrap();
    let mut apps: Vec<_> =
        (0..12).map(|number| world.application_on(&folder.join(format!("t{number}.db")))).collect();
    let watcher = world.watch_at(&folder, &["--rpo", "100ms"]);
    // Waiting databases are retried several times.
    pause(3000);
    for app in &mut apps {
        app.sql("INSERT INTO t(x) VALUES('seen')");
    }
    let copies: Vec<_> = apps.iter_mut().map(|app| world.copy(app)).collect();
    pause(500);
    let (ended, said) = watcher.stop_with_remarks();
    assert!(!said.contains("can't be written") && !said.contains("timeline"), "{said}");
    world.setup = "umask 022";
    let sources = ended["sources"].as_array().unwrap();
    let watched: Vec<_> = sources.iter().filter(|source| source["commits"].as_u64() > Some(0)).collect();
    assert!((1..12).contains(&watched.len()), "{ended}: {said}");
    for source in watched {
        let name = source["name"].as_str().unwrap();
        let number: usize = name[1..].parse().unwrap();
        world.assert_exact("latest", &["--source", name], &copies[number]);
    }
}

#[test]
fn a_database_that_does_not_exist_yet_is_waited_for() {
    // FAILURES 57
    let mut world = World::new();
    let other = world.path("other.db");
    let _other = world.application_on(&other);
    let database = world.database();
    let mut watcher = world.watch_at(&other, &[database.to_str().unwrap(), "--rpo", "100ms"]);
    let mut app = world.application();
    watcher.until("app: watched from now on");
    app.sql("INSERT INTO t(x) VALUES('first')");
    let copy = world.copy(&mut app);
    watcher.stop();
    world.assert_exact("latest", &["--source", "app"], &copy);
}
