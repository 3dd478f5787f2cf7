//! Encodes, checks and walks a batch of 128-byte records, about 1 MiB.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::log::{Batch, BatchHeader, Frame, Part, Seed};
use pitr_format::{Incarnation, Lsn, PartitionId, SegmentNo, TimelineId, Timestamp, TxId};
use std::hint::black_box;

const RECORDS: u32 = 6_800;

fn body() -> Vec<u8> {
    let payload = [7; 128];
    let frame = Frame {
        lsn: Lsn::ORIGIN,
        kind: 3,
        part: Part::Full,
        partition: PartitionId::FIRST,
        tx: TxId::FIRST,
        total_len: 128,
        bytes: &payload,
    };
    let mut body = Vec::new();
    (0..RECORDS).for_each(|_| frame.encode(&mut body));
    body
}

fn batch(body: &[u8], seed: Seed) -> Vec<u8> {
    let header = BatchHeader {
        lsn: Lsn::new(4096),
        prev: Lsn::ORIGIN,
        durable: Lsn::ORIGIN,
        time: Timestamp::MIN,
        body_len: body.len() as u32,
        frames: RECORDS,
        body_crc: seed.crc(body),
    };
    [&header.encode(seed), body].concat()
}

fn benches(c: &mut Criterion) {
    let seed = Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST);
    let body = body();
    let bytes = batch(&body, seed);
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS.into()));
    group.bench_function("encode", |b| b.iter(|| batch(black_box(&body), seed)));
    group.bench_function("check and walk", |b| {
        b.iter(|| Batch::decode(black_box(&bytes), seed).map(|batch| batch.frames().flatten().count()));
    });
    group.finish();
}

criterion_group!(log, benches);
criterion_main!(log);
