//! Snapshots as their users see them.

#![allow(clippy::unwrap_used)] // test helpers fail by panicking

mod cut;
mod damage;
mod history;
mod many;
mod model;
mod size;

use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::{Manifest, SnapshotMeta, SnapshotReader};

const FILE: FileId = FileId::new(0);

fn source_name() -> SourceName {
    SourceName::new("app").unwrap()
}

fn meta(at: u64) -> SnapshotMeta {
    SnapshotMeta {
        source: source_name(),
        engine: "model".into(),
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        redo_from: Lsn::new(at),
        consistent_at: Lsn::new(at),
        time: Timestamp::from_micros(at as i64),
        tx: TxId::new(at),
        codec: Codec::default(),
        created: Timestamp::from_micros(at as i64),
        attributes: None,
    }
}

fn memory() -> ChunkStore {
    ChunkStore::open(Objects::memory().unwrap()).unwrap()
}

fn restored(store: &ChunkStore, manifest: &Manifest, file: FileId) -> Vec<u8> {
    let reader = SnapshotReader::open(store.clone(), manifest.clone());
    let extents = reader.extents(file).unwrap();
    (0..extents).flat_map(|extent| reader.read_extent(file, extent).unwrap()).collect()
}

/// A generator of incompressible bytes.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// 32 of every 64 bytes are noise.
    fn half_compressible(&mut self, len: usize) -> Vec<u8> {
        let word = |at: usize, noise: &mut Noise| if at % 8 < 4 { noise.next() } else { (at / 512) as u64 };
        (0..len.div_ceil(8)).flat_map(|at| word(at, self).to_le_bytes()).take(len).collect()
    }
}
