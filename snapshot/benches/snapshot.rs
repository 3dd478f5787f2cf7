//! Takes and restores snapshots of one file, in memory and in a local folder.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::{Epoch, FileId, Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_snapshot::*;
use std::collections::BTreeMap;

const FILE: FileId = FileId::new(0);
const LEN: usize = 256 << 20;
const BLOCK: usize = 4096;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// 32 of every 64 bytes are noise.
    fn half_compressible(&mut self, len: usize) -> Vec<u8> {
        let word = |at: usize, noise: &mut Noise| if at % 8 < 4 { noise.next() } else { (at / 512) as u64 };
        (0..len.div_ceil(8)).flat_map(|at| word(at, self).to_le_bytes()).take(len).collect()
    }
}

fn shape() -> FileShape {
    FileShape { file: FILE, name: "bench".into(), len: LEN as u64, block_bytes: BLOCK as u32 }
}

struct Memory(Vec<u8>);

impl BlockSource for Memory {
    fn files(&self) -> Vec<FileShape> {
        vec![shape()]
    }

    fn read_at(&self, _file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let start = offset as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
}

/// Changes of 5% of the blocks.
struct Changes(BTreeMap<u64, Vec<u8>>);

impl Changes {
    fn new() -> Self {
        let mut noise = Noise(77);
        let blocks = (LEN / BLOCK) as u64;
        let mut images = BTreeMap::new();
        while (images.len() as u64) < blocks / 20 {
            let image = noise.half_compressible(BLOCK);
            images.insert(noise.next() % blocks, image);
        }
        Changes(images)
    }
}

impl Delta for Changes {
    fn files(&self) -> Vec<FileShape> {
        vec![shape()]
    }

    fn zeroed_from(&self, _file: FileId) -> u64 {
        LEN as u64
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        self.0.iter().try_for_each(|(block, image)| sink(FILE, *block, image))
    }
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        source: SourceName::new("bench").expect("a name"),
        engine: "bench".into(),
        timeline: TimelineId::FIRST,
        epoch: Epoch::FIRST,
        redo_from: Lsn::new(1),
        consistent_at: Lsn::new(1),
        time: Timestamp::from_micros(1),
        tx: TxId::new(1),
        codec: Codec::default(),
        created: Timestamp::from_micros(1),
        attributes: None,
    }
}

fn memory() -> ChunkStore {
    ChunkStore::open(Objects::memory().expect("objects")).expect("a store")
}

fn benches(c: &mut Criterion) {
    let source = Memory(Noise(1).half_compressible(LEN));
    let mut group = c.benchmark_group("snapshot of 256 MiB");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(LEN as u64));
    let full = |store: &ChunkStore, parent: Option<&Manifest>| {
        write_full(store, &source, meta(), parent).expect("full")
    };
    group.bench_function("full, memory", |b| {
        b.iter_batched(memory, |store| full(&store, None), BatchSize::PerIteration);
    });
    group.bench_function("full, local folder with fsync", |b| {
        let local = || {
            let folder = tempfile::tempdir().expect("a folder");
            let objects = Objects::create_local(folder.path()).expect("objects");
            (folder, ChunkStore::open(objects).expect("a store"))
        };
        b.iter_batched(local, |(_folder, store)| full(&store, None), BatchSize::PerIteration);
    });
    let store = memory();
    let base = full(&store, None);
    group.bench_function("compared, nothing changed", |b| b.iter(|| full(&store, Some(&base))));
    let mut changes = Changes::new();
    group.bench_function("increment of 5%", |b| {
        let fresh = || {
            let store = memory();
            let base = full(&store, None);
            (store, base)
        };
        b.iter_batched(
            fresh,
            |(store, base)| write_increment(&store, &base, &mut changes, meta()).expect("increment"),
            BatchSize::PerIteration,
        );
    });
    let next = write_increment(&store, &base, &mut changes, meta()).expect("increment");
    group.bench_function("read back with 5% overlaid", |b| {
        let reader = SnapshotReader::open(store.clone(), next.clone());
        let extents = reader.extents(FILE).expect("a file");
        b.iter(|| {
            (0..extents).map(|extent| reader.read_extent(FILE, extent).expect("read").len()).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
