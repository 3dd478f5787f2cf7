//! A mark, a pass, a freeze, a delta.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::log::{Assembler, BATCH_HEADER_BYTES, Batch, BatchHeader, Frame, Part, Seed};
use pitr_format::record::Record;
use pitr_format::{FileId, Incarnation, Lsn, PartitionId, SegmentNo, TimelineId, Timestamp, TxId};
use pitr_tracker::{BlockSize, Extractor, LsnRange, Tracker};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const FILE: FileId = FileId::FIRST;
const SIZE: BlockSize = BlockSize::DEFAULT;
/// Blocks of 100 GB.
const BLOCKS: u64 = 100_000_000_000 / 4096;
/// Marks that are timed at once.
const ROUND: u64 = 1 << 16;

/// Blocks all over the file, in an order that looks random and comes out the same.
fn scattered() -> Vec<u64> {
    (0..ROUND).map(|nth| nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCKS).collect()
}

fn in_a_row() -> Vec<u64> {
    (1_000_000..1_000_000 + ROUND).collect()
}

/// A tracker whose 100 GB are all marked once.
fn full() -> Tracker {
    let tracker = Tracker::new(Lsn::ORIGIN);
    let pass = tracker.enter();
    let marks = pass.file(FILE, SIZE);
    (0..BLOCKS).for_each(|block| marks.mark(block));
    pass.done(Lsn::ORIGIN);
    tracker
}

/// Time per mark with this many threads; `fresh` says whether the bits are set for the first time.
fn mark_with(threads: u64, fresh: bool, blocks: &[u64], rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let tracker = full();
    for _ in 0..rounds {
        if fresh {
            tracker.freeze(|| Lsn::ORIGIN).expect("a freeze");
            // The pages are there, their bits are not: the first block of each is marked.
            let pass = tracker.enter();
            let marks = pass.file(FILE, SIZE);
            (0..BLOCKS).step_by(8192).for_each(|block| marks.mark(block));
            pass.done(Lsn::ORIGIN);
        }
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| mark_all(&tracker, blocks));
            }
            mark_all(&tracker, blocks);
        });
        spent += begin.elapsed();
    }
    spent
}

fn mark_all(tracker: &Tracker, blocks: &[u64]) {
    let pass = tracker.enter();
    let marks = pass.file(FILE, SIZE);
    blocks.iter().for_each(|block| marks.mark(black_box(*block)));
    pass.done(Lsn::ORIGIN);
}

fn mark(c: &mut Criterion) {
    let mut group = c.benchmark_group("65536 marks");
    group.throughput(Throughput::Elements(ROUND)).sample_size(20);
    for (order, blocks) in [("in a row", in_a_row()), ("scattered", scattered())] {
        for (fresh, what) in [(false, "set before"), (true, "first")] {
            for threads in [1, 2] {
                let id = BenchmarkId::new(format!("{what}, {order}"), format!("threads {threads}"));
                group.bench_function(id, |b| {
                    b.iter_custom(|rounds| mark_with(threads, fresh, &blocks, rounds))
                });
            }
        }
    }
    group.finish();
}

/// The bound: the same marks in one flat slice, which could not grow.
fn mark_flat(c: &mut Criterion) {
    let words: Vec<AtomicU64> = (0..BLOCKS.div_ceil(64)).map(|_| AtomicU64::new(u64::MAX)).collect();
    let mut group = c.benchmark_group("65536 marks, flat");
    group.throughput(Throughput::Elements(ROUND)).sample_size(20);
    for (order, blocks) in [("in a row", in_a_row()), ("scattered", scattered())] {
        group.bench_function(order, |b| {
            b.iter(|| {
                for block in &blocks {
                    let block = black_box(*block);
                    let (word, mask) = (&words[(block / 64) as usize], 1 << (block % 64));
                    if word.load(Relaxed) & mask == 0 {
                        word.fetch_or(mask, Relaxed);
                    }
                }
            });
        });
    }
    group.finish();
}

/// A pass with one mark in one file: what a small transaction pays.
fn pass(c: &mut Criterion) {
    let tracker = full();
    c.bench_function("pass", |b| {
        b.iter(|| {
            let pass = tracker.enter();
            pass.file(FILE, SIZE).mark(black_box(77));
            pass.done(Lsn::ORIGIN);
        });
    });
}

/// Freezes an epoch in which all of 100 GB changed: 24.4 million bits.
fn freeze(c: &mut Criterion) {
    let mut group = c.benchmark_group("freeze");
    group.sample_size(20);
    group.bench_function("100 GB", |b| {
        b.iter_batched_ref(
            full,
            |tracker| tracker.freeze(|| Lsn::ORIGIN).expect("a freeze"),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A log of this many bytes in memory: batches of about 1 MiB of these records.
fn log(bytes: usize, record: impl Fn(u64) -> Vec<u8>, kind: u8) -> Vec<u8> {
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let (mut out, mut last, mut nth) = (vec![0; 8], Lsn::ORIGIN, 0);
    while out.len() < bytes {
        let (mut body, mut frames) = (Vec::new(), 0);
        loop {
            let payload = record(nth);
            if body.len() + payload.len() + 24 > 1 << 20 {
                break;
            }
            let frame = Frame {
                lsn: Lsn::ORIGIN,
                kind,
                part: Part::Full,
                partition: PartitionId::FIRST,
                tx: TxId::new(1),
                total_len: payload.len() as u32,
                bytes: &payload,
            };
            frame.encode(&mut body);
            (nth, frames) = (nth + 1, frames + 1);
        }
        let lsn = Lsn::new(out.len() as u64);
        let header = BatchHeader {
            lsn,
            prev: last,
            durable: lsn,
            time: Timestamp::MIN,
            body_len: body.len() as u32,
            frames,
            body_crc: seed.crc(&body),
        };
        out.extend(header.encode(seed));
        out.append(&mut body);
        out.resize(out.len().next_multiple_of(8), 0);
        last = lsn;
    }
    out
}

/// Reads the log with every check that the format has, and extracts what changed.
fn extract_from(log: &[u8], extracting: bool) -> u64 {
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let whole = LsnRange::new(Lsn::ORIGIN, Lsn::MAX).expect("a range");
    let (mut extractor, mut assembler) = (Extractor::new(whole), Assembler::new());
    let mut at = 8;
    while at < log.len() {
        let batch = Batch::decode(&log[at..], seed).expect("a batch");
        for frame in batch.frames() {
            let record = assembler.push(&frame.expect("a frame")).expect("in order").expect("whole");
            if extracting {
                extractor.push(&record).expect("a record");
            }
        }
        at += batch.header.span() as usize;
    }
    let changes = extractor.finish(whole).expect("all of it");
    changes.set.blocks(FILE, SIZE, BLOCKS * 4096).count() as u64
}

fn image(block: u64, len: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    Record::Image { file: FILE, block, data: &vec![7; len] }.encode(&mut payload);
    payload
}

/// The delta of 256 MiB of log: read from memory, checksums and frames included.
fn extract(c: &mut Criterion) {
    let mut group = c.benchmark_group("extract");
    group.sample_size(10);
    let scatter = |nth: u64| nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCKS;
    let logs = [
        ("images of 4 KiB", log(256 << 20, |nth| image(scatter(nth), 4096), 1)),
        ("images of 512 B", log(256 << 20, |nth| image(scatter(nth), 512), 1)),
        ("data of 128 B", log(256 << 20, |_| vec![7; 128], 3)),
    ];
    for (what, log) in &logs {
        assert!(log.len() > BATCH_HEADER_BYTES);
        group.throughput(Throughput::Bytes(log.len() as u64));
        group.bench_function(*what, |b| b.iter(|| extract_from(log, true)));
        group.bench_function(format!("{what}, bound: read only"), |b| b.iter(|| extract_from(log, false)));
    }
    group.finish();
}

criterion_group!(benches, mark, mark_flat, pass, freeze, extract);
criterion_main!(benches);
