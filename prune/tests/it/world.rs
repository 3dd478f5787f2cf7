//! Repositories in memory with snapshots whose content is known.

use pitr_codec::{Codec, RawKey, Secret};
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::object_store::memory::InMemory;
use pitr_objects::{Objects, Repository};
use pitr_prune::{Policy, Pruner};
use pitr_snapshot::{
    BlockSource, BoxError, EXTENT_BYTES, FileShape, Manifest, SnapshotId, SnapshotMeta, SnapshotReader, list,
    load_all, newest, write_full,
};
use pitr_testkit::{Answer, Request, TestStore};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const HOUR: i64 = 3_600_000_000;
/// Time without a renewal after which a lease has lapsed in a test.
pub(crate) const EXPIRY: Duration = Duration::from_millis(40);

pub(crate) struct Held<'a>(pub(crate) &'a [u8]);

impl BlockSource for Held<'_> {
    fn files(&self) -> Vec<FileShape> {
        let (file, name, len) = (FileId::FIRST, "held".to_owned(), self.0.len() as u64);
        // Enough further files for a snapshot to store its files in leaves.
        let more = (1..70).map(|number| {
            let (file, name) = (FileId::new(number), number.to_string());
            FileShape { file, name, len: 0, block_bytes: 4096 }
        });
        [FileShape { file, name, len, block_bytes: 4096 }].into_iter().chain(more).collect()
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
}

pub(crate) fn name(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

pub(crate) fn noise(seed: u64, out: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for word in out.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word_bytes = state.rotate_left(21).to_le_bytes();
        word.copy_from_slice(&word_bytes[..word.len()]);
    }
}

pub(crate) fn at(hour: i64) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000 + hour * HOUR)
}

pub(crate) fn meta(source: &SourceName, hour: i64) -> SnapshotMeta {
    SnapshotMeta {
        source: source.clone(),
        engine: "test".to_owned(),
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        redo_from: Lsn::new(hour as u64),
        consistent_at: Lsn::new(hour as u64),
        time: at(hour),
        tx: TxId::new(hour as u64),
        codec: Codec::None,
        created: at(hour),
        attributes: None,
    }
}

fn key() -> RawKey {
    RawKey(Secret::new([7; 32]))
}

fn opened(objects: Objects) -> Objects {
    let repository = objects.open_repository().unwrap();
    if repository.encrypted {
        objects.unlock(&repository, &[&key()]).unwrap();
    }
    objects
}

pub(crate) fn keep(count: u32) -> Policy {
    Policy { keep_snapshots: NonZeroU32::new(count), ..Policy::default() }
}

/// Content of each snapshot.
pub(crate) type Contents = BTreeMap<SnapshotId, Vec<u8>>;

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<InMemory>,
    pub(crate) contents: Contents,
    pub(crate) current: BTreeMap<SourceName, Vec<u8>>,
    pub(crate) hour: i64,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|objects| objects.init_repository(Timestamp::MIN))
    }

    fn with(init: impl FnOnce(&Objects) -> pitr_objects::Result<Repository>) -> World {
        let store = Arc::new(InMemory::new());
        init(&Objects::with_store(store.clone()).unwrap()).unwrap();
        World { store, contents: BTreeMap::new(), current: BTreeMap::new(), hour: 0 }
    }

    /// Two sources with three snapshots each. Consecutive snapshots share half of their content.
    pub(crate) fn furnished() -> World {
        World::new().furnish()
    }

    /// The same world without and with encryption.
    pub(crate) fn both() -> [World; 2] {
        [World::new(), World::with(|objects| objects.init_encrypted(Timestamp::MIN, &key()))]
            .map(World::furnish)
    }

    fn furnish(mut self) -> World {
        let world = &mut self;
        for seed in 0..6 {
            world.change(["a", "b"][seed % 2], 2, seed as u64 / 2 % 2, seed as u64);
            world.backup(["a", "b"][seed % 2]);
        }
        self
    }

    /// A copy that changes independently.
    pub(crate) fn fork(&self) -> World {
        World { store: Arc::new(self.store.fork()), ..self.clone() }
    }

    /// A new handle.
    pub(crate) fn open(&self) -> Objects {
        opened(Objects::with_store(self.store.clone()).unwrap())
    }

    /// A handle that asks the hook.
    pub(crate) fn hooked(&self, hook: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Objects {
        let store = TestStore::around(self.store.clone()).answering(hook);
        opened(Objects::with_store(Arc::new(store)).unwrap())
    }

    /// Changes the bytes of an extent of a source.
    pub(crate) fn change(&mut self, source: &str, extents: u64, extent: u64, seed: u64) {
        let bytes = self.current.entry(name(source)).or_default();
        bytes.resize((extents * EXTENT_BYTES) as usize, 0);
        let begin = (extent % extents * EXTENT_BYTES) as usize;
        noise(seed + 1, &mut bytes[begin..begin + EXTENT_BYTES as usize]);
    }

    pub(crate) fn backup(&mut self, source: &str) -> Manifest {
        let manifest = self.backup_through(self.open(), source).unwrap();
        self.took(&manifest);
        manifest
    }

    pub(crate) fn took(&mut self, manifest: &Manifest) {
        let content = self.current[&manifest.snapshot.meta.source].clone();
        self.contents.insert(manifest.snapshot.id, content);
        self.hour += 1;
    }

    /// Takes a snapshot as an engine does: the store first, then the parent.
    pub(crate) fn backup_through(&self, objects: Objects, source: &str) -> pitr_snapshot::Result<Manifest> {
        let source = name(source);
        let store = ChunkStore::open(objects.clone())?;
        let parent = newest(&objects, &source, &list(&objects, &source)?, |_| true)?;
        let parent = match parent.map(|parent| parent.as_parent(&store)).transpose() {
            Err(pitr_snapshot::Error::Parent { .. }) => None,
            other => other?,
        };
        let content = Held(&self.current[&source]);
        write_full(&store, &content, meta(&source, self.hour), parent.as_ref())?.publish(&store)
    }

    pub(crate) fn pruner(&self, objects: Objects, policy: Policy) -> Pruner {
        Pruner::new(objects, policy).unwrap().small_packs(4).lease_expiry(EXPIRY)
    }

    /// Reads every listed snapshot completely.
    pub(crate) fn check(&self) -> Vec<SnapshotId> {
        let objects = self.open();
        let store = ChunkStore::open(objects.clone()).unwrap();
        let mut listed = Vec::new();
        for source in objects.sources().unwrap() {
            let roots = load_all(&objects, &source).unwrap();
            assert!(roots.damaged.is_empty(), "{:?}", roots.damaged);
            for root in roots.snapshots {
                let id = root.id;
                let content = self.contents.get(&id).expect("a snapshot that somebody was told of");
                let reader = SnapshotReader::open(store.clone(), root.manifest(&store).unwrap());
                let mut bytes = vec![0; content.len()];
                reader.read_at(FileId::FIRST, 0, &mut bytes).unwrap();
                assert!(bytes == *content, "other bytes");
                listed.push(id);
            }
        }
        listed.sort_unstable();
        listed
    }

    /// Checks that there are no unneeded objects, leases or condemnations, and no faults.
    pub(crate) fn check_tidy(&self) {
        let objects = self.open();
        let verified = pitr_verify::verify(&objects, pitr_verify::Options::deep(), &|_| {}).unwrap();
        assert!(verified.is_sound() && verified.strangers.is_empty(), "{verified:?}");
        for folder in ["leases", "condemned"] {
            assert_eq!(objects.list(folder).unwrap(), [], "{folder}");
        }
        let all = Policy { keep_snapshots: NonZeroU32::new(1000), ..Policy::default() };
        let plan = self.pruner(objects, all).max_waste(1.0).small_packs(usize::MAX);
        let plan = plan.plan(at(self.hour)).unwrap();
        assert_eq!((plan.packs.unneeded, plan.freed), (0, 0), "{plan:?}");
    }
}
