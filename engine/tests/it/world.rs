//! A repository with all commits of a database, and restores of it through the registry.

use crate::two_files::{CURRENT, Database, FILES, LOG_ID, NAME, State, TwoFiles};
use pitr_archive::{Archive, ForkReason, Merged, ShipOptions, Shipper, Timeline, Writer};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_engine::Registry;
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_recovery::{
    Error, History, LogDelta, Plan, Progress, RecoveryTarget, RestoreOptions, Restored, Restorer, Target,
};
use pitr_snapshot::{Manifest, SnapshotMeta, write_full, write_increment};
use pitr_vfs::sim::SimClock;
use pitr_vfs::{Access, FileSystem};
use pitr_wal::Committed;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct World {
    pub(crate) archive: Archive,
    /// Every commit, and the files after it.
    pub(crate) commits: Vec<(Committed, State)>,
}

impl World {
    /// Forty commits, archived; a full snapshot after the tenth and an increment after the
    /// twenty-fifth.
    pub(crate) fn live(seed: u64) -> World {
        let archive = Archive::new(Objects::memory().unwrap(), SourceName::new("app").unwrap());
        let mut database = Database::create(seed);
        let writer = Writer::claim(&archive, Timestamp::from_micros(1)).unwrap();
        writer.claim_timeline(&first_timeline()).unwrap();
        let options = ShipOptions { codec: Codec::None, object_bytes: 20_000, ..ShipOptions::default() };
        let catalog = archive.catalog().unwrap();
        let mut shipper =
            Shipper::new(writer, &catalog, &database.wal, TimelineId::FIRST, LOG_ID, options).unwrap();
        let mut world = World { archive, commits: Vec::new() };
        let mut parent = None;
        for number in 1..=40 {
            let commit = database.commit();
            world.commits.push((commit, database.state.clone()));
            shipper.ship(&database.wal).unwrap();
            match number {
                10 => parent = Some(world.full(&database.state, &commit)),
                25 => drop(world.increment(parent.as_ref().unwrap(), &commit)),
                _ => {}
            }
        }
        world
    }

    fn meta(&self, at: &Committed) -> SnapshotMeta {
        SnapshotMeta {
            source: self.archive.source().clone(),
            engine: NAME.to_owned(),
            timeline: TimelineId::FIRST,
            epoch: pitr_format::Epoch::FIRST,
            redo_from: at.lsn,
            consistent_at: at.lsn,
            time: at.time,
            tx: at.tx,
            codec: Codec::default(),
            created: at.time,
            attributes: None,
        }
    }

    fn full(&self, state: &State, at: &Committed) -> Manifest {
        let chunks = self.chunks();
        write_full(&chunks, state, self.meta(at), None).unwrap().publish(&chunks).unwrap()
    }

    fn increment(&self, parent: &Manifest, at: &Committed) -> Manifest {
        let (history, chunks) = (self.history(), self.chunks());
        let since = parent.snapshot.meta.redo_from;
        let merged = Merged::new(&self.archive, history.pieces(), since, at.lsn).unwrap();
        let mut delta = LogDelta::new(merged, parent).unwrap();
        write_increment(&chunks, parent, &mut delta, self.meta(at)).unwrap().publish(&chunks).unwrap()
    }

    fn chunks(&self) -> ChunkStore {
        ChunkStore::open(self.archive.objects().clone()).unwrap()
    }

    pub(crate) fn history(&self) -> History {
        History::load(self.archive.objects(), self.archive.source(), None).unwrap()
    }

    pub(crate) fn plan(&self, history: &History, lsn: Lsn) -> Plan {
        history.plan(&history.resolve(&Target::at(RecoveryTarget::Lsn(lsn))).unwrap()).unwrap()
    }

    /// Restores a state as the facade does: it asks the registry for the engine that a snapshot
    /// names.
    pub(crate) fn restore(
        &self,
        fs: &dyn FileSystem,
        lsn: Lsn,
        options: &RestoreOptions,
    ) -> Result<Restored, Error> {
        self.with_restorer(fs, lsn, |restorer, plan| restorer.restore(plan, options))
    }

    pub(crate) fn with_restorer<T>(
        &self,
        fs: &dyn FileSystem,
        lsn: Lsn,
        act: impl FnOnce(&Restorer<'_>, &Plan) -> T,
    ) -> T {
        let registry = Registry::new(Arc::new(TwoFiles));
        let (history, chunks) = (self.history(), self.chunks());
        let plan = self.plan(&history, lsn);
        let name = &history.snapshots().last().unwrap().meta.engine;
        let target = registry.named(name).unwrap().need_restore_target().unwrap();
        let (clock, progress) = (SimClock::new(Timestamp::from_micros(5_000_000)), |_: Progress| {});
        let (history, chunks) = (&history, &chunks);
        act(&Restorer { history, chunks, target, fs, clock: &clock, progress: &progress }, &plan)
    }
}

fn first_timeline() -> Timeline {
    Timeline {
        parent: None,
        fork: Lsn::ORIGIN,
        reason: ForkReason::First,
        created: Timestamp::from_micros(0),
        ambiguous: None,
        root: None,
    }
}

pub(crate) fn options(output: &Path) -> RestoreOptions {
    let workers = NonZeroUsize::new(1);
    RestoreOptions { workers, ..RestoreOptions::to(output) }
}

pub(crate) fn read(fs: &dyn FileSystem, path: &Path) -> Option<Vec<u8>> {
    let file = fs.open(path, Access::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// The state in a restored folder, if the folder is complete: both files, and the position that
/// `finish` wrote.
pub(crate) fn state_of(fs: &dyn FileSystem, output: &Path) -> Option<(State, u64)> {
    let [heap, index] = FILES.map(|(_, path, _)| read(fs, &output.join(path)));
    let current = read(fs, &output.join(CURRENT))?;
    Some((State([heap?, index?]), u64::from_le_bytes(current.try_into().ok()?)))
}
