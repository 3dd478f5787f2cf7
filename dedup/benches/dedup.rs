//! Naming, storing and reading chunks of 1 MiB.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::{ChunkId, ChunkStore};
use pitr_objects::Objects;
use sha2::{Digest, Sha256};

const CHUNKS: usize = 128;

/// Half of each 64 bytes is noise.
fn half_compressible(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|i| if i % 64 < 32 { noise() } else { (i / 4096) as u8 }).collect()
}

fn benches(c: &mut Criterion) {
    let chunks: Vec<_> = (0..CHUNKS as u64).map(|n| half_compressible(n, 1 << 20)).collect();
    let fill = |store: &ChunkStore| {
        let writer = store.writer(Codec::default());
        let ids = writer.put_many(&chunks).expect("put");
        writer.finish().expect("finish");
        ids
    };
    let open = || ChunkStore::open(Objects::memory().expect("objects")).expect("store");
    let mut group = c.benchmark_group("dedup");
    group.sample_size(10);
    group.throughput(Throughput::Bytes((CHUNKS << 20) as u64));
    group.bench_function("store 128 new chunks", |b| {
        b.iter_batched(open, |store| fill(&store), BatchSize::PerIteration)
    });
    let store = open();
    let ids = fill(&store);
    group.bench_function("store 128 known chunks", |b| b.iter(|| fill(&store)));
    group.bench_function("read 128 chunks in a batch", |b| {
        b.iter(|| store.read_each(&ids, |_, _| Ok::<_, pitr_dedup::Error>(())).expect("read"));
    });
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("name a chunk", |b| b.iter(|| ChunkId::of(&chunks[0])));
    group.bench_function("hash a chunk whole, as sha2 does", |b| b.iter(|| Sha256::digest(&chunks[0])));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
