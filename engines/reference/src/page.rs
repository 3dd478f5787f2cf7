//! The pages of a table file: a header page, then pages of rows (`docs/format/reference.md`).
//!
//! Each page has a checksum, the number of its file and its own number, so a page that was written
//! to the wrong place is detected. A page of zeros has no rows: it was never written.

use crate::engine::MARK;
use crate::error::PageFault;
use crate::rows::Rows;
use pitr_format::FileId;
use std::sync::Arc;

/// Size of a page, bytes. It is the block size in the log and in snapshots.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Pages of a table, at most: 1 TiB.
pub(crate) const PAGES_MAX: u64 = 1 << 28;
/// The longest name of a table, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Checksum, file, page number.
pub(crate) const PREFIX_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"PITRTBL1";
const VERSION: u16 = 1;
/// Offset of a name in a header page.
const NAME_AT: usize = 34;

/// A sealed page. Clones share its bytes.
pub(crate) type Page = Arc<[u8]>;

/// Writes number and checksum into a page.
pub(crate) fn seal(mut page: Vec<u8>, file: FileId, number: u64) -> Page {
    seal_in(&mut page, file, number);
    page.into()
}

/// Writes number and checksum into a page, in place.
pub(crate) fn seal_in(page: &mut [u8], file: FileId, number: u64) {
    page[4..8].copy_from_slice(&file.get().to_le_bytes());
    page[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The file and number that a page states, not checked.
pub(crate) fn place(page: &[u8]) -> (FileId, u64) {
    let word = |from: usize, to: usize| {
        page[from..to].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    (FileId::new(word(4, 8) as u32), word(8, 16))
}

/// Checks a page that was read from a file.
pub(crate) fn check(page: &[u8], file: FileId, number: u64) -> Result<(), PageFault> {
    if page.len() != PAGE_BYTES {
        return Err(PageFault::Short);
    }
    if page.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if page.starts_with(MARK) {
        return Err(PageFault::Unfinished);
    }
    if page[..4] != crc32fast::hash(&page[4..]).to_le_bytes() {
        return Err(PageFault::Checksum);
    }
    match page[4..8] == file.get().to_le_bytes() && page[8..16] == number.to_le_bytes() {
        true => Ok(()),
        false => Err(PageFault::Elsewhere),
    }
}

/// The header page of a table.
pub(crate) fn header(name: &str, rows: Rows) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    page[16..24].copy_from_slice(MAGIC);
    page[24..26].copy_from_slice(&VERSION.to_le_bytes());
    page[26..28].copy_from_slice(&u16::from(rows.is_logical()).to_le_bytes());
    page[28..32].copy_from_slice(&(rows.bytes_max() as u32).to_le_bytes()); // at most ROW_BYTES_MAX
    page[32..34].copy_from_slice(&(name.len() as u16).to_le_bytes()); // at most NAME_BYTES_MAX
    page[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    page
}

/// Name and rows in a checked header page.
pub(crate) fn decode_header(page: &[u8]) -> Result<(String, Rows), PageFault> {
    if page[16..24] != MAGIC[..] || page[24..26] != VERSION.to_le_bytes() {
        return Err(PageFault::Header);
    }
    let is_logical = match u16::from_le_bytes([page[26], page[27]]) {
        0 => false,
        1 => true,
        _ => return Err(PageFault::Header),
    };
    let row_bytes = u32::from_le_bytes([page[28], page[29], page[30], page[31]]) as usize;
    let name_bytes = usize::from(u16::from_le_bytes([page[32], page[33]]));
    let rows = if is_logical { Rows::logical(row_bytes) } else { Rows::physical(row_bytes) };
    let rows = rows.ok_or(PageFault::Header)?;
    if !(1..=NAME_BYTES_MAX).contains(&name_bytes) {
        return Err(PageFault::Header);
    }
    let name = std::str::from_utf8(&page[NAME_AT..NAME_AT + name_bytes]).map_err(|_| PageFault::Header)?;
    Ok((name.to_owned(), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId::new(3);

    #[test]
    fn a_page_reads_back_and_any_flipped_bit_is_detected() {
        // law 8
        let (rows, mut page) = (Rows::physical(5).unwrap(), vec![0; PAGE_BYTES]);
        rows.set(&mut page, 9, Some(b"hello"));
        rows.set(&mut page, 10, Some(b"there"));
        rows.set(&mut page, 10, None);
        let page = seal(page, FILE, 2);
        assert_eq!((rows.get(&page, 9), rows.get(&page, 10)), (Some(&b"hello"[..]), None));
        check(&page, FILE, 2).unwrap();
        assert_eq!(check(&page, FILE, 3), Err(PageFault::Elsewhere));
        assert_eq!(check(&page[1..], FILE, 2), Err(PageFault::Short));
        for at in 0..PAGE_BYTES {
            let mut damaged = page.to_vec();
            damaged[at] ^= 1;
            assert_eq!(check(&damaged, FILE, 2), Err(PageFault::Checksum), "byte {at}");
        }
    }

    #[test]
    fn the_bytes_of_a_table_are_those_of_the_format_page() {
        let rows = Rows::physical(300).unwrap();
        let page = seal(header("ab", rows), FILE, 0);
        assert_eq!(&page[4..16], b"\x03\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&page[16..36], b"PITRTBL1\x01\0\0\0\x2c\x01\0\0\x02\0ab");
        assert_eq!(decode_header(&page), Ok(("ab".to_owned(), rows)));
        let rows = Rows::logical(300).unwrap();
        let page = seal(header("ab", rows), FILE, 0);
        assert_eq!(&page[16..36], b"PITRTBL1\x01\0\x01\0\x2c\x01\0\0\x02\0ab");
        assert_eq!(decode_header(&page), Ok(("ab".to_owned(), rows)));
    }
}
