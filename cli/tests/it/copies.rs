//! Restored copies that are archived under the name of their source, beside it and in its place.

use std::fs;
use std::path::{Path, PathBuf};

use pitr_testkit::App;
use serde_json::Value;

use crate::world::{Watcher, World};

/// A database that is written and watched, with a copy of each state by its transaction.
struct Written {
    app: App,
    path: PathBuf,
    watcher: Option<Watcher>,
    /// Copies after the commits, oldest first.
    copies: Vec<PathBuf>,
    /// A copy of the newest state, if it is not that of the last commit that was watched.
    last: Option<PathBuf>,
}

impl Written {
    fn new(world: &World, path: &Path) -> Written {
        let app = world.application_on(path);
        let mut written =
            Written { app, path: path.to_owned(), watcher: None, copies: Vec::new(), last: None };
        written.watch(world, &[]);
        written
    }

    /// A restored copy of a state of `app` on timeline 1, watched under its name.
    fn restored(world: &World, to: &str, name: &str) -> Written {
        let path = world.path(name);
        fs::rename(world.restored(to, &["--source", "app", "--timeline", "1"]), &path).unwrap();
        Written::new(world, &path)
    }

    fn watch(&mut self, world: &World, more: &[&str]) {
        let args = [&["--source", "app", "--rpo", "200ms"], more].concat();
        self.watcher = Some(world.watch_at(&self.path, &args));
    }

    fn commit(&mut self, world: &mut World, what: &str) {
        self.app.sql(&format!("INSERT INTO t(x) VALUES('{what}')"));
        self.copies.push(world.copy(&mut self.app));
    }

    fn kill(&mut self) {
        self.watcher.take().unwrap().kill();
    }

    /// Stops the watcher, which must have lasted until now.
    fn stop(&mut self) {
        self.watcher.take().unwrap().stop();
    }

    fn last(&self) -> &Path {
        self.last.as_ref().or(self.copies.last()).unwrap()
    }
}

fn timelines(world: &World) -> Vec<Value> {
    world.done(&["info"])["sources"][0]["timelines"].as_array().unwrap().clone()
}

fn followed(world: &World) -> Vec<u64> {
    let of = |timeline: &Value| timeline["timeline"].as_u64().unwrap();
    timelines(world).iter().filter(|timeline| timeline["followed"] == true).map(of).collect()
}

/// Every transaction of a timeline itself, with its qualified target.
fn own(world: &World, timeline: u64) -> Vec<String> {
    let log = world.done(&["log", "--timeline", &timeline.to_string()]);
    let transactions = log["transactions"].as_array().unwrap();
    let own = transactions.iter().filter(|tx| tx["timeline"] == timeline);
    own.map(|tx| format!("tx:{timeline}/{}", tx["tx"])).collect()
}

#[test]
fn two_copies_and_the_original_are_archived_side_by_side() {
    // FAILURES 8, 14, 21
    let mut world = World::new();
    let database = world.database();
    let mut original = Written::new(&world, &database);
    original.commit(&mut world, "common");
    let mut watched = vec![];
    world.done(&["backup", &database.to_string_lossy()]);
    for name in ["a.db", "b.db"] {
        watched.push(Written::restored(&world, "latest", name));
    }
    watched.insert(0, original);
    for round in 0..3 {
        for (no, written) in watched.iter_mut().enumerate() {
            written.commit(&mut world, &format!("{no} alone, {round}"));
            // Everything up to here is archived; the writer that was there before the copies has
            // stored something beside them.
            world.done(&["backup", &written.path.to_string_lossy(), "--source", "app"]);
            if (round + 1) % 3 == no {
                // The watcher dies, the application goes on and checkpoints, and the watcher comes
                // back: a gap of this timeline alone.
                written.kill();
                written.app.sql("INSERT INTO t(x) VALUES('not watched')");
                written.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
                written.watch(&world, &[]);
            }
        }
    }
    watched.iter_mut().for_each(Written::stop);

    let tree = timelines(&world);
    let parents: Vec<(u64, Option<u64>)> =
        tree.iter().map(|t| (t["timeline"].as_u64().unwrap(), t["parent"].as_u64())).collect();
    assert_eq!(parents, [(1, None), (2, Some(1)), (3, Some(1))]);
    // The original went on while the copies began.
    assert_eq!(followed(&world), [1]);
    for written in &mut watched {
        let last = world.copy(&mut written.app);
        written.last = Some(last);
    }
    world.assert_exact("latest", &[], watched[0].last());
    for (written, timeline) in watched.iter().zip(1u64..) {
        let own = own(&world, timeline);
        // Each has a commit of its own for each copy.
        let copies = &written.copies;
        assert!(own.len() >= copies.len(), "timeline {timeline}: {own:?}");
        for (target, copy) in own[own.len() - copies.len()..].iter().zip(copies) {
            world.assert_exact(target, &[], copy);
        }
        world.assert_exact("latest", &["--timeline", &timeline.to_string()], written.last());
    }
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);

    // Numbers were given twice. The followed history counts, and the others are named.
    let number = own(&world, 2)[0].split('/').next_back().unwrap().to_owned();
    let (answer, _) = world.restore(&format!("tx:{number}"), &[]);
    let both = [2, 3].map(|timeline| format!("tx:{timeline}/{number}"));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(answer.json["timeline"], 1);
    assert!(both.iter().all(|other| answer.stderr.contains(other)), "{}", answer.stderr);
    let (answer, _) = world.restore(&both[0], &[]);
    assert!(!answer.stderr.contains(&both[1]), "{}", answer.stderr);

    // Retention keeps the newest state of each.
    world.done(&["prune", "--keep-snapshots", "1", "--execute"]);
    for (written, timeline) in watched.iter().zip(1u64..) {
        world.assert_exact("latest", &["--timeline", &timeline.to_string()], written.last());
    }
    assert_eq!(followed(&world), [1]);
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_copy_takes_the_place_of_the_original_while_another_is_archived() {
    // FAILURES 8, 9
    let mut world = World::new();
    let database = world.database();
    let mut original = Written::new(&world, &database);
    original.commit(&mut world, "common");
    original.commit(&mut world, "damage");
    original.stop();
    let mut beside = Written::restored(&world, "tx:1", "beside.db");
    beside.commit(&mut world, "of the copy");
    let damaged = original.last().to_owned();
    drop(original);
    for name in ["app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(world.path(name));
    }
    fs::rename(world.restored("tx:1/1", &[]), &database).unwrap();
    let mut original = Written::new(&world, &database);
    original.commit(&mut world, "goes on");
    beside.commit(&mut world, "of the copy too");
    original.stop();
    beside.stop();

    let parents: Vec<_> = timelines(&world).iter().map(|t| t["parent"].as_u64()).collect();
    assert_eq!(parents, [None, Some(1), Some(1)]);
    world.assert_exact("latest", &["--timeline", "1"], &damaged);
    world.assert_exact("latest", &["--timeline", "2"], beside.last());
    world.assert_exact("latest", &["--timeline", "3"], original.last());
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_copy_that_succeeds_a_dead_original_is_followed_also_when_that_comes_back() {
    // FAILURES 8, 21
    let mut world = World::new();
    let database = world.database();
    let mut original = Written::new(&world, &database);
    original.commit(&mut world, "common");
    world.done(&["backup", &database.to_string_lossy()]);
    original.kill();
    let mut copy = Written::restored(&world, "latest", "copy.db");
    copy.commit(&mut world, "after the failure");
    copy.stop();
    assert_eq!(followed(&world), [2]);
    world.assert_exact("latest", &[], copy.last());
    // The machine of the original starts again, with its watcher.
    original.watch(&world, &[]);
    original.commit(&mut world, "unaware");
    original.stop();
    assert_eq!(followed(&world), [2]);
    world.assert_exact("latest", &[], copy.last());
    world.assert_exact("latest", &["--timeline", "1"], original.last());
    // A number that only the other side has is named in full, and accepted in that form.
    let unaware = own(&world, 1).pop().unwrap();
    let (refused, _) = world.restore(&unaware.replace("1/", ""), &[]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("give {unaware}")), "{}", refused.stderr);
    world.assert_exact(&unaware, &[], original.last());
    let (refused, _) = world.restore(&unaware, &["--timeline", "2"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let log = world.done(&["log", "--from", &unaware]);
    let found: Vec<_> = log["transactions"].as_array().unwrap().iter().map(|tx| &tx["timeline"]).collect();
    assert_eq!(found, [1]);
    let two = world.pitr(&["log", "--from", &unaware, "--to", "tx:2/1"]);
    assert_eq!(two.code, 2, "{}", two.stderr);
    world.done(&["point", "create", "unaware", "--at", &unaware]);
    world.done(&["point", "create", "too", "--at", "latest", "--timeline", "1"]);
    for point in ["point:unaware", "point:too"] {
        world.assert_exact(point, &[], original.last());
        assert_eq!(world.restore(point, &["--timeline", "2"]).0.code, 3, "it has another state there");
    }
    let log = world.done(&["log", "--from", "point:unaware"]);
    assert_eq!(log["transactions"].as_array().unwrap().len(), 1, "{log}");
    // Its user decides that it is the source.
    original.watch(&world, &["--adopt"]);
    original.commit(&mut world, "the source again");
    original.stop();
    world.assert_exact("latest", &[], original.last());
    assert_eq!(world.done(&["verify", "--deep"])["ok"], true);
}

#[test]
fn a_copy_that_is_adopted_ends_the_watch_of_the_original() {
    // FAILURES 21
    let mut world = World::new();
    let database = world.database();
    let mut original = Written::new(&world, &database);
    original.commit(&mut world, "common");
    world.done(&["backup", &database.to_string_lossy()]);
    let path = world.path("copy.db");
    fs::rename(world.restored("latest", &[]), &path).unwrap();
    let args = ["--source", "app", "--rpo", "200ms", "--adopt"];
    let watcher = world.watch_at(&path, &args);
    let mut app = world.application_on(&path);
    app.sql("INSERT INTO t(x) VALUES('of the copy')");
    let after = world.copy(&mut app);
    original.app.sql("INSERT INTO t(x) VALUES('unaware')");
    original.watcher.take().unwrap().until_taken_over();
    watcher.stop();
    world.assert_exact("latest", &[], &after);
    // The original is now another place, and says so.
    let refused = world.pitr(&["backup", &database.to_string_lossy()]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--adopt") && refused.stderr.contains("--source"), "{}", refused.stderr);
}
