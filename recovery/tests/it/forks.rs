//! Every kind of target on both sides of a fork.

use crate::lab::{history, meta, restore_on, restored, take};
use crate::world::{LOG_ID, TestClock, World, commit, content, create_wal, first_timeline, options};
use pitr_archive::{ForkReason, PointName, Shipper, Timeline, Writer};
use pitr_format::{FileId, Lsn, TimelineId, Timestamp, TxId};
use pitr_recovery::{Error, History, NewPoint, RecoveryTarget, Target, Why, create_point};
use pitr_snapshot::SnapshotId;
use pitr_vfs::OsFs;
use pitr_wal::{Committed, Wal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PARENT: TimelineId = TimelineId::FIRST;
const SECOND: i64 = 1_000_000;

/// The state after a commit on one side of the fork.
struct State {
    at: Committed,
    file: Vec<u8>,
}

/// A source with a fork: both sides go on with the same numbers, and at the same times.
struct Forked {
    world: World,
    child: TimelineId,
    /// The states of each history, from its first transaction on. They share the first two.
    parents: Vec<State>,
    children: Vec<State>,
}

fn write(wal: &Wal, clock: &TestClock, tx: u64, fill: u8, seconds: i64, before: &[u8]) -> State {
    clock.0.store(seconds * SECOND, Ordering::Relaxed);
    let at = commit(wal, tx, &[(tx, fill)], None);
    let mut file = before.to_vec();
    let block = content(FileId::FIRST, tx, fill);
    file.resize(file.len().max((tx as usize + 1) * block.len()), 0);
    let start = tx as usize * block.len();
    file[start..start + block.len()].copy_from_slice(&block);
    State { at, file }
}

impl Forked {
    /// Transactions 1 and 2, then a fork, then 3 and 4 on both sides. The child's first commit has
    /// the time of the commit at the fork.
    fn new(dir: &Path) -> Forked {
        let mut world = World::new(dir, 1, 1, options(1 << 20, 1 << 16));
        let (mut parents, mut children) = (Vec::new(), Vec::new());
        for (tx, seconds) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
            let before: &[u8] = parents.last().map_or(&[], |state: &State| &state.file);
            parents.push(write(&world.wal, &world.clock, tx, tx as u8, seconds, before));
            world.shipper.ship(&world.wal).unwrap();
        }
        let fork = parents[1].at;
        let writer = Writer::claim(&world.archive, fork.time).unwrap();
        let (parent, reason) = (Some(PARENT), ForkReason::Restored);
        let timeline = Timeline { parent, fork: fork.lsn, reason, ..first_timeline(20 * SECOND) };
        let child = writer.claim_timeline(&timeline).unwrap();
        let clock = Arc::new(TestClock((20 * SECOND).into()));
        let wal = create_wal(&dir.join("log2"), &clock, child, fork.lsn, false);
        let catalog = world.archive.catalog().unwrap();
        let mut shipper =
            Shipper::new(writer, &catalog, &wal, child, LOG_ID, options(1 << 20, 1 << 16)).unwrap();
        for (tx, seconds) in [(3, 20), (4, 35)] {
            let before = children.last().unwrap_or(&parents[1]);
            let state = write(&wal, &clock, tx, 100 + tx as u8, seconds, &before.file);
            children.push(state);
            shipper.ship(&wal).unwrap();
        }
        Forked { world, child, parents, children }
    }

    fn of(&self, timeline: TimelineId) -> History {
        History::load(self.world.archive.objects(), self.world.archive.source(), Some(timeline)).unwrap()
    }

    /// The states of a history, oldest first.
    fn states(&self, timeline: TimelineId) -> Vec<&State> {
        match timeline {
            PARENT => self.parents.iter().collect(),
            _ => self.parents[..2].iter().chain(&self.children).collect(),
        }
    }

    fn both(&self) -> [TimelineId; 2] {
        [PARENT, self.child]
    }
}

fn time(seconds: i64) -> RecoveryTarget {
    RecoveryTarget::Timestamp(Timestamp::from_micros(seconds * SECOND))
}

#[test]
fn every_target_gives_the_state_of_its_own_side_of_a_fork() {
    // FAILURES 8, 14, 15
    let dir = tempfile::tempdir().unwrap();
    let forked = Forked::new(dir.path());
    for timeline in forked.both() {
        let history = forked.of(timeline);
        let states = forked.states(timeline);
        let exact = |target: Target, state: Option<&&State>| {
            let got = restored(dir.path(), &history, &target, 2);
            assert!(got == state.map_or(&[][..], |state| &state.file), "timeline {timeline}: {target}");
        };
        for (no, state) in states.iter().enumerate() {
            let Committed { tx, lsn, .. } = state.at;
            let before = no.checked_sub(1).and_then(|no| states.get(no));
            exact(Target::at(tx), Some(state));
            exact(Target::just_before(tx), before);
            exact(Target::at(lsn), Some(state));
            exact(Target::just_before(lsn), before);
            // The child's first commit has the time of the commit at the fork: a time takes both.
            let same_time = states.iter().rfind(|other| other.at.time == state.at.time);
            exact(Target::at(state.at.time), same_time);
            let earlier = states.iter().rfind(|other| other.at.time < state.at.time);
            exact(Target::just_before(state.at.time), earlier);
        }
        exact(Target::latest(), states.last());
        // Just before the fork, at it, and after it but before the next commit.
        let fork = forked.parents[1].at.lsn;
        exact(Target::at(fork.before()), Some(&states[0]));
        exact(Target::at(fork), Some(&states[1]));
        exact(Target::at(Lsn::new(fork.get() + 1)), Some(&states[1]));
        exact(Target::just_before(Lsn::new(fork.get() + 1)), Some(&states[1]));
    }
    // Between the fork and the next commit on each side.
    let at = |timeline, moment| forked.of(timeline).resolve(&Target::at(moment)).unwrap().reached.tx.get();
    assert_eq!((at(PARENT, time(25)), at(forked.child, time(25))), (2, 3));
    assert_eq!((at(PARENT, time(35)), at(forked.child, time(35))), (3, 4));
    let late = forked.of(forked.child).resolve(&Target::at(time(36)));
    assert!(
        matches!(late, Err(Error::TargetUnreachable(found)) if matches!(found.why, Why::NotYetCertain { .. }))
    );
}

#[test]
fn snapshots_and_points_are_states_of_their_own_timeline() {
    // FAILURES 8, 14
    let dir = tempfile::tempdir().unwrap();
    let forked = Forked::new(dir.path());
    let archive = &forked.world.archive;
    let mut taken: Vec<(TimelineId, SnapshotId, Vec<u8>)> = Vec::new();
    for timeline in forked.both() {
        let states = forked.states(timeline);
        let State { at, file } = states[2];
        let meta = meta(archive, at.lsn, at.lsn, at.time, at.tx);
        let meta = pitr_snapshot::SnapshotMeta { timeline, ..meta };
        taken.push((timeline, take(archive, file.clone(), meta).snapshot.id, file.clone()));
        let (name, target) = (PointName::new(format!("on {timeline}")).unwrap(), Target::at(at.tx));
        let new = NewPoint { target, timeline: Some(timeline), ..NewPoint::latest(name) };
        let point = create_point(archive.objects(), archive.source(), &new).unwrap();
        assert_eq!((point.timeline, point.lsn), (timeline, at.lsn));
        assert!(restored(dir.path(), &forked.of(timeline), &Target::at(&point), 1) == *file);
    }
    for (timeline, id, file) in &taken {
        assert!(restored(dir.path(), &forked.of(*timeline), &Target::at(*id), 1) == *file);
        let other = forked.both().into_iter().find(|other| other != timeline).unwrap();
        let refused = forked.of(other).resolve(&Target::at(*id));
        assert!(matches!(refused, Err(Error::TargetUnreachable(found)) if found.why == Why::NoSuchSnapshot));
    }
}

#[test]
fn a_number_that_both_sides_use_is_found_elsewhere() {
    // FAILURES 14
    let dir = tempfile::tempdir().unwrap();
    let forked = Forked::new(dir.path());
    let (old, newest) = (forked.of(PARENT), history(&forked.world.archive));
    assert_eq!(newest.lineage().timeline(), forked.child);
    for state in &forked.parents[..2] {
        for moment in [RecoveryTarget::from(state.at.tx), state.at.lsn.into(), state.at.time.into()] {
            assert_eq!(newest.elsewhere(&moment).unwrap(), [], "{moment:?} is one state");
            assert_eq!(old.elsewhere(&moment).unwrap(), [], "{moment:?} is one state");
        }
    }
    for tx in [3, 4].map(TxId::new) {
        assert_eq!(newest.elsewhere(&tx.into()).unwrap(), [PARENT]);
        assert_eq!(old.elsewhere(&tx.into()).unwrap(), [forked.child]);
    }
    let fork = forked.parents[1].at.lsn;
    assert_eq!(newest.elsewhere(&fork.into()).unwrap(), []);
    for lsn in [fork.get() + 1, forked.parents[2].at.lsn.get(), forked.parents[3].at.lsn.get()] {
        assert_eq!(newest.elsewhere(&Lsn::new(lsn).into()).unwrap(), [PARENT], "{lsn}");
    }
    let beyond = forked.parents[3].at.lsn.get() + (1 << 30);
    for moment in
        [RecoveryTarget::from(TxId::new(5)), Lsn::new(beyond).into(), RecoveryTarget::Latest, time(30)]
    {
        assert_eq!(newest.elsewhere(&moment).unwrap(), [], "{moment:?}");
    }
    // A snapshot of the other side, without its log.
    let at = forked.parents[3].at;
    take(&forked.world.archive, vec![7; 512], meta(&forked.world.archive, at.lsn, at.lsn, at.time, at.tx));
    for (name, _) in forked.world.archive.catalog().unwrap().logs(PARENT) {
        let name = pitr_archive::SourceObject::Log(*name);
        let path = forked.world.archive.folder().path(&name);
        std::fs::remove_file(dir.path().join("repo").join(path)).unwrap();
    }
    let newest = forked.of(forked.child);
    assert_eq!(newest.elsewhere(&at.lsn.into()).unwrap(), [PARENT]);
    assert_eq!(newest.elsewhere(&at.lsn.before().into()).unwrap(), []);
}

#[test]
fn a_timeline_that_begins_after_the_plan_changes_nothing_of_the_restore() {
    // FAILURES 14
    let dir = tempfile::tempdir().unwrap();
    let forked = Forked::new(dir.path());
    let plans = forked.both().map(|timeline| {
        let history = forked.of(timeline);
        let plan = history.plan_for(&Target::latest()).unwrap();
        (timeline, history, plan)
    });
    // The child's first commit is the last that the new timeline shares with it.
    let writer = Writer::claim(&forked.world.archive, Timestamp::MIN).unwrap();
    let fork = forked.children[0].at;
    let (parent, reason) = (Some(forked.child), ForkReason::SourceRewound);
    let timeline = Timeline { parent, fork: fork.lsn, reason, ..first_timeline(20 * SECOND) };
    let newest = writer.claim_timeline(&timeline).unwrap();
    let clock = Arc::new(TestClock((20 * SECOND).into()));
    let wal = create_wal(&dir.path().join("log3"), &clock, newest, fork.lsn, false);
    let catalog = forked.world.archive.catalog().unwrap();
    let mut shipper =
        Shipper::new(writer, &catalog, &wal, newest, LOG_ID, options(1 << 20, 1 << 16)).unwrap();
    let last = write(&wal, &clock, 4, 200, 36, &forked.children[0].file);
    shipper.ship(&wal).unwrap();

    for workers in 1..4 {
        for (timeline, history, plan) in &plans {
            let output = dir.path().join("restored.db");
            let options = crate::lab::options(&output, workers);
            restore_on(&OsFs, history, plan, &options).unwrap();
            let expected = forked.states(*timeline).pop().unwrap();
            assert!(std::fs::read(&output).unwrap() == expected.file, "timeline {timeline}");
            std::fs::remove_file(&output).unwrap();
        }
    }
    let now = history(&forked.world.archive);
    assert!(restored(dir.path(), &now, &Target::latest(), 2) == last.file);
    let path: Vec<TimelineId> = now.lineage().legs().iter().map(|leg| leg.timeline).collect();
    assert_eq!(path, [PARENT, forked.child, newest]);
}
