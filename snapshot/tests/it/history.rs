//! Random histories: every snapshot restores byte for byte, whatever precedes and follows it.

use crate::model::{Model, ModelFile};
use crate::{FILE, Noise, memory, meta, restored, source_name};
use pitr_dedup::ChunkStore;
use pitr_format::FileId;
use pitr_snapshot::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    /// Writes a run of blocks from `at`/256 of the file: zeros, compressible or incompressible
    /// data.
    Write {
        file: u8,
        at: u8,
        blocks: u16,
        fill: u8,
    },
    /// Writes single blocks all over the file.
    Scatter {
        file: u8,
        blocks: u8,
        seed: u64,
    },
    /// Sets the length: `parts`/256 of the maximum, plus `bytes`.
    SetLen {
        file: u8,
        parts: u8,
        bytes: u16,
    },
    /// Replaces the file.
    Replace {
        file: u8,
        log: u8,
    },
    Full,
    Compared,
    /// The source knows the changes of these files. The other file is compared.
    Reported {
        files: u8,
    },
    Increment {
        shuffle: Option<u64>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0..2u8;
    prop_oneof![
        4 => (file.clone(), any::<u8>(), 1..600u16, 0..4u8)
            .prop_map(|(file, at, blocks, fill)| Op::Write { file, at, blocks, fill }),
        4 => (file.clone(), 1..40u8, any::<u64>()).prop_map(|(file, blocks, seed)| Op::Scatter { file, blocks, seed }),
        4 => (file.clone(), any::<u8>(), prop_oneof![Just(0), any::<u16>()])
            .prop_map(|(file, parts, bytes)| Op::SetLen { file, parts, bytes }),
        1 => (file, 9..=16u8).prop_map(|(file, log)| Op::Replace { file, log }),
        1 => Just(Op::Full),
        2 => Just(Op::Compared),
        4 => (1..4u8).prop_map(|files| Op::Reported { files }),
        6 => prop::option::of(any::<u64>()).prop_map(|shuffle| Op::Increment { shuffle }),
    ]
}

struct History {
    store: ChunkStore,
    model: Model,
    len_max: u64,
    taken: Vec<(Manifest, Model)>,
}

impl History {
    fn new(log: u8, len_max: u64) -> Self {
        let model = Model::one(1 << log, 0);
        History { store: memory(), model, len_max, taken: Vec::new() }
    }

    fn file(&mut self, file: u8) -> Option<&mut ModelFile> {
        self.model.files.get_mut(&FileId::new(u32::from(file)))
    }

    fn apply(&mut self, op: &Op) {
        let len_max = self.len_max;
        match *op {
            Op::Write { file, at, blocks, fill } => {
                let Some(file) = self.file(file).filter(|file| file.len > 0) else { return };
                let first = file.blocks_in_len() * u64::from(at) / 256;
                let mut noise = Noise::new(u64::from(at) + u64::from(fill));
                for block in first..file.blocks_in_len().min(first + u64::from(blocks)) {
                    let size = file.block_bytes as usize;
                    let bytes = match fill {
                        0 => vec![0; size],
                        1 => vec![at; size],
                        _ => noise.half_compressible(size),
                    };
                    file.write(block, bytes);
                }
            }
            Op::Scatter { file, blocks, seed } => {
                let Some(file) = self.file(file).filter(|file| file.len > 0) else { return };
                let mut noise = Noise::new(seed);
                for _ in 0..blocks {
                    let block = noise.below(file.blocks_in_len());
                    let bytes = noise.half_compressible(file.block_bytes as usize);
                    file.write(block, bytes);
                }
            }
            Op::SetLen { file, parts, bytes } => {
                let Some(file) = self.file(file) else { return };
                file.set_len(len_max * u64::from(parts) / 256 + u64::from(bytes));
            }
            Op::Replace { file, log } => {
                let id = FileId::new(u32::from(file));
                if self.model.files.remove(&id).is_none() || file == 0 {
                    let parent = self.taken.last().and_then(|(_, model)| model.files.get(&id));
                    let new = ModelFile::in_place_of(parent.map_or(0, |file| file.len), 1 << log);
                    self.model.files.insert(id, new);
                }
            }
            Op::Full => self.full(false),
            Op::Compared => self.full(true),
            Op::Reported { files } => {
                let source = self.model.reporting(|file| files >> file.get() & 1 == 1);
                let parent = self.taken.last().map(|(parent, _)| parent);
                let next = write_full(&self.store, &source, self.meta(), parent).unwrap();
                if parent.is_some() {
                    source.check_read();
                }
                self.take(next);
            }
            Op::Increment { shuffle } => match self.taken.last() {
                None => self.full(false),
                Some((parent, _)) => {
                    let mut delta = self.model.delta(shuffle);
                    let next = write_increment(&self.store, parent, &mut delta, self.meta()).unwrap();
                    self.take(next);
                }
            },
        }
    }

    fn full(&mut self, compared: bool) {
        let parent = self.taken.last().map(|(parent, _)| parent).filter(|_| compared);
        let next = write_full(&self.store, &self.model, self.meta(), parent).unwrap();
        self.take(next);
    }

    fn meta(&self) -> SnapshotMeta {
        meta(self.taken.len() as u64)
    }

    fn take(&mut self, manifest: Manifest) {
        let manifest = manifest.publish(&self.store).unwrap();
        self.model.mark();
        self.taken.push((manifest, self.model.clone()));
        self.check(self.taken.len() - 1, &self.store);
    }

    /// Compares the extents that ever held data, their neighbours, and the last extent.
    fn check(&self, no: usize, store: &ChunkStore) {
        let (manifest, model) = &self.taken[no];
        let reader = SnapshotReader::open(store.clone(), manifest.clone());
        assert_eq!(manifest.files.len(), model.files.len());
        for (id, file) in &model.files {
            assert_eq!(reader.file(*id).unwrap().len, file.len);
            let extents = reader.extents(*id).unwrap();
            let last = extents.checked_sub(1);
            for extent in file.touched.iter().copied().chain(last).filter(|extent| *extent < extents) {
                let (restored, meant) = (reader.read_extent(*id, extent).unwrap(), file.extent(extent));
                assert_eq!(restored.len(), meant.len());
                let wrong = restored.iter().zip(&meant).position(|(a, b)| a != b);
                assert_eq!(wrong, None, "snapshot {no}, file {id}, extent {extent}");
            }
        }
    }

    /// Compares every snapshot, as read by a later process.
    fn check_all(&self) {
        let store = ChunkStore::open(self.store.objects().clone()).unwrap();
        let roots = load_all(store.objects(), &source_name()).unwrap();
        assert!(roots.damaged.is_empty());
        let taken: Vec<_> = self.taken.iter().map(|(manifest, _)| manifest.snapshot.clone()).collect();
        assert_eq!(roots.snapshots, taken);
        for (manifest, _) in &self.taken {
            assert_eq!(manifest.snapshot.manifest(&store).unwrap(), *manifest);
        }
        (0..taken.len()).for_each(|no| self.check(no, &store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    // FAILURES 5, 6, 45
    #[test]
    fn every_snapshot_of_a_history_restores(log in 9..=16u8, ops in prop::collection::vec(op(), 1..24)) {
        let mut history = History::new(log, 3 * EXTENT_BYTES + 77);
        history.apply(&Op::SetLen { file: 0, parts: 200, bytes: 0 });
        ops.iter().for_each(|op| history.apply(op));
        history.check_all();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Sparse files of several nodes, by increments only: reading them whole would take too long.
    #[test]
    fn files_of_many_nodes_restore(log in 12..=16u8, ops in prop::collection::vec(op(), 1..16)) {
        let mut history = History::new(log, 9 << 30);
        history.apply(&Op::Full);
        history.apply(&Op::SetLen { file: 0, parts: 255, bytes: 0 });
        let is_whole = |op: &Op| matches!(op, Op::Full | Op::Compared | Op::Reported { .. });
        ops.iter().filter(|op| !is_whole(op)).for_each(|op| history.apply(op));
        history.apply(&Op::Increment { shuffle: None });
        history.check_all();
    }
}

#[test]
fn a_file_in_place_of_another_of_its_number_has_nothing_of_it() {
    for log in [12, 13] {
        let mut history = History::new(12, 3 << 20);
        history.apply(&Op::SetLen { file: 0, parts: 200, bytes: 0 });
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 2 });
        history.apply(&Op::Full);
        history.apply(&Op::Replace { file: 0, log });
        history.apply(&Op::SetLen { file: 0, parts: 44, bytes: 0 });
        history.apply(&Op::Reported { files: 1 });
        history.check_all();
    }
}

#[test]
fn growth_of_a_file_with_known_changes_is_read() {
    for parts in [1, 80, 81, 160, 200] {
        let mut history = History::new(12, 3 << 20);
        history.apply(&Op::SetLen { file: 0, parts, bytes: 77 });
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 2 });
        history.apply(&Op::Full);
        history.apply(&Op::SetLen { file: 0, parts: 250, bytes: 5 });
        history.apply(&Op::Write { file: 0, at: 200, blocks: 1000, fill: 2 });
        history.apply(&Op::Scatter { file: 0, blocks: 30, seed: 9 });
        history.apply(&Op::Reported { files: 1 });
        history.check_all();
    }
}

#[test]
fn a_file_that_shrank_and_grew_has_zeros_in_between() {
    // FAILURES 45
    for len in [0, 1, 5000, 4096 * 300, 4096 * 300 + 1, 2 << 20] {
        let mut history = History::new(12, 3 << 20);
        history.apply(&Op::SetLen { file: 0, parts: 255, bytes: 0 });
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 2 });
        history.apply(&Op::Full);
        history.apply(&Op::Scatter { file: 0, blocks: 30, seed: 9 });
        history.apply(&Op::Increment { shuffle: None });
        history.model.file().set_len(len);
        history.model.file().set_len(3 << 20);
        history.apply(&Op::Increment { shuffle: None });
        let (manifest, _) = history.taken.last().unwrap();
        let bytes = restored(&history.store, manifest, FILE);
        assert!(bytes[len as usize..].iter().all(|byte| *byte == 0), "cut at {len}");
        // Cut in one snapshot, grown in the next.
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 3 });
        history.apply(&Op::Increment { shuffle: None });
        history.model.file().set_len(len);
        history.apply(&Op::Increment { shuffle: None });
        history.model.file().set_len(3 << 20);
        history.apply(&Op::Increment { shuffle: None });
        // The file gets its old content again. The comparison finds the change, although the cut
        // chunk still holds all of that content.
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 3 });
        history.apply(&Op::Full);
        history.model.file().set_len(len);
        history.apply(&Op::Increment { shuffle: None });
        history.model.file().set_len(3 << 20);
        history.apply(&Op::Write { file: 0, at: 0, blocks: 1000, fill: 3 });
        history.apply(&Op::Compared);
        history.check_all();
    }
}
