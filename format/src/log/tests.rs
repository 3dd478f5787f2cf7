use super::*;
use crate::FileId;
use crate::record::{Checkpoint, Commit, GapReason, Record};
use proptest::prelude::*;

fn header() -> SegmentHeader {
    SegmentHeader {
        timeline: TimelineId::new(3),
        segment: SegmentNo::new(9),
        incarnation: Incarnation::new(2),
        segment_size: SegmentSize::new(64 << 10).unwrap(),
        log_id: [7; 16],
        follows: Follows {
            end: Lsn::new(8 * (64 << 10) + 5000),
            segment: Some((SegmentNo::new(8), Incarnation::new(1))),
            last_batch: Lsn::new(8 * (64 << 10) + 4096),
            gap: true,
        },
        time: Timestamp::from_micros(77),
        checkpoint: Some(Lsn::new(8 * (64 << 10) + 4160)),
        recycled: true,
    }
}

fn index() -> SegmentIndex {
    let mut index = SegmentIndex::default();
    index.begin_batch(4096, header().segment_size);
    index.commit(TxId::new(5));
    index
}

fn batch(frames: &[Frame<'_>], seed: Seed, lsn: Lsn) -> Vec<u8> {
    let mut body = Vec::new();
    frames.iter().for_each(|f| f.encode(&mut body));
    let header = BatchHeader {
        lsn,
        prev: Lsn::ORIGIN,
        durable: Lsn::new(4),
        time: Timestamp::from_micros(5),
        body_len: body.len() as u32,
        frames: frames.len() as u32,
        body_crc: seed.crc(&body),
    };
    let mut bytes = header.encode(seed).to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

fn frame(part: Part, total_len: u32, bytes: &[u8]) -> Frame<'_> {
    Frame {
        lsn: Lsn::ORIGIN,
        kind: 3,
        part,
        partition: PartitionId::new(1),
        tx: TxId::new(2),
        total_len,
        bytes,
    }
}

#[test]
fn segment_headers_round_trip_and_detect_any_flipped_bit() {
    let index = index();
    let bytes = header().encode(&index);
    assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES as usize);
    assert_eq!(header().index_before(&bytes).unwrap(), index);
    assert_eq!(SegmentHeader::decode(&bytes).unwrap(), header());
    for bit in 0..SEGMENT_FIELDS_BYTES * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_version_is_refused_with_a_version_error() {
    let mut bytes = header().encode(&index());
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..SEGMENT_FIELDS_BYTES - 4]);
    bytes[SEGMENT_FIELDS_BYTES - 4..SEGMENT_FIELDS_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(SegmentHeader::decode(&bytes), Err(DecodeError::Version { found: 2, .. })));
}

#[test]
fn a_batch_of_another_incarnation_fails_its_checksum() {
    // FAILURES 12: a recycled segment that is full of old valid records.
    let at = |timeline, segment, incarnation| {
        Seed::new(TimelineId::new(timeline), SegmentNo::new(segment), Incarnation::new(incarnation))
    };
    let bytes = batch(&[frame(Part::Full, 3, b"abc")], at(1, 2, 3), Lsn::new(4096));
    assert!(Batch::decode(&bytes, at(1, 2, 3)).is_ok());
    for other in [at(2, 2, 3), at(1, 3, 3), at(1, 2, 4)] {
        assert!(Batch::decode(&bytes, other).is_err());
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_in_a_batch_is_detected(data: Vec<u8>, bit: prop::sample::Index) {
        let seed = header().seed();
        let mut bytes = batch(&[frame(Part::Full, data.len() as u32, &data)], seed, Lsn::new(4096));
        prop_assert!(Batch::decode(&bytes, seed).is_ok());
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Batch::decode(&bytes, seed).is_err());
    }

    #[test]
    fn fragments_assemble_to_the_record(data in prop::collection::vec(any::<u8>(), 3..2000), cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>())) {
        let mut at = [cuts.0.index(data.len()), cuts.1.index(data.len())];
        at.sort_unstable();
        let total = data.len() as u32;
        let parts = [(Part::First, &data[..at[0]]), (Part::Middle, &data[at[0]..at[1]]), (Part::Last, &data[at[1]..])];
        let mut assembler = Assembler::new();
        for (part, bytes) in &parts[..2] {
            prop_assert_eq!(assembler.push(&frame(*part, total, bytes)).unwrap(), None);
        }
        let last = frame(Part::Last, total, parts[2].1);
        prop_assert_eq!(assembler.push(&last).unwrap().unwrap().payload, &data[..]);
        prop_assert!(assembler.push(&last).is_err());
    }

    #[test]
    fn records_round_trip(a: u64, b: i64, c: i64, data in prop::collection::vec(any::<u8>(), 1..300)) {
        let (t, u) = (Timestamp::from_micros(b), Timestamp::from_micros(c));
        let records = [
            Record::Image { file: FileId::new(3), block: a >> 24, data: &data },
            Record::SetLength { file: FileId::new(1), len: a },
            Record::Data(&data),
            Record::Commit(Commit { time: t, earliest: u, first_lsn: Lsn::new(a), note: &data }),
            Record::Abort { first_lsn: Lsn::new(a) },
            Record::Watermark(t),
            Record::ClockStep { from: t, to: u },
            Record::Gap { reason: GapReason::StateLost, since: t, until: u },
            Record::Note(&data),
            Record::Checkpoint(Checkpoint { redo_from: Lsn::new(a), before: Lsn::new(a >> 3), state: &data }),
        ];
        for record in records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(record.kind() as u8, &bytes).unwrap(), record);
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic(kind: u8, payload: Vec<u8>) {
        let _ = Record::decode(kind, &payload);
        let _ = SegmentHeader::decode(&payload);
        let _ = Batch::decode(&payload, header().seed());
    }
}

#[test]
fn a_batch_that_counts_too_few_frames_fails_once() {
    // FAILURES 31. The fuzz target `segment` found this: the error repeated forever, so a caller
    // that looked for the last frame never finished.
    let seed = header().seed();
    let mut bytes =
        batch(&[frame(Part::Full, 3, b"one"), frame(Part::Full, 3, b"two")], seed, Lsn::new(4096));
    let mut counted = BatchHeader::decode(&bytes, seed).unwrap();
    counted.frames = 1;
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&counted.encode(seed));
    let frames: Vec<_> = Batch::decode(&bytes, seed).unwrap().frames().take(9).collect();
    assert!(matches!(frames[..], [Ok(_), Err(DecodeError::Trailing { left: 27, .. })]), "{frames:?}");
}

#[test]
fn a_batch_that_overflows_the_lsn_range_is_refused() {
    // FAILURES 17
    let seed = header().seed();
    let span = batch(&[frame(Part::Full, 5, b"12345")], seed, Lsn::ORIGIN).len().next_multiple_of(8) as u64;
    let at = |lsn| {
        let bytes = batch(&[frame(Part::Full, 5, b"12345")], seed, lsn);
        Batch::decode(&bytes, seed).map(|batch| batch.frames().count())
    };
    assert_eq!(at(Lsn::new(u64::MAX - span)), Ok(1));
    for left in [0, 1, span - 1] {
        let error = at(Lsn::new(u64::MAX - left)).unwrap_err();
        assert!(matches!(error, DecodeError::Range { what: "position of a batch", .. }), "{left}: {error}");
    }
}
