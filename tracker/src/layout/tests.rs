use super::*;
use crate::set::tests::{acts, do_all};
use crate::{MEMORY_BYTES_MAX, PAGE_COST};
use proptest::prelude::*;

const LOG: LogIdentity = LogIdentity { timeline: TimelineId::new(2), log_id: [7; 16] };

fn changes(set: ChangeSet) -> Changes {
    Changes { range: LsnRange::new(Lsn::new(0x10), Lsn::new(0x123)).unwrap(), set }
}

/// A file with this body and a valid checksum.
fn with_body(files: u32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        log: LOG,
        range: changes(ChangeSet::new()).range,
        whole: false,
        files,
        body_len: body.len() as u32,
        body_crc: crc32fast::hash(body),
    };
    let mut bytes = header.encode();
    bytes.extend(body);
    bytes
}

fn entry(file: u32, size: u32, changed_from: u64, pages: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(file);
    out.put_u32(size);
    out.put_u64(changed_from);
    out.put_u32(pages);
    out
}

fn page(number: u64, places: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(number);
    out.put_u16(places.len() as u16);
    places.iter().for_each(|place| out.put_u16(*place));
    out
}

proptest! {
    #[test]
    fn changes_round_trip(acts in acts(), dense in 0u64..9_000, every in 1usize..40) {
        let mut set = ChangeSet::new();
        do_all(&mut set, &acts);
        (0..dense).step_by(every).for_each(|block| set.mark(FileId::new(9), BlockSize::DEFAULT, block));
        let changes = changes(set);
        let bytes = encode(LOG, &changes);
        let (log, read) = decode(&bytes).unwrap();
        prop_assert_eq!((log, read.range), (LOG, changes.range));
        prop_assert!(read.set.is_superset(&changes.set) && changes.set.is_superset(&read.set));
        prop_assert_eq!(decode(&encode(LOG, &read)), Ok((LOG, read)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, files in 0u32..4) {
        let _ = decode(&bytes);
        let _ = decode(&with_body(files, &bytes));
    }

    #[test]
    fn a_changed_byte_is_detected(acts in acts(), at: prop::sample::Index, flip in 1u8..) {
        // FAILURES 29
        let mut set = ChangeSet::new();
        do_all(&mut set, &acts);
        let mut bytes = encode(LOG, &changes(set));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(&bytes).is_err());
    }
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    // docs/format/tracker.md. A change here is a change of the format.
    let mut set = ChangeSet::new();
    set.mark(FileId::new(1), BlockSize::DEFAULT, 8192 + 3);
    set.mark(FileId::new(1), BlockSize::DEFAULT, 8192 + 700);
    set.set_length(FileId::new(5), 0x2000);
    let mut expected = b"PITRCHG1\x01\0\0\0\x02\0\0\0".to_vec();
    expected.extend([7; 16]);
    expected.extend(b"\x10\0\0\0\0\0\0\0\x23\x01\0\0\0\0\0\0");
    expected.extend(b"\x02\0\0\0\x36\0\0\0");
    let mut body = b"\x01\0\0\0\0\x10\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0".to_vec();
    body.extend(b"\x01\0\0\0\0\0\0\0\x02\0\x03\0\xbc\x02");
    body.extend(b"\x05\0\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(body.len(), 0x36);
    expected.extend(crc32fast::hash(&body).to_le_bytes());
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    expected.extend(body);
    assert_eq!(encode(LOG, &changes(set)), expected);
    assert_eq!(crc32fast::hash(&expected), GOLDEN_CRC, "the CRC-32 of the whole file");

    let whole = encode(LOG, &changes(ChangeSet::whole()));
    assert_eq!((whole.len(), &whole[10..12]), (HEADER_BYTES, &[1, 0][..]));
}

const GOLDEN_CRC: u32 = 2_654_931_884;

#[test]
fn a_dense_page_is_stored_as_bits_from_the_low_end() {
    let mut set = ChangeSet::new();
    let marked: Vec<u64> = (0..1024).map(|nth| nth * 8 + 3).collect();
    marked.iter().for_each(|block| set.mark(FileId::FIRST, BlockSize::DEFAULT, *block));
    let bytes = encode(LOG, &changes(set));
    let page = HEADER_BYTES + FILE_ENTRY_BYTES;
    assert_eq!(bytes.len(), page + 10 + PAGE_BYTES);
    assert_eq!(&bytes[page..page + 10], b"\0\0\0\0\0\0\0\0\0\x04");
    assert!(bytes[page + 10..].iter().all(|byte| *byte == 1 << 3));
}

#[test]
fn inconsistent_bodies_are_refused() {
    // FAILURES 31
    let good = |files: u32, parts: &[Vec<u8>]| decode(&with_body(files, &parts.concat()));
    assert!(good(1, &[entry(1, 4096, 9, 1), page(0, &[0, 5])]).is_ok());
    let refused = [
        good(1, &[entry(1, 4096, 9, 0), vec![0]]),
        good(2, &[entry(1, 4096, 9, 0)]),
        good(2, &[entry(1, 4096, 9, 0), entry(1, 4096, 9, 0)]),
        good(1, &[entry(1, 0, 9, 1), page(0, &[0])]),
        good(1, &[entry(1, 0, 9, 1)]),
        good(1, &[entry(1, (1 << 20) + 1, 9, 0)]),
        good(1, &[entry(1, 4096, 9, u32::MAX), page(0, &[0])]),
        good(1, &[entry(1, 4096, 9, 2), page(0, &[0]), page(0, &[0])]),
        good(1, &[entry(1, 4096, 9, 1), page(PAGES_END, &[0])]),
        good(1, &[entry(1, 4096, 9, 1), page(0, &[5, 5])]),
        good(1, &[entry(1, 4096, 9, 1), page(0, &[5, 3])]),
        good(1, &[entry(1, 4096, 9, 1), page(0, &[8192])]),
        good(1, &[entry(1, 4096, 9, 1), b"\0\0\0\0\0\0\0\0\0\x04".to_vec(), vec![1; 1023], vec![0]]),
        good(1, &[entry(1, 4096, 9, 1), page(0, &[])]),
        good(1, &[entry(1, 4096, 9, 1), b"\0\0\0\0\0\0\0\0\0\x04".to_vec(), vec![0; 1024]]),
    ];
    for (nth, case) in refused.iter().enumerate() {
        assert!(case.is_err(), "case {nth}");
    }
}

#[test]
fn many_small_pages_stay_within_the_memory_limit() {
    // FAILURES 31: a page of 12 bytes on disk takes 1 KiB in memory.
    let pages = 2 * MEMORY_BYTES_MAX / PAGE_COST;
    let mut body = entry(1, 4096, u64::MAX, pages as u32);
    (0..pages).for_each(|number| body.extend(page(number, &[1])));
    let (_, read) = decode(&with_body(1, &body)).unwrap();
    let file = &read.set.file_sets()[&FileId::new(1)];
    assert!((file.pages.len() as u64) < MEMORY_BYTES_MAX / PAGE_COST);
    assert!(
        file.contains(BlockSize::DEFAULT, pages * PAGE_BLOCKS - 1),
        "pages beyond the limit count as changed"
    );
    let files: Vec<u8> = (0..300_000).flat_map(|file| entry(file, 0, 9, 0)).collect();
    assert!(decode(&with_body(300_000, &files)).unwrap().1.set.is_whole());
}

#[test]
fn a_newer_version_is_refused_with_a_version_error() {
    // FAILURES 36
    let mut bytes = encode(LOG, &changes(ChangeSet::new()));
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    let found = decode(&bytes).unwrap_err();
    assert_eq!(found, DecodeError::Version { what: "header of changes", found: 2, known: 1 });
    bytes[8] = 1;
    bytes[10] = 2;
    let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    assert!(matches!(decode(&bytes), Err(DecodeError::Range { what: "flags of changes", .. })));
}

#[test]
fn the_largest_set_fits_into_a_file() {
    let mut set = ChangeSet::new();
    let pages = MEMORY_BYTES_MAX / PAGE_COST;
    set.mark(FileId::FIRST, BlockSize::DEFAULT, 0);
    let every_eighth = BitVec::from_bytes(&[0x80; PAGE_BYTES]);
    for page in 0..pages {
        let begin = page * PAGE_BLOCKS;
        set.union_page(FileId::FIRST, BlockSize::DEFAULT, page, begin, &every_eighth);
    }
    let changes = changes(set);
    assert_eq!(
        changes.set.changed_from(FileId::FIRST),
        Some((pages - 1) * PAGE_BLOCKS * 4096),
        "the set is at its memory limit"
    );
    let bytes = encode(LOG, &changes);
    assert!((50 << 20..FILE_BYTES_MAX).contains(&(bytes.len() as u64)), "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok((LOG, changes)));
}
