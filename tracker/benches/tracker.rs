//! Benchmarks of marks, passes, freezes and deltas.

#[allow(dead_code)]
mod work;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::Lsn;
use pitr_tracker::Tracker;
use std::time::{Duration, Instant};
use work::{Content, Flat, ROUND};

/// Time of `rounds` rounds with this many threads. With `fresh`, each round sets the bits for the
/// first time.
fn mark_with(tracker: &Tracker, threads: u64, fresh: bool, blocks: &[u64], rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        if fresh {
            work::begin_epoch(tracker);
        }
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| work::mark(tracker, blocks.iter().copied()));
            }
            work::mark(tracker, blocks.iter().copied());
        });
        spent += begin.elapsed();
    }
    spent
}

fn mark(c: &mut Criterion) {
    let tracker = work::full();
    let mut group = c.benchmark_group("65536 marks");
    group.throughput(Throughput::Elements(ROUND)).sample_size(20);
    for (order, blocks) in work::orders() {
        for (fresh, what) in [(false, "set before"), (true, "first")] {
            for threads in [1, 2] {
                let id = BenchmarkId::new(format!("{what}, {order}"), format!("threads {threads}"));
                group.bench_function(id, |b| {
                    b.iter_custom(|rounds| mark_with(&tracker, threads, fresh, &blocks, rounds))
                });
            }
        }
    }
    group.finish();
}

/// The bound: the same marks in one flat slice, which cannot grow.
fn mark_flat(c: &mut Criterion) {
    let flat = Flat::new();
    let mut group = c.benchmark_group("65536 marks, flat");
    group.throughput(Throughput::Elements(ROUND)).sample_size(20);
    for (order, blocks) in work::orders() {
        group
            .bench_function(format!("set before, {order}"), |b| b.iter(|| flat.mark(blocks.iter().copied())));
        group.bench_function(format!("first, {order}"), |b| {
            b.iter_batched(|| flat.clear(), |()| flat.mark(blocks.iter().copied()), BatchSize::PerIteration);
        });
        flat.mark(blocks.iter().copied());
    }
    group.finish();
}

/// A pass with one mark in one file: the cost for a small transaction.
fn pass(c: &mut Criterion) {
    let tracker = work::full();
    c.bench_function("pass", |b| b.iter(|| work::mark(&tracker, [77])));
}

/// Freezes an epoch in which all of 100 GB changed: 24.4 million bits.
fn freeze(c: &mut Criterion) {
    let mut group = c.benchmark_group("freeze");
    group.sample_size(20);
    group.bench_function("100 GB", |b| {
        let freeze = |tracker: &mut Tracker| tracker.freeze(|| Lsn::ORIGIN).expect("a freeze");
        b.iter_batched_ref(work::full, freeze, BatchSize::PerIteration);
    });
    group.finish();
}

/// The delta of a 256 MiB log in memory, with all checksums and frames.
fn extract(c: &mut Criterion) {
    let mut group = c.benchmark_group("extract");
    group.sample_size(10);
    let logs = [
        ("images of 4 KiB", Content::Images(4096)),
        ("images of 512 B", Content::Images(512)),
        ("data of 128 B", Content::Data(128)),
    ];
    for (what, content) in logs {
        let log = work::log(256 << 20, content);
        group.throughput(Throughput::Bytes(log.len() as u64));
        group.bench_function(what, |b| b.iter(|| work::extract(&log, true)));
        group.bench_function(format!("{what}, bound: read only"), |b| b.iter(|| work::extract(&log, false)));
    }
    group.finish();
}

criterion_group!(benches, mark, mark_flat, pass, freeze, extract);
criterion_main!(benches);
