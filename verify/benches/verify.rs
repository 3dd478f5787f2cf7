//! Verifying a repository of one snapshot, in MB of stored bytes per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::Timestamp;
use pitr_objects::Objects;
use pitr_verify::{Options, verify};

const CHUNKS: u64 = 256;

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..1 << 20).map(|_| byte()).collect()
}

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let objects = Objects::create_local(dir.path().join("repo")).expect("a folder");
    objects.init_repository(Timestamp::MIN).expect("nothing is there");
    let writer = ChunkStore::open(objects.clone()).expect("an index").writer(Codec::None);
    for n in 0..CHUNKS {
        writer.put(&noise(n)).expect("put");
    }
    let stored = writer.finish().expect("finish").stored;
    let mut group = c.benchmark_group("verify");
    group.sample_size(10).throughput(Throughput::Bytes(stored));
    for (name, deep) in [("checksums", false), ("deep", true)] {
        group.bench_function(name, |b| {
            b.iter(|| assert!(verify(&objects, Options { deep }, &|_| {}).expect("it is there").is_sound()));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
