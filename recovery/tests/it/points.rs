//! Creation of named recovery points.

use crate::lab::{history, restored};
use crate::world::{World, commit, options};
use pitr_archive::{NamedPoint, PointName};
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_objects::LeaseRole;
use pitr_recovery::{Error, History, NewPoint, Target, Why, create_point};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Commits 1 to `count`, two seconds apart.
fn world(dir: &std::path::Path, count: u64) -> (World, Vec<Lsn>) {
    let world = World::new(dir, 1, 1, options(1 << 20, 1 << 16));
    let lsns = (1..=count).map(|tx| add(&world, tx)).collect();
    let mut world = world;
    world.shipper.ship(&world.wal).unwrap();
    (world, lsns)
}

fn add(world: &World, tx: u64) -> Lsn {
    world.clock.0.store(2_000_000 * tx as i64, Ordering::Relaxed);
    commit(&world.wal, tx, &[(tx, tx as u8)], None).lsn
}

fn new(name: &str, target: Target) -> NewPoint {
    NewPoint { target, ..NewPoint::latest(PointName::new(name).unwrap()) }
}

fn create(world: &World, new: &NewPoint) -> Result<NamedPoint, Error> {
    create_point(world.archive.objects(), world.archive.source(), new)
}

#[test]
fn a_point_names_the_last_commit_of_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, lsns) = world(dir.path(), 3);
    let time = |micros| Timestamp::from_micros(micros);
    for (no, target, tx) in [
        (0, Target::latest(), 3),
        (1, Target::at(TxId::new(2)), 2),
        (2, Target::just_before(TxId::new(2)), 1),
        (3, Target::at(time(4_000_000)), 2),
        (4, Target::just_before(time(4_000_000)), 1),
        (5, Target::at(Lsn::new(lsns[1].get() + 1)), 2),
    ] {
        let note = format!("note {no}");
        let created =
            create(&world, &NewPoint { note: note.clone(), ..new(&no.to_string(), target.clone()) }).unwrap();
        let expected = (TxId::new(tx), lsns[tx as usize - 1], time(2_000_000 * tx as i64));
        assert_eq!((created.tx, created.lsn, created.time), expected, "{target}");
        assert_eq!((created.timeline, created.note.as_str()), (TimelineId::FIRST, note.as_str()));
        assert_eq!(world.archive.named_point(&created.name).unwrap(), Some(created));
    }
    // The point of the latest state stays where it was.
    add(&world, 4);
    world.shipper.ship(&world.wal).unwrap();
    let point = world.archive.named_point(&PointName::new("0").unwrap()).unwrap().unwrap();
    let history = history(&world.archive);
    let reached = |target| history.resolve(&target).unwrap().reached.tx;
    assert_eq!(reached(Target::at(&point)), TxId::new(3));
    assert_eq!(reached(Target::just_before(&point)), TxId::new(2));
    assert_eq!(reached(Target::at(PointName::new("2").unwrap())), TxId::new(1));
    let content = restored(dir.path(), &history, &Target::at(&point), 1);
    assert_eq!(content, restored(dir.path(), &history, &Target::at(TxId::new(3)), 1));
    assert_ne!(content, restored(dir.path(), &history, &Target::latest(), 1));
}

#[test]
fn a_point_that_is_missing_or_on_another_timeline_is_no_target() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world(dir.path(), 3);
    let point = create(&world, &new("a", Target::at(TxId::new(2)))).unwrap();
    let name = |name: &str| PointName::new(name).unwrap();
    let other = NamedPoint { name: name("other"), timeline: TimelineId::new(9), ..point };
    assert!(world.archive.put_point(&other).unwrap());
    let history = history(&world.archive);
    let why = |target: &Target| match history.resolve(target) {
        Err(Error::TargetUnreachable(found)) => (found.why, found.to_string()),
        other => panic!("{other:?}"),
    };
    let (missing, text) = why(&Target::at(name("b")));
    assert_eq!(missing, Why::NoSuchPoint);
    assert!(text.starts_with("point b cannot be restored"), "{text}");
    assert_eq!(why(&Target::at(name("other"))).0, Why::OnTimeline(TimelineId::new(9)));
    // The history of the point's own timeline is taken.
    let load = |target: &Target| History::load_for(world.archive.objects(), world.archive.source(), target);
    assert!(load(&Target::at(name("a"))).unwrap().resolve(&Target::at(name("a"))).is_ok());
    assert!(matches!(load(&Target::at(name("other"))), Err(Error::Archive(_))));
}

#[test]
fn what_cannot_be_named_leaves_no_point() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world(dir.path(), 3);
    let refused = create(&world, &new("a", Target::at(TxId::new(9))));
    let Err(Error::TargetUnreachable(found)) = refused else { panic!("{refused:?}") };
    assert_eq!((found.why, found.before.unwrap().tx), (Why::NoSuchTransaction, TxId::new(3)));
    let long = |bytes| NewPoint { note: "x".repeat(bytes), ..new("a", Target::latest()) };
    assert!(matches!(create(&world, &long(1025)), Err(Error::NoteTooLong { bytes: 1025 })));
    let other = NewPoint { timeline: Some(TimelineId::new(7)), ..long(0) };
    assert!(matches!(create(&world, &other), Err(Error::Archive(_))));
    // A prune runs.
    let objects = world.archive.objects();
    objects.renew_leases_every(Duration::from_millis(3));
    let prune = objects.lease(LeaseRole::Collect).unwrap();
    let running = create(&world, &long(0));
    assert!(
        matches!(&running, Err(Error::Pruning { lease }) if *lease == prune.id().to_string()),
        "{running:?}"
    );
    assert_eq!(world.archive.points().unwrap().points, []);
    drop(prune);
    let first = create(&world, &long(1024)).unwrap();
    assert!(matches!(create(&world, &long(0)), Err(Error::PointExists { .. })));
    assert_eq!(world.archive.points().unwrap().points, [first], "the existing point stays");
}

#[test]
fn the_lease_of_a_prune_that_died_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world(dir.path(), 1);
    let objects = world.archive.objects();
    objects.renew_leases_every(Duration::from_secs(3600));
    let died = objects.lease(LeaseRole::Collect).unwrap();
    objects.renew_leases_every(Duration::from_millis(3));
    let soon = NewPoint { lease_expiry: Duration::from_millis(50), ..new("a", Target::latest()) };
    create(&world, &soon).unwrap();
    assert!(died.check().is_err());
}

#[test]
fn the_state_before_the_first_commit_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world(dir.path(), 1);
    let point = create(&world, &new("a", Target::just_before(TxId::new(1)))).unwrap();
    assert_eq!((point.tx, point.lsn), (TxId::NONE, Lsn::ORIGIN));
    let content = restored(dir.path(), &history(&world.archive), &Target::at(&point), 1);
    assert!(content.is_empty());
}
