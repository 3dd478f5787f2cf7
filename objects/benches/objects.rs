//! Putting and reading in a local folder, fsync included.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pitr_objects::Objects;
use std::sync::atomic::{AtomicU64, Ordering};

fn benches(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = Objects::create_local(folder.path()).expect("a repository");
    let next = AtomicU64::new(0);
    let mut group = c.benchmark_group("objects");
    group.sample_size(10);
    for (name, len) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("16 MiB", 16 << 20)] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("put {name}"), |b| {
            let path = || (format!("{:016x}", next.fetch_add(1, Ordering::Relaxed)), vec![7u8; len]);
            b.iter_batched(
                path,
                |(path, bytes)| objects.put_new(&path, bytes).expect("put"),
                BatchSize::PerIteration,
            );
        });
    }
    objects.put_new("read", vec![7u8; 16 << 20]).expect("put");
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("get a range of 1 MiB", |b| {
        b.iter(|| objects.get_range("read", 5 << 20..6 << 20).expect("read"));
    });
    for (name, path, len) in [("1 MiB", "read one", 1 << 20), ("16 MiB", "read", 16 << 20)] {
        if path != "read" {
            objects.put_new(path, vec![7u8; len]).expect("put");
        }
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("get {name}"), |b| b.iter(|| objects.get(path).expect("read")));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
