//! The machine, the repository, and the steps between which a seed chooses.

use pitr_archive::{Archive, Merged, ShipOptions, Shipper};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{FileId, Lsn, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_objects::object_store::memory::InMemory;
use pitr_prune::{Policy, Pruner};
use pitr_recovery::{History, LogDelta, RecoveryTarget, RestoreOptions, Restorer, SingleFile, Target};
use pitr_snapshot::{BlockSource, BoxError, FileShape, Manifest, SnapshotMeta, write_full, write_increment};
use pitr_testkit::PageEngine;
use pitr_vfs::sim::{Rng, SimClock, SimFs};
use pitr_vfs::{Access, Env};
use pitr_wal::Committed;
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Midnight of 1 January 2026.
const BEGIN: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Bytes of the engine's file: more than one extent of a snapshot.
const FILE_BYTES: usize = 5 << 18;
/// Steps between two milestones.
const STEPS: u64 = 40;
const FOLDER: &str = "/out";

/// A machine with an engine, and its repository.
pub(crate) struct World {
    rng: Rng,
    env: Env,
    archive: Archive,
    engine: PageEngine,
    page_bytes: usize,
    shipper: Shipper,
    /// The model: every commit, and the pages after it.
    commits: Vec<(Committed, Vec<u8>)>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let env = Env::simulated(Arc::new(SimFs::new()), Arc::new(SimClock::new(BEGIN)), rng.draw());
        env.fs.create_dir_all(Path::new(FOLDER)).unwrap();
        let objects = Objects::over(Arc::new(InMemory::new()), &env).unwrap();
        objects.init_repository(env.clock.now()).unwrap();
        let archive = Archive::new(objects, SourceName::new("app").unwrap());
        let page_bytes = 512 << rng.below(6);
        let engine =
            PageEngine::create(&env, Path::new("/log"), FILE_BYTES / page_bytes, page_bytes, rng.draw());
        let options = ShipOptions {
            object_bytes: 1 << (13 + rng.below(6)),
            frame_bytes: 1 << (12 + rng.below(4)),
            compact_count: 2 + rng.below(6) as usize,
            check_every: Duration::from_secs(5 * rng.below(3)),
            ..ShipOptions::default()
        };
        let shipper = Shipper::claim(&archive, engine.wal(), options).unwrap();
        World { rng, env, archive, engine, page_bytes, shipper, commits: Vec::new() }
    }

    /// Commits, ships and removes archived log. Ends with a commit, all of the log archived.
    pub(crate) fn live(&mut self) {
        for _ in 0..STEPS + self.rng.below(STEPS) {
            self.env.clock.sleep(Duration::from_micros(self.rng.below(3_000_000)));
            match self.rng.below(9) {
                0 => self.ship(),
                1 => self.remove_archived_log(),
                2 => drop(self.shipper.compactor().compact().unwrap()),
                _ => self.commit(),
            }
        }
        self.commit();
        self.ship();
    }

    fn commit(&mut self) {
        let committed = self.engine.commit();
        self.commits.push((committed, self.engine.pages().to_vec()));
    }

    fn ship(&mut self) {
        self.shipper.ship(self.engine.wal()).unwrap();
    }

    fn remove_archived_log(&self) {
        if let Some(archived) = self.shipper.archived() {
            self.engine.wal().remove_below(archived).unwrap();
        }
    }

    /// Takes a full snapshot of the last commit.
    pub(crate) fn take_full(&self) -> Manifest {
        let chunks = self.chunks();
        let pages = Pages { bytes: self.engine.pages(), page_bytes: self.page_bytes };
        write_full(&chunks, &pages, self.meta(), None).unwrap().publish(&chunks).unwrap()
    }

    /// Takes a snapshot of the last commit from `parent` and the archived log.
    pub(crate) fn take_increment(&self, parent: &Manifest) -> Manifest {
        let (history, chunks, meta) = (self.history(), self.chunks(), self.meta());
        let since = parent.snapshot.meta.redo_from;
        let merged = Merged::new(&self.archive, history.pieces(), since, meta.consistent_at).unwrap();
        let mut delta = LogDelta::new(merged, parent).unwrap();
        write_increment(&chunks, parent, &mut delta, meta).unwrap().publish(&chunks).unwrap()
    }

    fn meta(&self) -> SnapshotMeta {
        let (last, _) = self.commits.last().unwrap(); // live() ends with a commit
        SnapshotMeta {
            source: self.archive.source().clone(),
            engine: "pages".to_owned(),
            timeline: TimelineId::FIRST,
            epoch: self.shipper.writer().epoch(),
            redo_from: last.lsn,
            consistent_at: last.lsn,
            time: last.time,
            tx: last.tx,
            codec: Codec::default(),
            created: self.env.clock.now(),
            attributes: None,
        }
    }

    /// Keeps `kept` and everything after it. Some prunes rewrite all packs with waste, and some
    /// wait for the lease of a reader that has died.
    pub(crate) fn prune(&mut self, kept: &Manifest) {
        let policy = Policy { keep_snapshots: NonZeroU32::new(1), ..Policy::default() };
        let max_waste = if self.rng.once_in(2) { 0.0 } else { 1.0 };
        let pruner = Pruner::new(self.archive.objects().clone(), policy).unwrap().max_waste(max_waste);
        let reader = self.rng.once_in(2).then(|| self.chunks());
        let report = pruner.execute(self.env.clock.now()).unwrap();
        assert_eq!((report.sources[0].removed.len(), report.waiting.len()), (1, 0), "the first snapshot");
        drop(reader);
        let again = pruner.plan(self.env.clock.now()).unwrap();
        assert_eq!((again.freed, again.packs.waste_left), (0, report.packs.waste_left), "it is complete");
        let left: Vec<_> = self.history().snapshots().iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(left, [kept.snapshot.id]);
    }

    /// Restores a state after the prune, and compares it with the model.
    pub(crate) fn check_restore(&mut self, kept: &Manifest) {
        let history = self.history();
        let oldest = self.commits.iter().position(|(commit, _)| commit.lsn == kept.snapshot.meta.redo_from);
        let oldest = oldest.unwrap();
        let lost = self.rng.below(oldest as u64) as usize;
        let target = Target::at(RecoveryTarget::Transaction(self.commits[lost].0.tx));
        // A merged object is kept whole. One that begins the log makes every state in it
        // restorable.
        let is_whole = history.pieces().first().is_some_and(|piece| piece.from() == Lsn::ORIGIN);
        assert!(is_whole || history.plan_for(&target).is_err(), "{target} was pruned");

        let wanted = oldest + self.rng.below((self.commits.len() - oldest) as u64) as usize;
        let (commit, state) = &self.commits[wanted];
        let target = match (self.rng.below(4), self.commits.get(wanted + 1)) {
            // The log with the snapshot's last commit is pruned. So the commit's number proves
            // nothing.
            _ if wanted == oldest => Target::at(RecoveryTarget::Snapshot(kept.snapshot.id)),
            (0, _) => Target::at(RecoveryTarget::Lsn(commit.lsn)),
            (1, _) => Target::at(RecoveryTarget::Timestamp(commit.time)),
            (2, None) => Target::at(RecoveryTarget::Latest),
            (2, Some((next, _))) => Target::just_before(RecoveryTarget::Transaction(next.tx)),
            _ => Target::at(RecoveryTarget::Transaction(commit.tx)),
        };
        let plan = history.plan(&history.resolve(&target).unwrap()).unwrap();
        let output = Path::new(FOLDER).join("pages");
        let chunks = self.chunks();
        let restorer = Restorer::new(&history, &chunks, &SingleFile);
        let restored = restorer.restore(&plan, &RestoreOptions::to(&output)).unwrap();
        assert_eq!((restored.reached().tx, restored.reached().lsn), (commit.tx, commit.lsn), "{target}");
        let file = self.env.fs.open(&output, Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == *state, "{target} has other bytes than the engine had");
    }

    /// Verifies all objects, including the content of chunks and log.
    pub(crate) fn verify(&self) {
        let options = pitr_verify::Options::deep();
        let report = pitr_verify::verify(self.archive.objects(), options, &|_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert!(report.pending.is_empty() && report.strangers.is_empty(), "{report:?}");
        assert_eq!(report.snapshots, 1);
    }

    /// The SHA-256 of the paths and bytes of all objects.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let objects = self.archive.objects();
        let mut digest = Sha256::new();
        for entry in objects.list("").unwrap() {
            let bytes = objects.get(&entry.path).unwrap();
            for part in [entry.path.as_bytes(), &bytes] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        digest.finalize().into()
    }

    fn chunks(&self) -> ChunkStore {
        ChunkStore::open(self.archive.objects().clone()).unwrap()
    }

    fn history(&self) -> History {
        History::load(self.archive.objects(), self.archive.source(), None).unwrap()
    }
}

/// The engine's file.
struct Pages<'a> {
    bytes: &'a [u8],
    page_bytes: usize,
}

impl BlockSource for Pages<'_> {
    fn files(&self) -> Vec<FileShape> {
        let (len, block_bytes) = (self.bytes.len() as u64, self.page_bytes as u32);
        vec![FileShape { file: FileId::FIRST, name: "pages".to_owned(), len, block_bytes }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let at = offset as usize;
        buf.copy_from_slice(self.bytes.get(at..at + buf.len()).ok_or("past the end")?);
        Ok(())
    }
}
