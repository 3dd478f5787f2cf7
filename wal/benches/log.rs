//! Commits and appends on files of the operating system.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::record::Record;
use pitr_format::{PartitionId, TxId};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::time::Instant;

const PAYLOAD: [u8; 128] = [7; 128];

fn log() -> (tempfile::TempDir, Wal) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let start = Start::first([1; 16]);
    let made = Wal::create(&Env::system(), &dir.path().join("log"), &start, &WalOptions::default());
    (dir, made.expect("a new log"))
}

fn transaction() -> BatchBuilder {
    let (partition, tx) = (PartitionId::FIRST, TxId::new(1));
    let mut batch = BatchBuilder::new();
    let pushed = batch.push(partition, tx, &Record::Data(&PAYLOAD));
    pushed.and_then(|()| batch.push_commit(partition, tx, None, None, b"")).expect("records of fair size");
    batch
}

/// Time for one commit of 128 bytes while this many threads commit: total time divided by commits.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit 128 B");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 8, 64] {
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|commits| {
                let (_dir, wal) = log();
                let begin = Instant::now();
                std::thread::scope(|scope| {
                    for thread in 0..threads {
                        let own = commits / threads + u64::from(thread < commits % threads);
                        let wal = wal.clone();
                        scope.spawn(move || {
                            (0..own).for_each(|_| drop(wal.commit(transaction()).expect("a disk")))
                        });
                    }
                });
                begin.elapsed()
            });
        });
    }
    group.finish();
}

/// One appended transaction; the log syncs when enough bytes wait.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Bytes(PAYLOAD.len() as u64));
    let (_dir, wal) = log();
    group.bench_function("128 B", |b| b.iter(|| wal.append(transaction()).expect("a disk")));
    group.finish();
}

criterion_group!(benches, commit, append);
criterion_main!(benches);
