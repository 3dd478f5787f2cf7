//! Named recovery points keep their states (law 7), also if they are created during a prune
//! (FAILURES 19).

use crate::beside::at_request;
use crate::log::Logged;
use crate::world::{World, at, keep, name};
use pitr_archive::{Archive, NamedPoint, PointName};
use pitr_format::TxId;
use pitr_prune::{Error, Reason};
use pitr_recovery::{History, NewPoint, Target, create_point};
use pitr_testkit::{Answer, Request};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// With seven hours, `keep(1)` keeps hours 6 and 7. Hour 4 needs the snapshot of hour 3.
const HOURS: i64 = 7;

fn hour(hour: u64) -> NewPoint {
    let target = Target::at(TxId::new(hour));
    // Far above the time between renewals in these tests, and far below that of a test.
    let lease_expiry = Duration::from_secs(1);
    NewPoint { target, lease_expiry, ..NewPoint::latest(PointName::new("before migration").unwrap()) }
}

fn create(world: &World, new: &NewPoint) -> pitr_recovery::Result<NamedPoint> {
    create_point(&world.open(), &name("a"), new)
}

fn points(world: &World) -> Vec<NamedPoint> {
    let found = Archive::new(world.open(), name("a")).points().unwrap();
    assert!(found.damaged.is_empty(), "{found:?}");
    found.points
}

/// Asserts that the point's state can be restored.
fn assert_restorable(world: &World, point: &NamedPoint, what: &str) {
    let history = History::load(&world.open(), &name("a"), Some(point.timeline)).unwrap();
    let plan = history.plan_for(&Target::at(point)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((plan.reached.tx, plan.reached.lsn), (point.tx, point.lsn), "{what}");
}

#[test]
fn a_point_keeps_its_snapshot_and_log_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut logged = Logged::new(dir.path(), HOURS);
    let point = create(&logged.world, &hour(4)).unwrap();
    for _ in 0..2 {
        let report = logged.world.pruner(logged.world.open(), keep(1)).execute(at(HOURS)).unwrap();
        let source = &report.sources[0];
        assert_eq!(source.kept.len(), 2, "{report:?}");
        assert_eq!(source.kept[0].reasons, [Reason::Point].into());
        assert_eq!(source.kept[0].points, std::slice::from_ref(&point.name));
        assert_eq!(source.kept[1].points, []);
        assert_eq!(source.points[0].snapshot, Some(logged.snapshots[0].id));
        assert_restorable(&logged.world, &point, "after the prune");
        // Hour 5 is in no kept object.
        assert_eq!(logged.restorable(), [3, 4, 6, 7]);
        logged.world.check_tidy();
    }
    (HOURS + 1..=9).for_each(|hour| logged.hour(hour));
    logged.world.pruner(logged.world.open(), keep(1)).execute(at(9)).unwrap();
    assert_restorable(&logged.world, &point, "after more commits");
    assert!(Archive::new(logged.world.open(), name("a")).delete_point(&point.name).unwrap());
    logged.world.pruner(logged.world.open(), keep(1)).execute(at(9)).unwrap();
    assert_eq!(logged.restorable(), [9]);
    assert_eq!(logged.archive.catalog().unwrap().condemned(), []);
    logged.world.check_tidy();
}

#[test]
fn a_point_that_is_already_lost_or_unreadable_ends_the_run() {
    // FAILURES 25
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), HOURS);
    let point = create(&logged.world, &hour(4)).unwrap();
    let objects = logged.world.open();
    let before = objects.list("").unwrap().len();
    let lost = logged.world.fork();
    for snapshot in &logged.snapshots[..1] {
        lost.open().delete(&snapshot.path(&objects)).unwrap();
    }
    let log = objects.list("sources/a/log").unwrap();
    lost.open().delete(&log[0].path).unwrap();
    let refused = lost.pruner(lost.open(), keep(1)).execute(at(HOURS));
    assert!(
        matches!(&refused, Err(Error::PointLost { point: name, .. }) if *name == point.name),
        "{refused:?}"
    );
    assert_eq!(lost.open().list("").unwrap().len(), before - 2, "nothing was deleted");

    let damaged = logged.world.fork();
    let path = logged.archive.point_path(&point.name);
    damaged.open().delete(&path).unwrap();
    damaged.open().put_new(&path, &b"no point"[..]).unwrap();
    let refused = damaged.pruner(damaged.open(), keep(1)).execute(at(HOURS));
    assert!(matches!(&refused, Err(Error::Unreadable { root, .. }) if *root == path), "{refused:?}");
    assert_eq!(damaged.open().list("").unwrap().len(), before, "nothing was deleted");
}

#[test]
fn a_point_missing_from_any_listing_keeps_its_state() {
    // FAILURES 20
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), HOURS);
    let point = create(&logged.world, &hour(4)).unwrap();
    let (mut refused, mut done) = (0, 0);
    crate::listings::with_each_lack(&logged.world, |world, objects, lacking| {
        match world.pruner(objects, keep(1)).max_waste(1.0).execute(at(HOURS)) {
            Ok(_) => done += 1,
            Err(_) => refused += 1,
        }
        assert_restorable(world, &point, lacking);
    });
    assert!(refused > 5 && done > 10, "{refused} refused, {done} done");
}

#[test]
fn a_prune_in_the_middle_of_a_creation_keeps_the_point_or_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), HOURS);
    let (mut created, mut refused) = (0, 0);
    for step in 0.. {
        let world = logged.world.fork();
        let other = world.clone();
        let (objects, count) = at_request(&world, step, move || {
            other.pruner(other.open(), keep(1)).execute(at(HOURS)).unwrap();
        });
        objects.renew_leases_every(Duration::from_millis(3));
        match create_point(&objects, &name("a"), &hour(4)) {
            Ok(point) => {
                world.pruner(world.open(), keep(1)).execute(at(HOURS)).unwrap();
                assert_restorable(&world, &point, &format!("step {step}"));
                created += 1;
            }
            Err(error) => {
                assert!(matches!(error, pitr_recovery::Error::TargetUnreachable(_)), "step {step}: {error}");
                assert_eq!(points(&world), [], "step {step}");
                refused += 1;
            }
        }
        if count.load(Ordering::SeqCst) <= step {
            break;
        }
    }
    assert!(created > 1 && refused > 1, "{created} created, {refused} refused");
}

#[test]
fn a_creation_in_the_middle_of_a_prune_is_refused_or_keeps_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), HOURS);
    for step in 0.. {
        let world = logged.world.fork();
        let other = world.clone();
        let result: Arc<Mutex<Option<pitr_recovery::Result<NamedPoint>>>> = Arc::default();
        let told = Arc::clone(&result);
        let (objects, count) = at_request(&world, step, move || {
            *told.lock().unwrap() = Some(create(&other, &hour(4)));
        });
        objects.renew_leases_every(Duration::from_millis(3));
        let pruned = world.pruner(objects, keep(1)).execute(at(HOURS));
        assert!(pruned.is_ok(), "step {step}: {pruned:?}");
        if count.load(Ordering::SeqCst) <= step {
            assert!(step > 5, "{step}");
            break;
        }
        match result.lock().unwrap().take().unwrap() {
            Ok(point) => assert_restorable(&world, &point, &format!("step {step}")),
            Err(pitr_recovery::Error::Pruning { .. } | pitr_recovery::Error::TargetUnreachable(_)) => {
                assert_eq!(points(&world), [], "step {step}");
            }
            Err(error) => panic!("step {step}: {error}"),
        }
    }
}

#[test]
fn a_creator_waits_for_a_prune_that_missed_the_point_and_looks_again() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), HOURS);
    for (tx, stays) in [(4, false), (7, true)] {
        let world = logged.world.fork();
        let ((paused, is_paused), (resume, go_on)) = (channel(), channel::<()>());
        let (changes, go_on) = (AtomicUsize::new(0), Mutex::new(go_on));
        // The prune has listed the points, and stops before its first change.
        let objects = world.hooked(move |request: &Request| {
            if matches!(request, Request::Put(path) if path.contains("/pruned/"))
                && changes.fetch_add(1, Ordering::SeqCst) == 0
            {
                paused.send(()).unwrap();
                let _ = go_on.lock().unwrap().recv();
            }
            Answer::Serve
        });
        std::thread::scope(|scope| {
            let pruner = world.pruner(objects, keep(1));
            let prune = scope.spawn(move || pruner.execute(at(HOURS)));
            is_paused.recv().unwrap();
            let resume = Mutex::new(Some(resume));
            let objects = world.hooked(move |request: &Request| {
                if matches!(request, Request::Put(path) if path.contains("/points/")) {
                    let _ = resume.lock().unwrap().take().map(|resume| resume.send(()));
                }
                Answer::Serve
            });
            let new = NewPoint { lease_expiry: Duration::from_secs(60), ..hour(tx) };
            let created = create_point(&objects, &name("a"), &new);
            drop(objects); // the prune continues, also if no point was put
            prune.join().unwrap().unwrap();
            match created {
                Ok(point) => {
                    assert!(stays, "{point:?}");
                    assert_restorable(&world, &point, "after the prune");
                }
                Err(pitr_recovery::Error::TargetUnreachable(_)) => {
                    assert!(!stays && points(&world).is_empty())
                }
                Err(error) => panic!("{error}"),
            }
        });
    }
}
