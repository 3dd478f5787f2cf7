//! The rules as a pass calls them: once for each record.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::{Incarnation, Lsn, TxId};
use pitr_redo::{BlockImage, CommitSpan, Cuts, OpenTransactions, Winners};
use std::hint::black_box;

const RECORDS: u64 = 10_000;
const RECORDS_OF_TX: u64 = 10;
const BLOCK_BYTES: u32 = 4096;

fn coverage(c: &mut Criterion) {
    let span = |tx: u64| {
        let first = Lsn::new(tx * RECORDS_OF_TX);
        CommitSpan { tx: TxId::new(tx), first, commit: Lsn::new((tx + 1) * RECORDS_OF_TX) }
    };
    let winners: Winners = (0..RECORDS / RECORDS_OF_TX).map(span).collect();
    let mut group = c.benchmark_group("redo");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("covered by a commit", |b| {
        let counts = |lsn: &u64| winners.counts(TxId::new(lsn / RECORDS_OF_TX), Lsn::new(*lsn));
        b.iter(|| (0..RECORDS).filter(counts).count());
    });
    group.bench_function("open transactions", |b| {
        b.iter(|| {
            let mut open = OpenTransactions::default();
            for lsn in 0..RECORDS {
                let tx = TxId::new(1 + lsn / RECORDS_OF_TX);
                open.enter(Incarnation::FIRST);
                match lsn % RECORDS_OF_TX {
                    9 => drop(open.end(tx)),
                    _ => *open.record(tx, Lsn::new(lsn), || 0u64) += 1,
                }
            }
            black_box(open)
        });
    });
    group.finish();
}

/// A file that grows by a block with each record and is cut from time to time.
fn cuts(c: &mut Criterion) {
    let mut group = c.benchmark_group("redo");
    group.throughput(Throughput::Elements(RECORDS));
    let len = |nth: u64| (nth % 1000 + 1) * u64::from(BLOCK_BYTES);
    group.bench_function("set a length", |b| {
        b.iter(|| {
            let mut cuts = Cuts::new();
            (0..RECORDS).for_each(|nth| cuts.set_length(Lsn::new(nth), len(nth)));
            black_box(cuts)
        });
    });
    let mut cuts = Cuts::new();
    (0..RECORDS).for_each(|nth| cuts.set_length(Lsn::new(nth), len(nth)));
    group.bench_function("clip an image", |b| {
        let kept = |nth: u64| {
            let image = BlockImage { block: nth % 1000, block_bytes: BLOCK_BYTES };
            u64::from(image.kept(cuts.shortest_after(Lsn::new(nth))))
        };
        b.iter(|| (0..RECORDS).map(kept).sum::<u64>());
    });
    group.finish();
}

criterion_group!(benches, coverage, cuts);
criterion_main!(benches);
