//! Inserts valid checksums into fuzzed bytes.

use pitr_format::log::{BATCH_BODY_BYTES_MAX, BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES, Seed, SegmentHeader};

const SEGMENT_FIELDS: usize = 108;
const BATCH_ALIGN: usize = 8;
const BATCH_BODY_LEN: usize = 40;
const BATCH_BODY_CRC: usize = 48;

/// Writes `crc` into `bytes` at offset `at`.
pub(crate) fn put(bytes: &mut [u8], at: usize, crc: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Seals the header of a segment file, and each batch in it that has its magic number.
pub(crate) fn segment(bytes: &mut [u8]) {
    let Some(fields) = bytes.get(..SEGMENT_FIELDS) else { return };
    let crc = crc32fast::hash(fields);
    put(bytes, SEGMENT_FIELDS, crc);
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while at + BATCH_HEADER_BYTES <= bytes.len() {
        let is_batch = bytes[at..].starts_with(b"PBAT");
        at += if is_batch { batch(&mut bytes[at..], header.seed()) } else { BATCH_ALIGN };
    }
}

/// Seals the batch at the front of `bytes`. Returns the offset at which the next batch may start.
pub(crate) fn batch(bytes: &mut [u8], seed: Seed) -> usize {
    let len: [u8; 4] = bytes[BATCH_BODY_LEN..BATCH_BODY_LEN + 4].try_into().unwrap_or_default();
    let len = u32::from_le_bytes(len);
    let end = BATCH_HEADER_BYTES + len as usize;
    let body = bytes.get(BATCH_HEADER_BYTES..end).filter(|_| len <= BATCH_BODY_BYTES_MAX);
    let crc = body.map(|body| seed.crc(body));
    if let Some(crc) = crc {
        put(bytes, BATCH_BODY_CRC, crc);
    }
    let header = seed.crc(&bytes[8..BATCH_HEADER_BYTES]);
    put(bytes, 4, header);
    crc.map_or(BATCH_ALIGN, |_| end.next_multiple_of(BATCH_ALIGN))
}
