//! Encodes, verifies and decodes one extent.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_codec::{Access, Codec, ObjectBuilder, ObjectIndex, ObjectKind, decode_frame_into, encode_frame};
use pitr_format::OwnerToken;
use std::hint::black_box;

/// 32 of every 64 bytes are noise.
fn half_compressible(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|i| if i % 64 < 32 { noise() } else { (i / 4096) as u8 }).collect()
}

fn benches(c: &mut Criterion) {
    let raw = half_compressible(1 << 20);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    let zstd = Codec::default();
    group.bench_function("encode zstd 1 MiB", |b| {
        b.iter(|| encode_frame(zstd, black_box(&raw)).expect("fits"))
    });
    group.bench_function("encode none 1 MiB", |b| {
        b.iter(|| encode_frame(Codec::None, black_box(&raw)).expect("fits"))
    });
    let frame = encode_frame(zstd, &raw).expect("fits");
    group.bench_function("verify zstd 1 MiB", |b| b.iter(|| frame.verify(black_box(&raw)).expect("sound")));
    group.bench_function("decode zstd 1 MiB", |b| {
        let mut out = Vec::new();
        b.iter(|| decode_frame_into(&mut out, black_box(frame.bytes()), 1 << 20, None).expect("sound"))
    });
    let mut builder = ObjectBuilder::new(ObjectKind::Pack, OwnerToken([1; 16]), zstd);
    (0..16).for_each(|_| {
        builder.push(&frame).expect("fits");
    });
    let whole = builder.finish(&[0; 512]).expect("fits");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    group.bench_function("check a pack of 16 frames", |b| {
        b.iter(|| {
            let index = ObjectIndex::from_whole(black_box(&whole), ObjectKind::Pack, Access::default())
                .expect("sound");
            index.check_frames(&whole).expect("sound");
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
