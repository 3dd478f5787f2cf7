//! Verifying a repository of one snapshot, in MB of stored bytes per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::Codec;
use pitr_dedup::ChunkStore;
use pitr_format::Timestamp;
use pitr_objects::Objects;
use pitr_testkit::noise;
use pitr_verify::{Depth, Options, verify};
use std::num::NonZeroU32;

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
    let sample = Options { depth: Depth::Sample(NonZeroU32::MIN), ..Options::default() };
    for (name, options) in [("checksums", Options::default()), ("deep", Options::deep()), ("sample", sample)]
    {
        group.bench_function(name, |b| {
            b.iter(|| assert!(verify(&objects, options, &|_| {}).expect("it is there").is_sound()));
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
