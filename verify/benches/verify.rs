//! Verifying a repository of one snapshot, in MB of stored bytes per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::Timestamp;
use pitr_objects::Objects;
use pitr_testkit::noise;
use pitr_verify::{Options, verify};

const CHUNKS: u64 = 256;

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let objects = Objects::create_local(dir.path().join("repo")).expect("a folder");
    objects.init_repository(Timestamp::MIN).expect("nothing is there");
    let writer = ChunkStore::open(objects.clone()).expect("an index").writer(Codec::None);
    for n in 0..CHUNKS {
        writer.put(&noise(n, 1 << 20)).expect("put");
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
