//! Batches, their frames, the records assembled from them, and segment headers.

use crate::input::Input;
use crate::seal;
use pitr_format::log::{
    Assembler, BATCH_HEADER_BYTES, Batch, BatchHeader, RECORD_BYTES_MAX, SEGMENT_HEADER_BYTES, Seed,
    SegmentHeader,
};
use pitr_format::{Incarnation, SegmentNo, TimelineId};

/// Splits the input into batches and walks their frames like a reader.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (how, seed) = (input.u8(), Seed::new(TimelineId::FIRST, SegmentNo::FIRST, Incarnation::FIRST));
    if how & 3 == 3 {
        return segment_header(input.rest(), how & 4 == 0);
    }
    let mut assembler = Assembler::new();
    for _ in 0..4 {
        let len = BATCH_HEADER_BYTES + usize::from(input.u16() % 2048);
        let mut bytes = input.take(len).to_vec();
        bytes.resize(len, 0);
        if how & 4 == 0 {
            bytes[..4].copy_from_slice(b"PBAT");
            bytes[40..44].copy_from_slice(&((len - BATCH_HEADER_BYTES) as u32).to_le_bytes());
            seal::batch(&mut bytes, seed);
        }
        if let Ok(header) = BatchHeader::decode(&bytes, seed) {
            // The checksum also covers bytes that the format reserves.
            assert_eq!(header.encode(seed)[8..52], bytes[8..52]);
            let _ = header.end();
        }
        if let Ok(batch) = Batch::decode(&bytes, seed) {
            walk(&batch, &mut assembler);
        }
    }
}

fn walk(batch: &Batch<'_>, assembler: &mut Assembler) {
    let Some(_) = batch.header.end() else { return };
    let (mut frames, mut before) = (0u64, batch.header.lsn);
    for frame in batch.frames() {
        frames += 1;
        assert!(frames <= u64::from(batch.header.frames) + 1, "more frames than the header counts");
        let Ok(frame) = frame else { continue };
        assert!(frame.lsn > before && frame.total_len <= RECORD_BYTES_MAX);
        before = frame.lsn;
        match assembler.push(&frame) {
            Ok(Some(record)) => {
                assert!(record.end == frame.end() && record.lsn <= frame.lsn || record.payload.is_empty())
            }
            Ok(None) => assert!(assembler.open_since().is_some()),
            Err(_) => assembler.forget(),
        }
    }
}

fn segment_header(bytes: &[u8], sealed: bool) {
    let mut bytes = bytes.to_vec();
    if sealed {
        bytes.resize(SEGMENT_HEADER_BYTES as usize, 0);
        bytes[..8].copy_from_slice(b"PITRSEG1");
        seal::segment(&mut bytes);
    }
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        assert!(header.first_batch().is_some_and(|first| header.follows.end <= first));
        // The index is not part of the header. A damaged index counts as none.
        let index = header.index_before(&bytes).unwrap_or_default();
        let again = header.encode(&index);
        assert_eq!((SegmentHeader::decode(&again), header.index_before(&again)), (Ok(header), Ok(index)));
    }
}
