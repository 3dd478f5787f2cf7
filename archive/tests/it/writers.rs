//! The right to write, and fenced writers.

use crate::world::{LOG_ID, TestClock, archive, commit, create_wal, first_timeline, options};
use pitr_archive::{
    Archive, Cause, Error, Fence, ForkReason, Instance, Shipper, SourceObject, Timeline, Writer, coverage,
};
use pitr_format::record::{GapReason, Record};
use pitr_format::{Epoch, Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::from_micros(7);

fn open(dir: &Path) -> (Archive, Writer, Wal, Shipper) {
    let archive = archive(dir, "app");
    let writer = Writer::claim(&archive, NOW).unwrap();
    let timeline = writer.claim_timeline(&first_timeline(0)).unwrap();
    let clock = Arc::new(TestClock::default());
    let wal = create_wal(&dir.join("log"), &clock, timeline, Lsn::ORIGIN, false);
    let shipper = ship(&writer, &wal).unwrap();
    (archive, writer, wal, shipper)
}

fn ship(writer: &Writer, wal: &Wal) -> Result<Shipper, Error> {
    let catalog = writer.archive().catalog().unwrap();
    Shipper::new(writer.clone(), &catalog, wal, TimelineId::FIRST, LOG_ID, options(1 << 20, 1 << 16))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn reopen(dir: &Path) -> Wal {
    Wal::open(
        &Env::system().with_clock(Arc::new(TestClock::default())),
        dir,
        Lsn::ORIGIN,
        &WalOptions::default(),
    )
    .unwrap()
    .0
}

#[test]
fn a_paused_writer_is_fenced_and_its_later_objects_are_not_read() {
    // FAILURES 21
    let dir = tempfile::tempdir().unwrap();
    let (archive, old, wal, mut shipper) = open(dir.path());
    commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    let archived = shipper.archived().unwrap();

    let new = Writer::claim(&archive, NOW).unwrap();
    assert_eq!(new.epoch(), Epoch::new(2));
    commit(&wal, 2, &[(1, 2)], None);
    assert!(matches!(shipper.ship(&wal), Err(Error::Fenced { by, .. }) if by == Epoch::new(2)));
    assert_eq!(shipper.archived(), Some(archived), "nothing is acknowledged");
    assert!(matches!(shipper.ship(&wal), Err(Error::Fenced { .. })), "once fenced, always fenced");
    assert!(matches!(old.claim_timeline(&first_timeline(1)), Err(Error::Fenced { .. })));

    let catalog = archive.catalog().unwrap();
    assert_eq!(catalog.end(TimelineId::FIRST), Some(archived));
    assert_eq!(catalog.fenced_off().len(), 1, "its object is there and does not count");
    // The new writer archives the same positions again.
    ship(&new, &wal).unwrap().ship(&wal).unwrap();
    let catalog = archive.catalog().unwrap();
    assert_eq!(catalog.end(TimelineId::FIRST), Some(wal.durable()));
    assert_eq!(catalog.logs(TimelineId::FIRST)[1].0.epoch, Epoch::new(2));
}

#[test]
fn claims_made_at_the_same_time_get_epochs_of_their_own() {
    // FAILURES 22: no decision uses a clock.
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), "app");
    let claim = || match Writer::claim(&archive, NOW) {
        Ok(writer) => Some(writer.epoch()),
        Err(Error::Fenced { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    let won: Vec<Option<Epoch>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(claim)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut epochs: Vec<Epoch> = won.into_iter().flatten().collect();
    epochs.sort_unstable();
    assert_eq!(epochs.last(), Some(&Epoch::new(6)), "the highest always wins");
    assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
    let fenced = archive.catalog().unwrap().epochs().values().filter(|fence| fence.is_some()).count();
    assert_eq!(fenced, 5);
}

#[test]
fn the_fence_of_an_epoch_without_log_is_not_read() {
    // Each backup of a folder claims an epoch. Thousands of epochs must not cost one request each.
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    let (second, third) = (Writer::claim(&archive, NOW).unwrap(), Writer::claim(&archive, NOW).unwrap());
    let fence = |epoch: Epoch| {
        let path = archive.folder().path(&SourceObject::Fence(epoch));
        dir.path().join("repo").join(path)
    };
    std::fs::write(fence(second.epoch()), b"nonsense").unwrap();
    assert_eq!(archive.catalog().unwrap().end(TimelineId::FIRST), Some(wal.durable()));
    assert_eq!(archive.catalog().unwrap().epochs()[&second.epoch()], Some(Fence::behind([])));
    assert_eq!(Writer::claim(&archive, NOW).unwrap().epoch().get(), third.epoch().get() + 1);
    std::fs::write(fence(Epoch::FIRST), b"nonsense").unwrap();
    assert!(archive.catalog().is_err(), "what counts of the log is not known");
}

#[test]
fn a_cloned_log_that_diverged_is_refused() {
    // FAILURES 13
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    copy(&dir.path().join("log"), &dir.path().join("clone"));
    copy(&dir.path().join("log"), &dir.path().join("behind"));
    commit(&wal, 2, &[(0, 2)], None);
    shipper.ship(&wal).unwrap();

    let clone = reopen(&dir.path().join("clone"));
    commit(&clone, 2, &[(0, 99)], None);
    assert_eq!(clone.end(), wal.end());
    let writer = Writer::claim(&archive, NOW).unwrap();
    assert!(matches!(ship(&writer, &clone), Err(Error::Diverged { .. })));
    let behind = reopen(&dir.path().join("behind"));
    assert!(matches!(ship(&writer, &behind), Err(Error::LocalBehind { .. })));
    assert!(ship(&writer, &wal).is_ok());
}

#[test]
fn one_range_with_two_contents_is_refused_and_with_one_is_not() {
    // FAILURES 13: objects of two epochs, as if two repositories were copied into one.
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    let name = archive.catalog().unwrap().logs(TimelineId::FIRST)[0].0;
    let other = tempfile::tempdir().unwrap();
    for (fill, conflict) in [(1u8, false), (9, true)] {
        let elsewhere = other.path().join(fill.to_string());
        std::fs::create_dir(&elsewhere).unwrap();
        let (twin, _, _, _) = open(&elsewhere);
        let writer = Writer::claim(&twin, NOW).unwrap();
        let clock = Arc::new(TestClock::default());
        let log = create_wal(&elsewhere.join("log2"), &clock, TimelineId::FIRST, Lsn::ORIGIN, false);
        let mut shipper = ship(&writer, &log).unwrap();
        commit(&log, 1, &[(0, fill)], None);
        shipper.ship(&log).unwrap();
        let twin_name = twin.catalog().unwrap().logs(TimelineId::FIRST)[0].0;
        assert_eq!((twin_name.from, twin_name.to, twin_name.epoch), (name.from, name.to, Epoch::new(2)));
        let path = archive.folder().path(&SourceObject::Log(twin_name));
        std::fs::create_dir_all(dir.path().join("repo").join(&path).parent().unwrap()).unwrap();
        std::fs::copy(elsewhere.join("repo").join(&path), dir.path().join("repo").join(&path)).unwrap();
        let claim = archive.folder().path(&SourceObject::Claim(Epoch::new(2)));
        std::fs::copy(elsewhere.join("repo").join(&claim), dir.path().join("repo").join(&claim)).unwrap();
        match archive.catalog() {
            Err(Error::Conflict { .. }) if conflict => {}
            Ok(catalog) if !conflict => assert_eq!(catalog.twins().len(), 1),
            other => panic!("{other:?}"),
        }
        std::fs::remove_file(dir.path().join("repo").join(&path)).unwrap();
    }
}

#[test]
fn a_writer_continues_where_its_predecessor_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    let mut open_tx = BatchBuilder::new();
    open_tx.push(PartitionId::FIRST, TxId::new(9), &Record::Data(&[5; 40_000])).unwrap();
    let first = wal.append(open_tx).unwrap().first;
    wal.sync().unwrap();
    shipper.ship(&wal).unwrap();
    for round in 0..4 {
        commit(&wal, round + 1, &[(round, 1)], None);
        let writer = Writer::claim(&archive, NOW).unwrap();
        let mut shipper = ship(&writer, &wal).unwrap();
        shipper.ship(&wal).unwrap();
        assert_eq!(shipper.archived(), Some(wal.durable()));
        assert_eq!(shipper.ship(&wal).unwrap().objects, 0, "nothing new, no object");
    }
    let catalog = archive.catalog().unwrap();
    let logs = catalog.logs(TimelineId::FIRST);
    assert!(logs.windows(2).all(|pair| pair[0].0.to == pair[1].0.from));
    let last = archive.footer(&logs.last().unwrap().0).unwrap();
    assert_eq!(last.open.len(), 1);
    assert_eq!((last.open[0].first_lsn, last.open[0].bytes), (first, 40_000));
    assert_eq!(last.before.unwrap().tx, TxId::new(3), "the last commit before the object is known");
}

#[test]
fn a_gap_in_the_log_is_a_gap_in_the_archive_with_its_reason() {
    // FAILURES 11
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    let before = commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    let on = wal.skip().unwrap();
    let mut builder = BatchBuilder::new();
    let mark = Record::Gap { reason: GapReason::LogRestarted, since: NOW, until: NOW };
    builder.push(PartitionId::FIRST, TxId::NONE, &mark).unwrap();
    wal.commit(builder).unwrap();
    let after = commit(&wal, 2, &[(0, 2)], None);
    shipper.ship(&wal).unwrap();

    let catalog = archive.catalog().unwrap();
    let lineage = catalog.lineage(TimelineId::FIRST).unwrap();
    let pieces = catalog.pieces(&lineage);
    assert_eq!(pieces.last().unwrap().from(), on);
    let found = coverage(&lineage, &pieces, &[]);
    assert!(found.interval_at(before.lsn).is_some());
    assert!(found.interval_at(after.lsn).is_none());
    let [gap] = found.gaps[..] else { panic!("{found:?}") };
    assert_eq!(
        archive.cause(&catalog, &lineage, &gap).unwrap(),
        Cause::NotLogged(Some(GapReason::LogRestarted))
    );

    // After an object was removed, no more exact reason is known.
    commit(&wal, 3, &[(0, 3)], None);
    shipper.ship(&wal).unwrap();
    commit(&wal, 4, &[(0, 4)], None);
    shipper.ship(&wal).unwrap();
    let lost = archive.catalog().unwrap().logs(TimelineId::FIRST)[2].0;
    std::fs::remove_file(dir.path().join("repo").join(archive.folder().path(&SourceObject::Log(lost))))
        .unwrap();
    let catalog = archive.catalog().unwrap();
    let found = coverage(
        &lineage,
        &catalog.pieces(&lineage),
        &[pitr_archive::Base { consistent_at: on, redo_from: on, timeline: TimelineId::FIRST }],
    );
    assert_eq!(archive.cause(&catalog, &lineage, &found.gaps[1]).unwrap(), Cause::Missing);
}

#[test]
fn log_removed_before_it_was_archived_is_a_gap_after_accept_loss() {
    // FAILURES 34, the archive's part: it never reports lost log as archived.
    let dir = tempfile::tempdir().unwrap();
    let (archive, _, wal, mut shipper) = open(dir.path());
    commit(&wal, 1, &[(0, 1)], None);
    shipper.ship(&wal).unwrap();
    let archived = shipper.archived().unwrap();
    for tx in 2..60 {
        commit(&wal, tx, &[(tx, 1), (tx + 1, 2)], None);
    }
    assert!(wal.remove_below(wal.durable()).unwrap() > 0);
    assert!(matches!(shipper.ship(&wal), Err(Error::Wal(pitr_wal::Error::Removed { .. }))));
    assert_eq!(shipper.archived(), Some(archived));
    shipper.accept_loss();
    shipper.ship(&wal).unwrap();
    let catalog = archive.catalog().unwrap();
    let logs = catalog.logs(TimelineId::FIRST);
    assert_eq!(logs[1].0.from, wal.first());
    assert!(archive.footer(&logs[1].0).unwrap().gap);
}

#[test]
fn both_sides_of_a_fork_stay_restorable() {
    // FAILURES 8, the archive's part.
    let dir = tempfile::tempdir().unwrap();
    let (archive, writer, wal, mut shipper) = open(dir.path());
    let fork = commit(&wal, 1, &[(0, 1)], None).lsn;
    let parent = commit(&wal, 2, &[(0, 2)], None).lsn;
    shipper.ship(&wal).unwrap();
    let timeline =
        Timeline { parent: Some(TimelineId::FIRST), fork, reason: ForkReason::Restored, ..first_timeline(9) };
    let child = writer.claim_timeline(&timeline).unwrap();
    assert_eq!(child, TimelineId::new(2));
    let clock = Arc::new(TestClock::default());
    let log = create_wal(&dir.path().join("log2"), &clock, child, fork, false);
    let catalog = archive.catalog().unwrap();
    let mut shipper = Shipper::new(writer, &catalog, &log, child, LOG_ID, options(1 << 20, 1 << 16)).unwrap();
    let other = commit(&log, 2, &[(0, 7)], None).lsn;
    shipper.ship(&log).unwrap();

    let catalog = archive.catalog().unwrap();
    for (timeline, last, fill) in [(TimelineId::FIRST, parent, 2), (child, other, 7)] {
        let lineage = catalog.lineage(timeline).unwrap();
        let pieces = catalog.pieces(&lineage);
        let found = coverage(&lineage, &pieces, &[]);
        assert_eq!(found.intervals.len(), 1, "{timeline}");
        let merged = pitr_archive::Merged::new(&archive, &pieces, Lsn::ORIGIN, last).unwrap();
        let mut seen = Vec::new();
        merged
            .for_each(|image| -> Result<(), Error> {
                seen.push(image.data[100]);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [fill], "{timeline}");
    }
}

/// Log of one instance, on a timeline of its own.
struct Lane {
    writer: Writer,
    wal: Wal,
    shipper: Shipper,
    timeline: TimelineId,
    tx: u64,
}

impl Lane {
    /// An instance that forks from the end of the first timeline, or begins it.
    fn begin(dir: &Path, archive: &Archive, instance: Option<Instance>) -> Lane {
        let writer = Writer::claim_instance(archive, instance, NOW).unwrap();
        let parent = archive.catalog().unwrap().end(TimelineId::FIRST);
        let follows = parent.unwrap_or(Lsn::ORIGIN);
        let fork = Timeline { parent: parent.map(|_| TimelineId::FIRST), fork: follows, ..first_timeline(0) };
        let timeline = writer.claim_timeline(&fork).unwrap();
        let log = dir.join(format!("log of {timeline}"));
        let wal = create_wal(&log, &Arc::new(TestClock::default()), timeline, follows, false);
        let shipper = Self::shipper(&writer, &wal, timeline);
        Lane { writer, wal, shipper, timeline, tx: 0 }
    }

    fn shipper(writer: &Writer, wal: &Wal, timeline: TimelineId) -> Shipper {
        let catalog = writer.archive().catalog().unwrap();
        let options = options(1 << 20, 1 << 16);
        Shipper::new(writer.clone(), &catalog, wal, timeline, LOG_ID, options).unwrap()
    }

    /// The next writer of the instance, on the same log.
    fn again(&mut self) {
        self.writer =
            Writer::claim_instance(self.writer.archive(), Some(self.writer.instance()), NOW).unwrap();
        self.shipper = Self::shipper(&self.writer, &self.wal, self.timeline);
    }

    fn write(&mut self) -> Result<(), Error> {
        self.tx += 1;
        commit(&self.wal, self.tx, &[(self.tx, 1)], None);
        self.shipper.ship(&self.wal).map(drop)
    }

    fn is_whole(&self) -> bool {
        self.writer.archive().catalog().unwrap().end(self.timeline) == Some(self.wal.durable())
    }
}

#[test]
fn writers_of_different_instances_write_side_by_side_and_each_is_succeeded_alone() {
    // FAILURES 8, 21
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), "app");
    let mut original = Lane::begin(dir.path(), &archive, Some(Instance::FIRST));
    original.write().unwrap();
    let mut copies = [(), ()].map(|()| Lane::begin(dir.path(), &archive, None));
    for _ in 0..2 {
        original.write().unwrap();
        copies.iter_mut().for_each(|copy| copy.write().unwrap());
    }
    // The first copy's writer is paused, and succeeded. The others go on.
    let (old, old_log) = (copies[0].writer.clone(), copies[0].timeline);
    let mut paused = Lane::shipper(&old, &copies[0].wal, old_log);
    copies[0].again();
    original.write().unwrap();
    copies[1].write().unwrap();
    copies[0].write().unwrap();
    let late = commit(&copies[0].wal, 99, &[(9, 9)], None);
    let refused = paused.ship(&copies[0].wal);
    assert!(
        matches!(refused, Err(Error::Fenced { by, .. }) if by == copies[0].writer.epoch()),
        "{refused:?}"
    );
    let catalog = archive.catalog().unwrap();
    assert!(catalog.end(old_log).unwrap() < late.lsn, "what it stored late does not count");
    copies[0].write().unwrap();
    assert!([&original, &copies[0], &copies[1]].iter().all(|lane| lane.is_whole()));
    let owners = archive.owners(&archive.catalog().unwrap()).unwrap();
    let expected = [&original, &copies[0], &copies[1]].map(|lane| (lane.timeline, lane.writer.instance()));
    assert_eq!(owners, expected.into());
    // One that takes over all ends them all.
    let all = Writer::claim(&archive, NOW).unwrap();
    for lane in copies.iter_mut().chain([&mut original]) {
        assert!(matches!(lane.write(), Err(Error::Fenced { by, .. }) if by == all.epoch()));
    }
}

#[test]
fn a_copy_is_followed_unless_it_began_beside_a_living_writer() {
    // FAILURES 8, 22
    let followed = |archive: &Archive| archive.followed(&archive.catalog().unwrap()).unwrap();
    for lives in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path(), "app");
        assert_eq!(followed(&archive), None);
        let mut original = Lane::begin(dir.path(), &archive, Some(Instance::FIRST));
        original.write().unwrap();
        let mut copy = Lane::begin(dir.path(), &archive, None);
        assert_eq!(followed(&archive), Some(original.timeline), "it has nothing yet");
        if lives {
            original.write().unwrap();
        }
        copy.write().unwrap();
        let expected = Some(if lives { original.timeline } else { copy.timeline });
        assert_eq!(followed(&archive), expected);
        // A later writer of the original proves nothing about the time when the copy began.
        original.again();
        original.write().unwrap();
        copy.again();
        copy.write().unwrap();
        assert_eq!(followed(&archive), expected);
        let heads = archive.heads(&archive.catalog().unwrap()).unwrap();
        assert_eq!(heads.into_values().collect::<Vec<_>>(), [original.timeline, copy.timeline]);
    }
}

#[test]
fn a_claim_that_cannot_be_read_is_taken_over_and_takes_over() {
    // FAILURES 21, 29
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), "app");
    let mut original = Lane::begin(dir.path(), &archive, Some(Instance::FIRST));
    original.write().unwrap();
    let mut copy = Lane::begin(dir.path(), &archive, None);
    copy.write().unwrap();
    let claim = archive.folder().path(&SourceObject::Claim(copy.writer.epoch()));
    std::fs::write(dir.path().join("repo").join(claim), b"nonsense").unwrap();
    // Whether the damaged claim takes over the original is unknown.
    assert!(matches!(original.write(), Err(Error::Fenced { .. })));
    // Whether it is the claim of an earlier writer of the original is unknown too.
    original.again();
    assert!(matches!(copy.write(), Err(Error::Fenced { .. })));
    original.write().unwrap();
}
