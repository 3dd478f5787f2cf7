//! Retention of the log of a source.

use crate::listings::with_each_lack;
use crate::world::{Held, World, at, keep, meta, name};
use pitr_archive::{
    Archive, Base, Cause, Coverage, ForkReason, ShipOptions, Shipper, SourceObject, Timeline, Writer,
    coverage,
};
use pitr_dedup::ChunkStore;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_prune::{Error, Policy};
use pitr_snapshot::{Snapshot, load_all, write_full};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// A source with a log: an object for each hour, and a snapshot for every third hour.
pub(crate) struct Logged {
    pub(crate) world: World,
    pub(crate) archive: Archive,
    pub(crate) snapshots: Vec<Snapshot>,
    /// The LSN of each hour's commit.
    commits: Vec<Lsn>,
    wal: Wal,
    shipper: Shipper,
}

impl Logged {
    pub(crate) fn new(dir: &Path, hours: i64) -> Logged {
        let mut world = World::new();
        world.change("a", 1, 0, 1);
        let archive = Archive::new(world.open(), name("a"));
        let writer = Writer::claim(&archive, at(0)).unwrap();
        let first = Timeline {
            parent: None,
            fork: Lsn::ORIGIN,
            reason: ForkReason::First,
            created: at(0),
            ambiguous: None,
            root: None,
        };
        let timeline = writer.claim_timeline(&first).unwrap();
        let start = Start { timeline, ..Start::first([1; 16]) };
        let wal = Wal::create(&Env::system(), &dir.join("log"), &start, &WalOptions::default()).unwrap();
        let catalog = archive.catalog().unwrap();
        let options = ShipOptions { compact_count: 4, ..ShipOptions::default() };
        let shipper = Shipper::new(writer, &catalog, &wal, timeline, [1; 16], options).unwrap();
        let mut logged = Logged { world, archive, snapshots: Vec::new(), commits: Vec::new(), wal, shipper };
        (1..=hours).for_each(|hour| logged.hour(hour));
        logged
    }

    pub(crate) fn hour(&mut self, hour: i64) {
        let tx = TxId::new(hour as u64);
        let mut batch = BatchBuilder::new();
        let image = Record::Image { file: FileId::FIRST, block: 3, data: &[hour as u8; 4096] };
        batch.push(PartitionId::FIRST, tx, &image).unwrap();
        batch.push_commit(PartitionId::FIRST, tx, Some(at(hour)), None, &[]).unwrap();
        let end = self.wal.commit(batch).unwrap().end;
        self.shipper.ship(&self.wal).unwrap();
        self.commits.push(end);
        self.world.hour = hour;
        if hour % 3 == 0 {
            let store = ChunkStore::open(self.world.open()).unwrap();
            let here = self.shipper.archived().unwrap();
            let mut meta = meta(&name("a"), hour);
            (meta.redo_from, meta.consistent_at, meta.tx) = (here, here, tx);
            let written = write_full(&store, &Held(&self.world.current[&name("a")]), meta, None).unwrap();
            let manifest = written.publish(&store).unwrap();
            self.world.contents.insert(manifest.snapshot.id, self.world.current[&name("a")].clone());
            self.snapshots.push(manifest.snapshot);
        }
    }

    fn coverage(&self) -> Coverage {
        self.coverage_in(&self.world)
    }

    fn coverage_in(&self, world: &World) -> Coverage {
        let archive = Archive::new(world.open(), name("a"));
        let catalog = archive.catalog().unwrap();
        let lineage = catalog.lineage(TimelineId::FIRST).unwrap();
        let roots = load_all(&world.open(), &name("a")).unwrap().snapshots;
        let bases: Vec<Base> = roots
            .iter()
            .map(|root| {
                let (consistent_at, redo_from) = (root.meta.consistent_at, root.meta.redo_from);
                Base { consistent_at, redo_from, timeline: root.meta.timeline }
            })
            .collect();
        let coverage = coverage(&lineage, &catalog.pieces(&lineage), &bases);
        for gap in &coverage.gaps {
            assert_eq!(archive.cause(&catalog, &lineage, gap).unwrap(), Cause::Pruned, "{gap:?}");
        }
        coverage
    }

    /// The hours with a restorable commit.
    pub(crate) fn restorable(&self) -> Vec<i64> {
        self.restorable_in(&self.world)
    }

    fn restorable_in(&self, world: &World) -> Vec<i64> {
        let coverage = self.coverage_in(world);
        let reached = |hour: &i64| coverage.interval_at(self.commits[*hour as usize - 1]).is_some();
        (1..=self.commits.len() as i64).filter(reached).collect()
    }
}

#[test]
fn every_commit_in_the_window_is_kept_and_earlier_log_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut logged = Logged::new(dir.path(), 14);
    assert_eq!(logged.restorable(), (1..=14).collect::<Vec<_>>());
    let policy = Policy { keep_within: Some(Duration::from_secs(6 * 3600)), ..Policy::default() };
    let report = logged.world.pruner(logged.world.open(), policy.clone()).execute(at(14)).unwrap();
    // The window starts at hour 8, which is restored from the snapshot of hour 6.
    assert_eq!(logged.restorable(), (6..=14).collect::<Vec<_>>());
    assert_eq!((report.sources[0].log_objects, report.sources[0].removed.len()), (6, 1));
    assert_eq!(report.sources[0].log[0].to, logged.snapshots[1].meta.redo_from);
    assert_eq!(logged.archive.catalog().unwrap().condemned(), []);
    logged.world.check_tidy();

    // The writer continues, and the next run extends the stated range.
    (15..=20).for_each(|hour| logged.hour(hour));
    logged.world.pruner(logged.world.open(), policy).execute(at(20)).unwrap();
    assert_eq!(logged.restorable(), (12..=20).collect::<Vec<_>>());
    assert_eq!(logged.archive.catalog().unwrap().pruned().len(), 1);
    logged.world.check_tidy();
}

#[test]
fn log_that_was_merged_is_deleted_after_the_merged_object_was_read() {
    // FAILURES 24
    let dir = tempfile::tempdir().unwrap();
    let mut logged = Logged::new(dir.path(), 14);
    while logged.shipper.compactor().compact().unwrap().is_some() {}
    let replaced = logged.archive.catalog().unwrap().replaced().to_vec();
    assert_eq!(replaced.len(), 12);
    // The second merged object is damaged.
    let holder = logged.archive.catalog().unwrap().holders(&replaced[5].0)[0].0;
    let path = logged.archive.folder().path(&SourceObject::Log(holder));
    let sound = logged.archive.objects().get(&path).unwrap();
    let put = |bytes: Vec<u8>| {
        logged.archive.objects().delete(&path).unwrap();
        logged.archive.objects().put_new(&path, bytes).unwrap();
    };
    let mut damaged = sound.to_vec();
    damaged[200] ^= 1;
    put(damaged);

    let policy = Policy { keep_within: Some(Duration::from_secs(100 * 3600)), ..Policy::default() };
    let pruner = logged.world.pruner(logged.world.open(), policy);
    let plan = pruner.plan(at(14)).unwrap();
    let bytes: u64 = replaced.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!((plan.sources[0].merged_objects, plan.sources[0].merged_bytes), (12, bytes));
    assert_eq!((plan.sources[0].log_objects, plan.freed >= bytes), (0, true));
    let report = pruner.execute(at(14)).unwrap();
    let kept = logged.archive.catalog().unwrap().replaced().to_vec();
    assert!(kept.len() == 4 && kept.iter().all(|(name, _)| holder.covers(name)), "{kept:?}");
    let kept: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(report.freed, bytes - kept);
    // Without the damaged object, what it was merged from counts again.
    logged.archive.objects().delete(&path).unwrap();
    assert_eq!(logged.restorable(), (1..=14).collect::<Vec<_>>());
    put(sound.to_vec());
    pruner.execute(at(14)).unwrap();
    assert_eq!(logged.archive.catalog().unwrap().replaced(), []);
    assert_eq!(logged.restorable(), (1..=14).collect::<Vec<_>>());
    (15..=18).for_each(|hour| logged.hour(hour));
    assert_eq!(logged.restorable(), (1..=18).collect::<Vec<_>>());
    logged.world.check_tidy();
}

#[test]
fn snapshots_that_are_kept_alone_leave_explained_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), 14);
    // The newest snapshot, and the last one of each of two days: at(0) is 14:13 UTC.
    let policy = Policy { keep_daily: NonZeroU32::new(2), ..Policy::default() };
    logged.world.pruner(logged.world.open(), policy).execute(at(14)).unwrap();
    assert_eq!(logged.restorable(), [9, 12, 13, 14]);
    assert_eq!(logged.coverage().gaps.len(), 1);
    logged.world.check_tidy();
}

#[test]
fn a_required_period_stays_restorable_or_nothing_is_pruned() {
    // FAILURES 25
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), 14);
    let since = |hour| Policy { must_remain_since: Some(at(hour)), ..keep(1) };
    logged.world.pruner(logged.world.open(), since(7)).execute(at(14)).unwrap();
    assert_eq!(logged.restorable(), (6..=14).collect::<Vec<_>>());
    let refused = logged.world.pruner(logged.world.open(), since(5)).execute(at(14));
    assert!(matches!(refused, Err(Error::NotRestorable { .. })), "{refused:?}");
    assert_eq!(logged.restorable(), (6..=14).collect::<Vec<_>>());
    logged.world.pruner(logged.world.open(), keep(1)).execute(at(14)).unwrap();
    assert_eq!(logged.restorable(), [12, 13, 14]);
}

#[test]
fn an_object_missing_from_any_listing_loses_no_kept_commit() {
    // FAILURES 20
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), 7);
    let policy = Policy { keep_within: Some(Duration::from_secs(2 * 3600)), ..Policy::default() };
    let honest = logged.world.fork();
    honest.pruner(honest.open(), policy.clone()).execute(at(7)).unwrap();
    let kept = logged.restorable_in(&honest);
    assert_eq!(kept, [3, 4, 5, 6, 7]);
    let (mut refused, mut done) = (0, 0);
    with_each_lack(&logged.world, |world, objects, lacking| {
        match world.pruner(objects, policy.clone()).max_waste(1.0).execute(at(7)) {
            Ok(_) => done += 1,
            Err(_) => refused += 1,
        }
        let left = logged.restorable_in(world);
        assert!(kept.iter().all(|hour| left.contains(hour)), "{lacking}: {left:?}");
    });
    assert!(refused > 5 && done > 10, "{refused} refused, {done} done");
}

#[test]
fn a_policy_without_a_rule_is_refused() {
    let refused = pitr_prune::Pruner::new(World::new().open(), Policy::default());
    assert!(matches!(refused, Err(Error::NoRule)));
    assert!(Timestamp::MIN < at(0));
}

#[test]
fn a_log_object_without_a_timeline_is_kept_and_blocks_no_prune() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::new(dir.path(), 6);
    let objects = logged.world.open();
    let mut log = objects.list("sources/a/log").unwrap().into_iter().map(|entry| entry.path);
    let path = log.next().unwrap();
    // The claim of the epoch exists, the claim of the timeline does not.
    let stray = path.replacen("00000001", "0000000f", 1);
    assert_ne!(path, stray);
    objects.put_new(&stray, objects.get(&path).unwrap()).unwrap();
    logged.world.pruner(logged.world.open(), keep(1)).execute(at(logged.world.hour)).unwrap();
    assert!(objects.exists(&stray).unwrap() && !objects.exists(&path).unwrap());
    logged.world.check();
}
