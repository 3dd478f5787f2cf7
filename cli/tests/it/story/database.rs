//! A database that is written all the time, while its watcher is killed twice.

use std::path::PathBuf;
use std::time::Duration;

use pitr::objects::{LeaseRole, Objects};
use pitr_testkit::App;

use crate::world::{Watcher, World, now, pause};

/// Commits of the application.
const COMMITS: usize = 24;
/// The watcher is killed right after this commit, and is started again after the second number.
const ABSENCES: [(usize, usize); 2] = [(8, 10), (16, 18)];
/// A backup is asked for after these commits, while the watcher runs.
const BACKUPS: [usize; 2] = [5, 20];
/// The application rests after this commit, so that a moment between two commits is known.
const REST: usize = 12;

/// A database that was watched, with copies that the application took.
pub(super) struct Database {
    pub(super) world: World,
    app: App,
    /// The copy of number n has n commits.
    copies: Vec<PathBuf>,
    /// A moment after the commit [`REST`], and before the next one.
    moment: String,
}

fn watch(world: &World) -> Watcher {
    world.watch_with(&["--rpo", "200ms", "--snapshot-every", "2s"])
}

/// The changes of a commit. Large ones are still being archived when the watcher is killed.
fn change(commit: usize) -> String {
    match commit % 4 {
        0 => "INSERT INTO t(x) VALUES(randomblob(40000))".to_owned(),
        1 => format!("UPDATE t SET x = x || 'y' WHERE id % 2 = 0; INSERT INTO t(x) VALUES({commit})"),
        2 => "DELETE FROM t WHERE id % 5 = 0; INSERT INTO t(x) VALUES('kept')".to_owned(),
        _ => format!("INSERT INTO t(x) VALUES(randomblob({}))", commit * 40),
    }
}

impl Database {
    /// Watches the database from its beginning. The watcher is killed with SIGKILL twice, while
    /// the application goes on.
    pub(super) fn watched(mut world: World) -> Database {
        let mut app = world.application();
        app.sql("INSERT INTO t(x) VALUES('before')");
        let (mut copies, mut moment) = (vec![world.copy(&mut app)], String::new());
        let database = world.database().to_string_lossy().into_owned();
        let mut watcher = Some(watch(&world));
        for commit in 1..=COMMITS {
            app.sql(&format!("BEGIN; {}; COMMIT", change(commit)));
            copies.push(world.copy(&mut app));
            if ABSENCES.iter().any(|(killed, _)| *killed == commit) {
                watcher.take().unwrap().kill();
            }
            if ABSENCES.iter().any(|(_, again)| *again == commit) {
                watcher = Some(watch(&world));
            }
            if BACKUPS.contains(&commit) {
                world.done(&["backup", &database]);
            }
            if commit == REST {
                pause(300);
                moment = now();
                pause(300);
            }
        }
        watcher.unwrap().stop();

        let log = world.done(&["log"]);
        let numbers = log["transactions"].as_array().unwrap().iter().map(|tx| tx["tx"].as_u64().unwrap());
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=COMMITS as u64).collect::<Vec<_>>());
        let info = world.done(&["info"]);
        let source = &info["sources"][0];
        assert_eq!((source["name"].as_str(), source["engine"].as_str()), (Some("app"), Some("sqlite")));
        assert_eq!(source["gaps"].as_array().unwrap().len(), 0, "{info}");
        assert!(source["snapshots"].as_array().unwrap().len() > BACKUPS.len(), "{info}");
        Database { world, app, copies, moment }
    }

    /// Restores these commits and other targets, and compares each with the application's own copy.
    pub(super) fn restore(&self, commits: &[usize]) {
        for commit in commits {
            self.world.assert_exact(&format!("tx:{commit}"), &[], &self.copies[*commit]);
        }
        let world = &self.world;
        world.assert_exact("tx:9", &["--exclusive"], &self.copies[8]);
        world.assert_exact(&self.moment, &[], &self.copies[REST]);
        world.assert_exact("latest", &["--check"], &self.copies[COMMITS]);
        assert_eq!(world.done(&["restore", "--to", "latest", "--validate"])["validated"], true);
        for unreachable in [format!("tx:{}", COMMITS + 1).as_str(), "2001-01-01T00:00:00Z"] {
            assert_eq!(world.restore(unreachable, &[]).0.code, 3, "{unreachable}");
        }
    }

    /// Names two states, prunes everything else while another process reads, and prunes again
    /// after that process has ended.
    pub(super) fn prune(&mut self, objects: &Objects) {
        let world = &mut self.world;
        let database = world.database().to_string_lossy().into_owned();
        world.done(&["point", "create", "named", "--at", "tx:7", "--note", "before the migration"]);
        self.app.sql("DELETE FROM t WHERE id % 2 = 0; INSERT INTO t(x) VALUES('not watched')");
        let last = world.copy(&mut self.app);
        assert_eq!(world.done(&["backup", &database])["kind"], "incremental");
        world.done(&["point", "create", "last"]);
        let points = world.done(&["point", "list"]);
        let points = points["points"].as_array().unwrap();
        let mut names: Vec<&str> = points.iter().map(|point| point["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["last", "named"]);

        let states = |world: &World| {
            world.assert_exact("point:named", &[], &self.copies[7]);
            world.assert_exact("point:last", &[], &last);
            world.assert_exact("latest", &[], &last);
        };
        states(world);
        let prune = ["prune", "--keep-within", "1ms", "--max-waste", "0"];
        let planned = world.done(&prune);
        assert!(planned["freed_bytes"].as_u64() > Some(0), "{planned}");
        world.assert_exact("tx:20", &[], &self.copies[20]);

        // A watcher that was killed during a snapshot leaves its lease. A prune can't know that the
        // process is dead, and would wait two minutes for the lease's end.
        for dead in objects.leases().unwrap() {
            assert!(objects.end_lapsed(&dead).unwrap());
        }
        // First phase: a process that may rely on the objects has a lease.
        objects.renew_leases_every(Duration::from_millis(200));
        let reader = objects.lease(LeaseRole::Use).unwrap();
        let execute = [&prune[..], &["--execute"]].concat();
        let condemned = world.done(&execute);
        assert_eq!(condemned["waiting_for"], serde_json::json!([reader.id().to_string()]), "{condemned}");
        assert!(condemned["condemned_bytes"].as_u64() > Some(0), "{condemned}");
        let again = world.pitr(&execute);
        assert_eq!((again.code, &again.json["error"]["code"]), (5, &"locked".into()), "{}", again.stderr);
        reader.check().unwrap();
        assert!(!objects.condemned().unwrap().is_empty());
        states(world);
        let before = world.done(&["info"])["stored_bytes"].as_u64().unwrap();

        // Second phase.
        drop(reader);
        let deleted = world.done(&execute);
        assert!(deleted["freed_bytes"].as_u64() > Some(0), "{deleted}");
        assert_eq!(
            (&deleted["condemned_bytes"], &deleted["waiting_for"]),
            (&0.into(), &serde_json::json!([]))
        );
        let after = world.done(&["info"]);
        assert!(after["stored_bytes"].as_u64() < Some(before), "{before} {after}");
        assert!(objects.condemned().unwrap().is_empty());
        states(world);
        let (gone, _) = world.restore("tx:20", &[]);
        assert_eq!(gone.code, 3, "{}", gone.stderr);
        verify(world);

        // The history goes on.
        let watcher = watch(world);
        self.app.sql("INSERT INTO t(x) VALUES('after the prune')");
        let on = world.copy(&mut self.app);
        watcher.stop();
        world.assert_exact("latest", &[], &on);
        // Only what the prune has removed is missing.
        let info = world.done(&["info"]);
        let gaps = info["sources"][0]["gaps"].as_array().unwrap();
        assert!(gaps.iter().all(|gap| gap["reason"].as_str().unwrap().starts_with("pruned")), "{info}");
    }
}

/// Everything in the repository is sound, and nothing else is in it.
pub(super) fn verify(world: &World) {
    let verified = world.done(&["verify", "--deep"]);
    assert_eq!(
        (&verified["ok"], &verified["strangers"]),
        (&true.into(), &serde_json::json!([])),
        "{verified}"
    );
    assert!(verified["checked_objects"].as_u64() > Some(0), "{verified}");
}
