//! Snapshots of a folder of small files.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_directory::{BackupOptions, backup};
use pitr_format::{SourceName, Timestamp};
use pitr_objects::Objects;
use pitr_vfs::SystemClock;

const FILES: usize = 1000;

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("source");
    std::fs::create_dir(&folder).expect("a folder");
    for n in 0..FILES {
        std::fs::write(folder.join(n.to_string()), format!("file {n}").repeat(100)).expect("a file");
    }
    let clock = SystemClock::new();
    let name = SourceName::new("bench").expect("a name");
    let mut group = c.benchmark_group("directory");
    group.sample_size(10).throughput(Throughput::Elements(FILES as u64));
    group.bench_function("first", |b| {
        b.iter_with_setup(
            || {
                let objects = Objects::memory().expect("a store");
                objects.init_repository(Timestamp::MIN).expect("nothing is there");
                objects
            },
            |objects| backup(&objects, &clock, &name, &folder, BackupOptions::default()).expect("a snapshot"),
        );
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
