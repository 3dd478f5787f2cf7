//! The pages of a table file: a header page, then pages of rows (`docs/format/reference.md`).
//!
//! Each page has a checksum, the number of its file and its own number, so a page that was written
//! to the wrong place is detected. A page of zeros has no rows: it was never written.

use crate::engine::MARK;
use crate::error::PageFault;
use pitr_format::FileId;
use std::sync::Arc;

/// Size of a page, bytes. It is the block size in the log and in snapshots.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Pages of a table, at most: 1 TiB.
pub(crate) const PAGES_MAX: u64 = 1 << 28;
/// The largest row, bytes: one row and its bit fill a page.
pub const ROW_BYTES_MAX: usize = BODY_BYTES - 1;
/// The longest name of a table, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Checksum, file, page number.
const PREFIX_BYTES: usize = 16;
const BODY_BYTES: usize = PAGE_BYTES - PREFIX_BYTES;
const MAGIC: &[u8; 8] = b"PITRTBL1";
const VERSION: u16 = 1;
/// Offset of a name in a header page.
const NAME_AT: usize = 34;

/// A sealed page. Clones share its bytes.
pub(crate) type Page = Arc<[u8]>;

/// Writes number and checksum into a page.
pub(crate) fn seal(mut page: Vec<u8>, file: FileId, number: u64) -> Page {
    page[4..8].copy_from_slice(&file.get().to_le_bytes());
    page[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    page.into()
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
pub(crate) fn header(name: &str, row_bytes: usize) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    page[16..24].copy_from_slice(MAGIC);
    page[24..26].copy_from_slice(&VERSION.to_le_bytes());
    page[28..32].copy_from_slice(&(row_bytes as u32).to_le_bytes()); // at most ROW_BYTES_MAX
    page[32..34].copy_from_slice(&(name.len() as u16).to_le_bytes()); // at most NAME_BYTES_MAX
    page[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    page
}

/// Name and size of rows in a checked header page.
pub(crate) fn decode_header(page: &[u8]) -> Result<(String, Rows), PageFault> {
    if page[16..24] != MAGIC[..] || page[24..26] != VERSION.to_le_bytes() || page[26..28] != [0; 2] {
        return Err(PageFault::Header);
    }
    let row_bytes = u32::from_le_bytes([page[28], page[29], page[30], page[31]]) as usize;
    let name_bytes = usize::from(u16::from_le_bytes([page[32], page[33]]));
    if !(1..=ROW_BYTES_MAX).contains(&row_bytes) || !(1..=NAME_BYTES_MAX).contains(&name_bytes) {
        return Err(PageFault::Header);
    }
    let name = std::str::from_utf8(&page[NAME_AT..NAME_AT + name_bytes]).map_err(|_| PageFault::Header)?;
    Ok((name.to_owned(), Rows { row_bytes }))
}

/// How the rows of a table are placed in its pages. A page has one bit for each row, then the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) row_bytes: usize,
}

impl Rows {
    pub(crate) fn per_page(self) -> usize {
        BODY_BYTES * 8 / (self.row_bytes * 8 + 1)
    }

    /// The page of a row, and the slot of the row in it. `None` past the largest table.
    pub(crate) fn place(self, row: u64) -> Option<(u64, usize)> {
        let per_page = self.per_page() as u64;
        let page = 1 + row / per_page;
        (page < PAGES_MAX).then_some((page, (row % per_page) as usize)) // below `per_page`
    }

    /// The number of the row in this slot of a page.
    pub(crate) fn number(self, page: u64, slot: usize) -> u64 {
        (page - 1) * self.per_page() as u64 + slot as u64
    }

    pub(crate) fn get(self, page: &[u8], slot: usize) -> Option<&[u8]> {
        let (byte, bit) = Self::bit(slot);
        (page[byte] & bit != 0).then(|| &page[self.range(slot)])
    }

    /// Writes a row, or deletes it.
    pub(crate) fn set(self, page: &mut [u8], slot: usize, row: Option<&[u8]>) {
        let (byte, bit) = Self::bit(slot);
        match row {
            Some(row) => {
                page[byte] |= bit;
                page[self.range(slot)].copy_from_slice(row);
            }
            None => {
                page[byte] &= !bit;
                page[self.range(slot)].fill(0);
            }
        }
    }

    fn bit(slot: usize) -> (usize, u8) {
        (PREFIX_BYTES + slot / 8, 1 << (slot % 8))
    }

    fn range(self, slot: usize) -> std::ops::Range<usize> {
        let begin = PREFIX_BYTES + self.per_page().div_ceil(8) + slot * self.row_bytes;
        begin..begin + self.row_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId::new(3);

    #[test]
    fn rows_of_any_size_fit_their_page() {
        for row_bytes in 1..=ROW_BYTES_MAX {
            let rows = Rows { row_bytes };
            let last = rows.per_page() - 1;
            assert!(rows.range(last).end <= PAGE_BYTES, "rows of {row_bytes} bytes");
            assert_eq!(rows.place(rows.number(7, last)), Some((7, last)));
        }
    }

    #[test]
    fn a_page_reads_back_and_any_flipped_bit_is_detected() {
        // law 8
        let (rows, mut page) = (Rows { row_bytes: 5 }, vec![0; PAGE_BYTES]);
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
        let page = seal(header("ab", 300), FILE, 0);
        assert_eq!(&page[4..16], b"\x03\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&page[16..36], b"PITRTBL1\x01\0\0\0\x2c\x01\0\0\x02\0ab");
        assert_eq!(
            decode_header(&page).map(|(name, rows)| (name, rows.row_bytes)),
            Ok(("ab".to_owned(), 300))
        );
        let (rows, mut page) = (Rows { row_bytes: 1000 }, vec![0; PAGE_BYTES]);
        rows.set(&mut page, 1, Some(&[7; 1000]));
        assert_eq!((rows.per_page(), page[16], &page[1016..1018]), (4, 2, &[0, 7][..]));
    }
}
