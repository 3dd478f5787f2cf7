//! Unreachable targets, and the nearest restorable states.

use crate::lab::{bytes, history, meta, restored, take};
use crate::world::{LOG_ID, TestClock, World, commit, create_wal, first_timeline, options};
use pitr_archive::{Cause, ForkReason, Shipper, SourceObject, Timeline, Writer};
use pitr_format::record::{GapReason, Record};
use pitr_format::{Lsn, PartitionId, Severity, TimelineId, Timestamp, TxId};
use pitr_recovery::{Error, History, Point, RecoveryTarget, Target, Why};
use pitr_snapshot::SnapshotId;
use pitr_wal::{BatchBuilder, Committed, Wal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn mark(wal: &Wal, record: &Record<'_>) {
    let mut builder = BatchBuilder::new();
    builder.push(PartitionId::FIRST, TxId::NONE, record).unwrap();
    wal.commit(builder).unwrap();
}

/// A commit at a time of the source's clock.
fn commit_at(world: &mut World, tx: u64, micros: i64) -> Committed {
    world.clock.0.store(micros, Ordering::Relaxed);
    let done = commit(&world.wal, tx, &[(tx, tx as u8)], None);
    world.shipper.ship(&world.wal).unwrap();
    done
}

fn refused(history: &History, target: Target) -> (Why, Option<u64>, Option<u64>) {
    match history.resolve(&target) {
        Err(Error::TargetUnreachable(found)) => {
            let tx = |point: Option<Point>| point.map(|point| point.tx.get());
            (found.why, tx(found.before), tx(found.after))
        }
        other => panic!("{target}: {other:?}"),
    }
}

fn reached(history: &History, target: Target) -> u64 {
    history.resolve(&target).unwrap_or_else(|error| panic!("{error}")).reached.tx.get()
}

fn world(dir: &Path) -> World {
    World::new(dir, 1, 1, options(1 << 20, 1 << 16))
}

#[test]
fn targets_outside_name_the_nearest() {
    // FAILURES 15: before the first base, after the last commit, exactly on one, exclusive.
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    let empty = World::new(&dir.path().join("other"), 1, 1, options(1 << 20, 1 << 16));
    let nothing = History::load(empty.archive.objects(), empty.archive.source(), None).unwrap();
    assert_eq!(refused(&nothing, Target::at(RecoveryTarget::Latest)).0, Why::NothingThere);

    let lsns: Vec<Lsn> = (1..=3).map(|tx| commit_at(&mut world, tx, 2_000_000 * tx as i64).lsn).collect();
    let history = history(&world.archive);
    let at = |moment| Target::at(moment);
    let before = |moment| Target::just_before(moment);
    assert_eq!(
        refused(&history, at(RecoveryTarget::Timestamp(time(999_999)))),
        (Why::BeforeFirst, None, Some(0))
    );
    assert_eq!(reached(&history, at(RecoveryTarget::Timestamp(time(1_000_000)))), 0, "the empty database");
    assert_eq!(
        reached(&history, before(RecoveryTarget::Timestamp(time(1_000_000)))),
        0,
        "no commit is there"
    );
    assert_eq!(reached(&history, at(RecoveryTarget::Timestamp(time(6_000_000)))), 3);
    let beyond = refused(&history, at(RecoveryTarget::Timestamp(time(6_000_001))));
    assert_eq!(beyond, (Why::NotYetCertain { watermark: time(6_000_000) }, Some(3), None));
    assert_eq!(
        refused(&history, at(RecoveryTarget::Transaction(TxId::new(4)))),
        (Why::NoSuchTransaction, Some(3), None)
    );
    let end = world.wal.durable().get() + 1;
    assert_eq!(refused(&history, at(RecoveryTarget::Lsn(Lsn::new(end)))), (Why::BehindLast, Some(3), None));
    assert_eq!(reached(&history, at(RecoveryTarget::Lsn(lsns[1]))), 2);
    assert_eq!(reached(&history, before(RecoveryTarget::Lsn(lsns[1]))), 1);
    assert_eq!(reached(&history, before(RecoveryTarget::Transaction(TxId::new(1)))), 0);
    assert_eq!(reached(&history, before(RecoveryTarget::Timestamp(time(4_000_000)))), 1);
    assert_eq!(
        reached(&history, at(RecoveryTarget::Timestamp(time(3_999_999)))),
        1,
        "the commit happened at its stamp"
    );

    // After a watermark, later times can be restored.
    mark(&world.wal, &Record::Watermark(time(9_000_000)));
    world.shipper.ship(&world.wal).unwrap();
    let history = crate::lab::history(&world.archive);
    assert_eq!(reached(&history, at(RecoveryTarget::Timestamp(time(9_000_000)))), 3);
    assert!(matches!(
        refused(&history, at(RecoveryTarget::Timestamp(time(9_000_001)))).0,
        Why::NotYetCertain { .. }
    ));
}

#[test]
fn a_removed_object_is_a_gap_and_its_targets_are_refused() {
    // FAILURES 11
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    let lsns: Vec<Lsn> = (1..=5).map(|tx| commit_at(&mut world, tx, 2_000_000 * tx as i64).lsn).collect();
    let lost = world.archive.catalog().unwrap().logs(TimelineId::FIRST)[2].0;
    let path = dir.path().join("repo").join(world.archive.folder().path(&SourceObject::Log(lost)));
    std::fs::remove_file(path).unwrap();

    let history = crate::lab::history(&world.archive);
    let gap = Why::WalGap(Cause::Missing);
    assert_eq!(refused(&history, Target::at(RecoveryTarget::Latest)), (gap, Some(2), None));
    assert_eq!(refused(&history, Target::at(RecoveryTarget::Lsn(lsns[3]))), (gap, Some(2), None));
    assert_eq!(
        refused(&history, Target::at(RecoveryTarget::Transaction(TxId::new(3)))),
        (Why::NoSuchTransaction, Some(2), None)
    );
    assert!(matches!(
        refused(&history, Target::at(RecoveryTarget::Timestamp(time(8_000_000)))).0,
        Why::NotYetCertain { .. }
    ));
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Lsn(lsns[1]))), 2);

    // A snapshot after the hole makes later states restorable.
    let meta = meta(&world.archive, lsns[3], lsns[3], time(8_000_000), TxId::new(4));
    let taken = take(&world.archive, vec![7; 4096], meta).snapshot.id;
    let history = crate::lab::history(&world.archive);
    assert_eq!(history.resolve(&Target::at(RecoveryTarget::Snapshot(taken))).unwrap().lsn, lsns[3]);
    let other = Target::at(RecoveryTarget::Snapshot(SnapshotId([9; 16])));
    assert_eq!(refused(&history, other), (Why::NoSuchSnapshot, None, None));

    // The newest state at or before the target, and why the target itself can't be restored.
    let or_before = |moment| {
        let (stop, instead) = history.resolve_or_before(&Target::at(moment)).unwrap();
        assert!(history.plan(&stop).is_ok() && stop.lsn == stop.reached.lsn || instead.is_none());
        (stop.reached.tx.get(), instead.map(|instead| instead.why))
    };
    assert_eq!(or_before(RecoveryTarget::Timestamp(time(6_000_000))), (2, Some(gap)));
    assert_eq!(or_before(RecoveryTarget::Lsn(lsns[2])), (2, Some(gap)));
    assert_eq!(or_before(RecoveryTarget::Timestamp(time(8_000_000))), (4, None));
    let late = or_before(RecoveryTarget::Timestamp(time(99_000_000)));
    assert!(matches!(late, (5, Some(Why::NotYetCertain { .. }))), "{late:?}");
    let early = history.resolve_or_before(&Target::at(RecoveryTarget::Timestamp(time(1))));
    assert!(matches!(early, Err(Error::TargetUnreachable(_))), "{early:?}");
    assert_eq!(history.gaps().unwrap().len(), 1);
    assert_eq!(refused(&history, Target::at(RecoveryTarget::Lsn(lsns[2]))), (gap, Some(2), Some(4)));
    assert_eq!(
        refused(&history, Target::at(RecoveryTarget::Timestamp(time(6_000_000)))),
        (gap, Some(2), Some(4))
    );
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Latest)), 5);
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Timestamp(time(8_000_000)))), 4);
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Transaction(TxId::new(4)))), 4);
    let error = history.resolve(&Target::at(RecoveryTarget::Lsn(lsns[2]))).unwrap_err();
    assert_eq!(error.severity(), Severity::Fix);
    let message = error.to_string();
    assert!(message.contains("transaction 2") && message.contains("transaction 4"), "{message}");
}

#[test]
fn the_time_of_a_commit_is_its_state_although_the_commit_may_be_older() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    world.live(150);
    let history = history(&world.archive);
    assert!(world.states.len() > 10);
    for state in &world.states {
        // Several commits may have one time.
        let last = world.states.iter().rfind(|other| other.time <= state.time).unwrap();
        assert_eq!(reached(&history, Target::at(RecoveryTarget::Timestamp(state.time))), last.tx.get());
        let before = world.states.iter().rfind(|other| other.time < state.time);
        let just_before = Target::just_before(RecoveryTarget::Timestamp(state.time));
        let found = history.resolve(&just_before).unwrap().reached.lsn;
        assert_eq!(found, before.map_or(Lsn::ORIGIN, |before| before.lsn), "{just_before}");
    }
}

#[test]
fn a_time_in_a_gap_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    commit_at(&mut world, 1, 2_000_000);
    let on = world.wal.skip().unwrap();
    world.clock.0.store(8_000_000, Ordering::Relaxed);
    let (since, until) = (time(2_500_000), time(8_000_000));
    mark(&world.wal, &Record::Gap { reason: GapReason::LogRestarted, since, until });
    // The snapshot names only the first commit, yet it contains commits that were not captured.
    take(&world.archive, vec![9; 512], meta(&world.archive, on, on, time(2_000_000), TxId::new(1)));
    let last = commit_at(&mut world, 2, 9_000_000);
    let history = history(&world.archive);
    let why = Why::WalGap(Cause::NotLogged(Some(GapReason::LogRestarted)));
    assert_eq!(refused(&history, Target::at(RecoveryTarget::Timestamp(time(5_000_000)))).0, why);
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Timestamp(last.time))), 2);
    let causes: Vec<Cause> = history.gaps().unwrap().iter().map(|gap| gap.cause).collect();
    assert_eq!(causes, [Cause::NotLogged(Some(GapReason::LogRestarted))]);
}

#[test]
fn a_base_after_a_gap_is_not_the_state_of_the_transaction_before_it() {
    // FAILURES 1, 15 and law 5.
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    let lsns: Vec<Lsn> = (1..=2).map(|tx| commit_at(&mut world, tx, 2_000_000 * tx as i64).lsn).collect();
    let lost = world.archive.catalog().unwrap().logs(TimelineId::FIRST)[0].0;
    let path = dir.path().join("repo").join(world.archive.folder().path(&SourceObject::Log(lost)));
    std::fs::remove_file(path).unwrap();
    // Transaction 2 is archived, but no snapshot and no log from the origin lead to it. Later
    // commits were not captured.
    let on = world.wal.skip().unwrap();
    world.clock.0.store(8_000_000, Ordering::Relaxed);
    let (since, until) = (time(4_500_000), time(8_000_000));
    mark(&world.wal, &Record::Gap { reason: GapReason::LogRestarted, since, until });
    take(&world.archive, vec![9; 512], meta(&world.archive, on, on, time(8_000_000), TxId::new(2)));
    commit_at(&mut world, 3, 9_000_000);
    let history = history(&world.archive);
    let second = Target::at(RecoveryTarget::Transaction(TxId::new(2)));
    assert_eq!(refused(&history, second).0, Why::BeforeFirst, "it is archived, and nothing leads to it");
    assert!(history.resolve(&Target::at(RecoveryTarget::Lsn(lsns[1]))).is_err());
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Transaction(TxId::new(3)))), 3);
}

#[test]
fn a_clock_that_was_set_back_makes_times_ambiguous() {
    // FAILURES 15: clock set back, clock set forward.
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    commit_at(&mut world, 1, 2_000_000);
    commit_at(&mut world, 2, 60_000_000);
    mark(&world.wal, &Record::ClockStep { from: time(61_000_000), to: time(31_000_000) });
    let frozen = commit_at(&mut world, 3, 32_000_000);
    assert_eq!(frozen.time, time(60_000_000), "stamps never decrease");
    for tx in 4..8 {
        commit_at(&mut world, tx, 60_000_000 + tx as i64 * 1_000_000);
    }
    mark(&world.wal, &Record::ClockStep { from: time(70_000_000), to: time(90_000_000) });
    commit_at(&mut world, 8, 91_000_000);
    let history = history(&world.archive);
    for inside in [31_000_000, 40_000_000, 60_000_000, 61_000_000] {
        let (why, before, after) = refused(&history, Target::at(RecoveryTarget::Timestamp(time(inside))));
        assert_eq!(why, Why::ClockSetBack { from: time(31_000_000), to: time(61_000_000) });
        assert_eq!((before, after), (Some(1), Some(4)), "{inside}");
    }
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Timestamp(time(30_999_999)))), 1);
    assert_eq!(reached(&history, Target::at(RecoveryTarget::Timestamp(time(64_000_000)))), 4);
    assert_eq!(
        reached(&history, Target::at(RecoveryTarget::Timestamp(time(80_000_000)))),
        7,
        "set forward: nothing in between"
    );
    assert_eq!(
        reached(&history, Target::at(RecoveryTarget::Transaction(TxId::new(3)))),
        3,
        "by number there is no doubt"
    );
}

#[test]
fn a_fork_keeps_both_histories_and_refuses_times_that_both_have() {
    // FAILURES 8, 14, 15: a clock set back by more than minutes forks a timeline.
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path());
    let fork = commit_at(&mut world, 1, 2_000_000_000);
    let parent = commit_at(&mut world, 2, 2_100_000_000);
    let writer = Writer::claim(&world.archive, time(0)).unwrap();
    let timeline = Timeline {
        parent: Some(TimelineId::FIRST),
        fork: fork.lsn,
        reason: ForkReason::ClockSetBack,
        ambiguous: Some((time(1_500_000_000), time(2_000_000_000))),
        ..first_timeline(1_500_000_000)
    };
    let child = writer.claim_timeline(&timeline).unwrap();
    let clock = Arc::new(TestClock(1_500_000_000.into()));
    let wal = create_wal(&dir.path().join("log2"), &clock, child, fork.lsn, false);
    let catalog = world.archive.catalog().unwrap();
    let mut shipper = Shipper::new(writer, &catalog, &wal, child, LOG_ID, options(1 << 20, 1 << 16)).unwrap();
    clock.0.store(2_050_000_000, Ordering::Relaxed);
    let other = commit(&wal, 2, &[(2, 99)], None);
    shipper.ship(&wal).unwrap();

    let of = |timeline| History::load(world.archive.objects(), world.archive.source(), timeline).unwrap();
    let newest = of(None);
    assert_eq!(newest.lineage().timeline(), child);
    let old = of(Some(TimelineId::FIRST));
    for (history, last, fill) in [(&newest, other, 99), (&old, parent, 2)] {
        assert_eq!(reached(history, Target::at(RecoveryTarget::Timestamp(last.time))), 2);
        let file = restored(dir.path(), history, &Target::at(RecoveryTarget::Transaction(TxId::new(2))), 1);
        assert_eq!((file.len(), file[2 * 512 + 100]), (3 * 512, fill));
        let first = restored(dir.path(), history, &Target::at(RecoveryTarget::Transaction(TxId::new(1))), 1);
        assert_eq!((first.len(), first[512 + 100]), (2 * 512, 1));
    }
    let inside = Target::at(RecoveryTarget::Timestamp(time(1_700_000_000)));
    assert!(matches!(refused(&newest, inside.clone()).0, Why::ClockSetBack { .. }));
    assert_eq!(reached(&old, inside), 0, "the parent alone lived through it once");
}

#[test]
fn an_older_snapshot_is_used_if_the_newest_lacks_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), 4, 1, options(800, 400));
    world.live(150);
    let first = world.archive.catalog().unwrap().logs(TimelineId::FIRST)[0].0;
    let early = world.states.iter().find(|state| first.to <= state.redo_from).unwrap().clone();
    let late = world.states[world.states.len() - 2].clone();
    assert!(early.lsn < late.lsn);
    for state in [&early, &late] {
        let redo_from = if state.lsn == late.lsn { Lsn::new(1) } else { state.redo_from };
        take(&world.archive, bytes(state), meta(&world.archive, redo_from, state.lsn, state.time, state.tx));
    }
    // Without the first object, neither the empty base nor the later snapshot can be used.
    let path = dir.path().join("repo").join(world.archive.folder().path(&SourceObject::Log(first)));
    std::fs::remove_file(path).unwrap();
    let history = history(&world.archive);
    let last = world.states.last().unwrap();
    let stop = history.resolve(&Target::at(RecoveryTarget::Latest)).unwrap();
    let plan = history.plan(&stop).unwrap();
    assert_eq!(plan.redo_from, early.redo_from);
    assert!(restored(dir.path(), &history, &Target::at(RecoveryTarget::Latest), 2) == bytes(last));
}
