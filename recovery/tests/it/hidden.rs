//! Damaged snapshots and missing timelines must not be reported as "there is no such state". Also
//! the counts that a restore reports.

use crate::lab::{history, meta, options, restore_on, take};
use crate::world::{LOG_ID, TestClock, World, commit, create_wal, first_timeline};
use pitr_archive::{
    Archive, Cause, ForkReason, NamedPoint, PointName, Shipper, SourceObject, Timeline, Writer,
};
use pitr_format::record::{GapReason, Record};
use pitr_format::{Lsn, PartitionId, Severity, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::{Error, History, RecoveryTarget, Target, Why};
use pitr_snapshot::{Manifest, SnapshotId};
use pitr_vfs::OsFs;
use pitr_wal::BatchBuilder;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SECOND: i64 = 1_000_000;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * SECOND)
}

fn at(moment: RecoveryTarget) -> Target {
    Target::at(moment)
}

fn tx(number: u64) -> Target {
    at(RecoveryTarget::Transaction(TxId::new(number)))
}

fn path(dir: &Path, object: &str) -> PathBuf {
    dir.join("repo").join(object)
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn damaged(history: &History, target: Target) -> bool {
    match history.resolve(&target) {
        Err(error @ Error::Damaged(_)) => error.severity() == Severity::Fatal,
        _ => false,
    }
}

fn why(history: &History, target: Target) -> Why {
    match history.resolve(&target) {
        Err(Error::TargetUnreachable(found)) => found.why,
        other => panic!("{target}: {other:?}"),
    }
}

fn world(dir: &Path) -> World {
    World::new(dir, 1, 1, crate::world::options(1 << 20, 1 << 16))
}

/// Two commits, a gap, a base at second 10, and two more commits, one each second. Returns the
/// positions of all commits and of the base.
fn prepared(dir: &Path) -> (World, Vec<Lsn>, Manifest) {
    let mut world = world(dir);
    let mut lsns = vec![Lsn::ORIGIN];
    let mut write = |world: &mut World, tx: u64, at: i64| {
        world.clock.0.store(at * SECOND, Ordering::Relaxed);
        lsns.push(commit(&world.wal, tx, &[(tx, tx as u8)], None).lsn);
        world.shipper.ship(&world.wal).unwrap();
    };
    (1..=2).for_each(|tx| write(&mut world, tx, tx as i64));
    let on = world.wal.skip().unwrap();
    world.clock.0.store(10 * SECOND, Ordering::Relaxed);
    let (reason, since, until) = (GapReason::LogRestarted, time(2), time(10));
    let mut mark = BatchBuilder::new();
    mark.push(PartitionId::FIRST, TxId::NONE, &Record::Gap { reason, since, until }).unwrap();
    world.wal.commit(mark).unwrap();
    let base = take(&world.archive, vec![9; 512], meta(&world.archive, on, on, time(10), TxId::new(2)));
    (3..=4).for_each(|tx| write(&mut world, tx, tx as i64 + 8));
    (world, lsns, base)
}

#[test]
fn a_state_that_only_a_damaged_base_leads_to_is_damaged_and_not_unknown() {
    // FAILURES 55
    let dir = tempfile::tempdir().unwrap();
    let (world, lsns, base) = prepared(dir.path());
    let sound = history(&world.archive);
    assert_eq!(sound.resolve(&tx(4)).unwrap().reached.tx, TxId::new(4));
    let root = path(dir.path(), &base.snapshot.path(world.archive.objects()));
    flip(&root);
    let spoiled = history(&world.archive);
    let (fourth, twelfth) = (at(RecoveryTarget::Lsn(lsns[4])), at(RecoveryTarget::Timestamp(time(12))));
    let named = at(RecoveryTarget::Snapshot(base.snapshot.id));
    for target in [at(RecoveryTarget::Latest), tx(3), tx(4), fourth.clone(), twelfth, named] {
        assert!(damaged(&spoiled, target.clone()), "{target}: {:?}", spoiled.resolve(&target));
    }
    let text = spoiled.resolve(&tx(3)).unwrap_err().to_string();
    assert!(text.contains("is damaged") && text.contains("transaction 2"), "{text}");
    // Other targets get the same answers as before.
    for target in [tx(1), tx(2), at(RecoveryTarget::Lsn(lsns[2])), at(RecoveryTarget::Timestamp(time(1)))] {
        assert!(spoiled.resolve(&target).is_ok(), "{target}: {:?}", spoiled.resolve(&target));
    }
    assert_eq!(why(&spoiled, tx(5)), Why::NoSuchTransaction);
    assert_eq!(why(&spoiled, at(RecoveryTarget::Snapshot(SnapshotId([1; 16])))), Why::NoSuchSnapshot);
    // A missing base is reported as missing: the commits are archived.
    std::fs::remove_file(root).unwrap();
    let bare = history(&world.archive);
    for target in [at(RecoveryTarget::Latest), tx(3), fourth] {
        assert_eq!(why(&bare, target.clone()), Why::WalGap(Cause::NoBase), "{target}");
    }
    // Up to the begin of the log after the gap, the commits before it are what is missing.
    let begin = at(RecoveryTarget::Lsn(base.snapshot.meta.consistent_at));
    assert_eq!(why(&bare, begin), Why::WalGap(Cause::NotLogged(Some(GapReason::LogRestarted))));
}

/// Commits 1 to 5, one each second, and a snapshot at the third. Each commit has its own object.
fn five(dir: &Path) -> (World, Vec<Lsn>, Manifest) {
    let mut world = world(dir);
    let mut lsns = vec![Lsn::ORIGIN];
    for tx in 1..=5 {
        world.clock.0.store(tx * SECOND, Ordering::Relaxed);
        lsns.push(commit(&world.wal, tx as u64, &[(1, tx as u8)], None).lsn);
        world.shipper.ship(&world.wal).unwrap();
    }
    let meta = meta(&world.archive, lsns[3], lsns[3], time(3), TxId::new(3));
    let taken = take(&world.archive, vec![3; 512], meta);
    (world, lsns, taken)
}

/// Removes the log object of this number.
fn lose(dir: &Path, world: &World, number: usize) {
    let name = world.archive.catalog().unwrap().logs(TimelineId::FIRST)[number].0;
    std::fs::remove_file(path(dir, &world.archive.folder().path(&SourceObject::Log(name)))).unwrap();
}

#[test]
fn a_damaged_root_hides_its_own_state_and_later_ones_and_no_earlier_one() {
    // FAILURES 55
    let dir = tempfile::tempdir().unwrap();
    let (world, lsns, taken) = five(dir.path());
    lose(dir.path(), &world, 0);
    flip(&path(dir.path(), &taken.snapshot.path(world.archive.objects())));
    let named = |no: u64| {
        let (name, lsn) = (PointName::new(format!("p{no}")).unwrap(), lsns[no as usize]);
        let (timeline, tx, time) = (TimelineId::FIRST, TxId::new(no), time(no as i64));
        let point = NamedPoint { name, timeline, lsn, tx, time, created: time, note: String::new() };
        assert!(world.archive.put_point(&point).unwrap());
        Target::at(&point)
    };
    let points: Vec<Target> = (2..=5).map(named).collect();
    let history = history(&world.archive);
    for (no, is_hidden) in [(2, false), (3, true), (4, true), (5, true)] {
        let seconds = no as i64;
        for target in [
            tx(no),
            at(RecoveryTarget::Lsn(lsns[no as usize])),
            at(RecoveryTarget::Timestamp(time(seconds))),
            points[no as usize - 2].clone(),
        ] {
            let found = history.resolve(&target);
            assert!(found.is_err());
            assert_eq!(damaged(&history, target.clone()), is_hidden, "{target}: {found:?}");
        }
    }
    assert!(damaged(&history, at(RecoveryTarget::Latest)));
    for target in [tx(9), tx(1), at(RecoveryTarget::Timestamp(time(9)))] {
        assert!(!damaged(&history, target.clone()), "{target}: no snapshot leads there");
    }
}

#[test]
fn a_time_without_a_certain_state_is_refused_for_that_and_not_for_a_damaged_root() {
    // FAILURES 15, 55
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    world.clock.0.store(SECOND, Ordering::Relaxed);
    let first = commit(&world.wal, 1, &[(1, 1)], None);
    let meta = meta(&world.archive, first.lsn, first.lsn, first.time, first.tx);
    let taken = take(&world.archive, vec![1; 512], meta);
    world.clock.0.store(6 * SECOND, Ordering::Relaxed);
    let mut late = BatchBuilder::new();
    late.push_commit(PartitionId::FIRST, TxId::new(2), Some(time(3)), None, b"").unwrap();
    world.wal.commit(late).unwrap();
    let mut mark = BatchBuilder::new();
    let back = Record::ClockStep { from: time(20), to: time(10) };
    mark.push(PartitionId::FIRST, TxId::NONE, &back).unwrap();
    world.wal.commit(mark).unwrap();
    world.clock.0.store(30 * SECOND, Ordering::Relaxed);
    commit(&world.wal, 3, &[(1, 3)], None);
    world.shipper.ship(&world.wal).unwrap();
    for is_damaged in [false, true] {
        if is_damaged {
            flip(&path(dir.path(), &taken.snapshot.path(world.archive.objects())));
        }
        let history = history(&world.archive);
        let uncertain = why(&history, at(RecoveryTarget::Timestamp(time(5))));
        assert!(matches!(uncertain, Why::Uncertain { .. }), "{uncertain:?}");
        let twice = why(&history, at(RecoveryTarget::Timestamp(time(15))));
        assert!(matches!(twice, Why::ClockSetBack { .. }), "{twice:?}");
    }
}

#[test]
fn a_base_is_named_by_its_transaction_only_if_the_log_before_it_proves_it() {
    // FAILURES 60: a listed state that is named can be restored by that name, and no other.
    let lost: [(&[usize], bool); 5] =
        [(&[0], true), (&[1], true), (&[2], false), (&[2, 1], false), (&[2, 1, 0], false)];
    for (lost, is_named) in lost {
        let dir = tempfile::tempdir().unwrap();
        let (world, lsns, _) = five(dir.path());
        lost.iter().for_each(|number| lose(dir.path(), &world, *number));
        let history = history(&world.archive);
        let base = history.restorable().unwrap().last().unwrap().from;
        assert_eq!((base.lsn, base.tx, base.named), (lsns[3], TxId::new(3), is_named), "{lost:?}");
        let third = history.resolve(&at(RecoveryTarget::Lsn(lsns[3]))).unwrap();
        assert_eq!(third.reached, base, "{lost:?}");
        assert_eq!(history.resolve(&tx(3)).is_ok(), is_named, "{lost:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut world, ..) = five(dir.path());
    let mut mark = BatchBuilder::new();
    mark.push(PartitionId::FIRST, TxId::NONE, &Record::Watermark(time(7))).unwrap();
    world.wal.commit(mark).unwrap();
    world.shipper.ship(&world.wal).unwrap();
    let end = world.archive.catalog().unwrap().logs(TimelineId::FIRST).last().unwrap().0.to;
    take(&world.archive, vec![5; 512], meta(&world.archive, end, end, time(7), TxId::new(5)));
    // The object after the fifth commit names it, but the log between the two is lost.
    lose(dir.path(), &world, 4);
    let history = history(&world.archive);
    let last = *history.restorable().unwrap().last().unwrap();
    assert_eq!((last.from.lsn, last.from.named), (end, false));
    assert!(history.resolve(&tx(5)).is_err());
}

/// The archive of a folder, without anything in it.
fn folder(dir: &Path) -> Archive {
    let objects = Objects::create_local(dir.join("repo")).unwrap();
    objects.init_repository(Timestamp::MIN).unwrap();
    Archive::new(objects, pitr_format::SourceName::new("folder").unwrap())
}

#[test]
fn without_a_log_a_damaged_snapshot_is_not_ignored() {
    // FAILURES 55: the newest snapshot of a folder.
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let snapshot = |number: u64| {
        let at = Lsn::new(number);
        take(&archive, vec![7; 512], meta(&archive, at, at, time(number as i64), TxId::new(number)))
    };
    let all: Vec<Manifest> = (1..=3).map(snapshot).collect();
    let root = |no: usize| path(dir.path(), &all[no].snapshot.path(archive.objects()));
    flip(&root(2));
    let newest_damaged = history(&archive);
    for target in [
        at(RecoveryTarget::Latest),
        tx(3),
        at(RecoveryTarget::Lsn(Lsn::new(3))),
        at(RecoveryTarget::Timestamp(time(3))),
    ] {
        assert!(damaged(&newest_damaged, target.clone()), "{target}");
    }
    assert!(newest_damaged.resolve(&tx(2)).is_ok());
    flip(&root(2));
    flip(&root(1));
    let middle_damaged = history(&archive);
    assert!(damaged(&middle_damaged, at(RecoveryTarget::Snapshot(all[1].snapshot.id))));
    assert!(damaged(&middle_damaged, tx(2)) && middle_damaged.resolve(&at(RecoveryTarget::Latest)).is_ok());
    assert_eq!(why(&middle_damaged, tx(4)), Why::NoSuchTransaction);
    // By time, it may be any state between its neighbours.
    let moment =
        |half_seconds: i64| at(RecoveryTarget::Timestamp(Timestamp::from_micros(half_seconds * SECOND / 2)));
    for (half_seconds, is_hidden) in [(1, false), (3, true), (4, true), (5, true), (7, false)] {
        let target = moment(half_seconds);
        assert_eq!(damaged(&middle_damaged, target.clone()), is_hidden, "{target}");
    }
    assert!(middle_damaged.resolve(&moment(2)).is_ok() && middle_damaged.resolve(&moment(6)).is_ok());
}

#[test]
fn a_source_without_transactions_hides_none() {
    // FAILURES 55
    let dir = tempfile::tempdir().unwrap();
    let archive = folder(dir.path());
    let snapshot = |number: u64| {
        let at = Lsn::new(number);
        take(&archive, vec![7; 512], meta(&archive, at, at, time(number as i64), TxId::NONE))
    };
    let all: Vec<Manifest> = (1..=2).map(snapshot).collect();
    flip(&path(dir.path(), &all[0].snapshot.path(archive.objects())));
    let history = history(&archive);
    assert!(damaged(&history, at(RecoveryTarget::Lsn(Lsn::new(1)))));
    assert!(!damaged(&history, tx(0)) && history.resolve(&tx(0)).is_err());
}

#[test]
fn a_missing_timeline_is_lost_and_one_that_never_existed_is_unknown() {
    // FAILURES 55
    let dir = tempfile::tempdir().unwrap();
    let (world, ..) = prepared(dir.path());
    let load = |timeline: Option<u32>| {
        let timeline = timeline.map(TimelineId::new);
        History::load(world.archive.objects(), world.archive.source(), timeline).map(drop)
    };
    let unknown = |error| matches!(error, Err(Error::Archive(pitr_archive::Error::UnknownTimeline { .. })));
    let lost = |error: Result<(), Error>| {
        let is_lost = matches!(&error, Err(Error::Archive(pitr_archive::Error::TimelineLost { .. })));
        is_lost && error.unwrap_err().severity() == Severity::Fatal
    };
    assert!(unknown(load(Some(2))));
    let object = world.archive.folder().path(&SourceObject::Timeline(TimelineId::FIRST));
    std::fs::remove_file(path(dir.path(), &object)).unwrap();
    assert!(lost(load(None)) && lost(load(Some(1))) && unknown(load(Some(2))));
    // The timeline's number is not used again: its log would then belong to another history.
    let next = world.archive.claim_timeline(&first_timeline(1)).unwrap();
    assert_eq!(next, TimelineId::new(2));
}

#[test]
fn the_first_state_is_transaction_0_and_a_base_after_a_gap_is_no_transaction() {
    // FAILURES 60: listed states can be restored.
    let dir = tempfile::tempdir().unwrap();
    let (world, ..) = prepared(dir.path());
    let history = history(&world.archive);
    let spans = history.restorable().unwrap();
    let first = history.resolve(&tx(0)).unwrap();
    assert_eq!((first.lsn, first.reached), (spans[0].from.lsn, spans[0].from));
    assert_eq!(why(&history, Target::just_before(RecoveryTarget::Transaction(TxId::NONE))), Why::BeforeFirst);
    assert!(spans[0].from.to_string().contains("before the first transaction"), "{}", spans[0].from);
    // The base after the gap has number 2, which identifies another state. It is listed as a
    // snapshot.
    assert!(!spans[1].from.named && spans[1].from.tx == TxId::new(2));
    let text = spans[1].from.to_string();
    assert!(text.starts_with("the snapshot") && text.contains(&spans[1].from.lsn.to_string()), "{text}");
    assert!(history.resolve(&at(RecoveryTarget::Lsn(spans[1].from.lsn))).is_ok());
    for span in &spans {
        assert!(span.to.named && history.resolve(&tx(span.to.tx.get())).unwrap().reached == span.to);
    }
}

#[test]
fn a_restore_counts_bytes_of_log_and_not_positions() {
    // FAILURES 60: a timeline begins a segment after the position that it forked from.
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    let fork = commit(&world.wal, 1, &[(1, 1)], None).lsn;
    world.shipper.ship(&world.wal).unwrap();
    let writer = Writer::claim(&world.archive, time(0)).unwrap();
    let (parent, reason) = (Some(TimelineId::FIRST), ForkReason::Restored);
    let child = writer.claim_timeline(&Timeline { parent, fork, reason, ..first_timeline(1) }).unwrap();
    let clock = Arc::new(TestClock((20 * SECOND).into()));
    let wal = create_wal(&dir.path().join("log2"), &clock, child, fork, false);
    let catalog = world.archive.catalog().unwrap();
    let ship = crate::world::options(1 << 20, 1 << 16);
    let mut shipper = Shipper::new(writer, &catalog, &wal, child, LOG_ID, ship).unwrap();
    commit(&wal, 2, &[(2, 2)], None);
    shipper.ship(&wal).unwrap();

    let history = history(&world.archive);
    let stop = history.resolve(&at(RecoveryTarget::Latest)).unwrap();
    let plan = history.plan(&stop).unwrap();
    let positions = plan.stop.since(plan.redo_from);
    let counted = history.log_bytes(&plan).unwrap();
    assert!(counted > 0 && counted < positions / 2, "{counted} bytes in {positions} positions");
    let output = dir.path().join("restored.db");
    let restored = restore_on(&OsFs, &history, &plan, &options(&output, 2)).unwrap();
    assert_eq!((restored.stats.log_bytes, restored.stats.records), (counted, 2));
}
