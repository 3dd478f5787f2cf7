//! How the rows of a table are placed in its pages (`docs/format/reference.md`).

use crate::page::{PAGE_BYTES, PAGES_MAX, PREFIX_BYTES};
use pitr_format::Lsn;

/// The largest row of a table of fixed rows, bytes: one row and its bit fill a page.
pub const ROW_BYTES_MAX: usize = PAGE_BYTES - PREFIX_BYTES - 1;
/// The largest row of a logical table, bytes: one row and its length fill a page.
pub const LOGICAL_ROW_BYTES_MAX: usize = PAGE_BYTES - SLOTS_AT - LEN_BYTES;

/// Offset of the commit that a page of a logical table has, and of the replay in it.
const COMMIT_AT: usize = PREFIX_BYTES;
const REPLAYED_AT: usize = COMMIT_AT + 8;
/// Offset of the slots of a logical table.
const SLOTS_AT: usize = REPLAYED_AT + 8;
/// Size of a row's length, bytes.
const LEN_BYTES: usize = 2;

/// The rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Rows of this size. The log has images of their pages. A page has one bit for each row, then
    /// the rows.
    Physical(usize),
    /// Rows up to this size. The log has the rows themselves. A page states which changes it has,
    /// then each row with its length, in a slot of the largest size.
    Logical(usize),
}

impl Rows {
    pub(crate) fn physical(row_bytes: usize) -> Option<Self> {
        (1..=ROW_BYTES_MAX).contains(&row_bytes).then_some(Rows::Physical(row_bytes))
    }

    pub(crate) fn logical(bytes_max: usize) -> Option<Self> {
        (1..=LOGICAL_ROW_BYTES_MAX).contains(&bytes_max).then_some(Rows::Logical(bytes_max))
    }

    pub(crate) fn is_logical(self) -> bool {
        matches!(self, Rows::Logical(_))
    }

    /// Size of the largest row, bytes.
    pub(crate) fn bytes_max(self) -> usize {
        match self {
            Rows::Physical(bytes) | Rows::Logical(bytes) => bytes,
        }
    }

    /// True if a row may have this size.
    pub(crate) fn fits(self, row_bytes: usize) -> bool {
        match self {
            Rows::Physical(bytes) => row_bytes == bytes,
            Rows::Logical(bytes_max) => row_bytes <= bytes_max,
        }
    }

    pub(crate) fn per_page(self) -> usize {
        match self {
            Rows::Physical(bytes) => (PAGE_BYTES - PREFIX_BYTES) * 8 / (bytes * 8 + 1),
            Rows::Logical(bytes_max) => (PAGE_BYTES - SLOTS_AT) / (bytes_max + LEN_BYTES),
        }
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
        match self {
            Rows::Physical(bytes) => {
                let (byte, bit) = bit(slot);
                let at = self.at(slot);
                (page[byte] & bit != 0).then(|| &page[at..at + bytes])
            }
            Rows::Logical(bytes_max) => {
                let at = self.at(slot);
                // 0 if there is no row, else its length and 1.
                let stated = usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
                let len = stated.checked_sub(1)?.min(bytes_max);
                Some(&page[at + LEN_BYTES..at + LEN_BYTES + len])
            }
        }
    }

    /// Writes a row, which [fits](Self::fits), or deletes it.
    pub(crate) fn set(self, page: &mut [u8], slot: usize, row: Option<&[u8]>) {
        let at = self.at(slot);
        match self {
            Rows::Physical(bytes) => {
                let (byte, bit) = bit(slot);
                match row {
                    Some(row) => {
                        page[byte] |= bit;
                        page[at..at + bytes].copy_from_slice(row);
                    }
                    None => {
                        page[byte] &= !bit;
                        page[at..at + bytes].fill(0);
                    }
                }
            }
            Rows::Logical(bytes_max) => {
                let row_len = row.map_or(0, <[u8]>::len);
                let stated = row.map_or(0, |row| row.len() as u16 + 1); // at most a page
                page[at..at + LEN_BYTES].copy_from_slice(&stated.to_le_bytes());
                let (bytes, rest) = page[at + LEN_BYTES..at + LEN_BYTES + bytes_max].split_at_mut(row_len);
                bytes.copy_from_slice(row.unwrap_or_default());
                rest.fill(0);
            }
        }
    }

    /// Offset of a slot in its page.
    fn at(self, slot: usize) -> usize {
        match self {
            Rows::Physical(bytes) => PREFIX_BYTES + self.per_page().div_ceil(8) + slot * bytes,
            Rows::Logical(bytes_max) => SLOTS_AT + slot * (bytes_max + LEN_BYTES),
        }
    }
}

fn bit(slot: usize) -> (usize, u8) {
    (PREFIX_BYTES + slot / 8, 1 << (slot % 8))
}

/// The changes that a page of a logical table has.
///
/// A replay goes by the LSN of records, not of commits. During a replay, a page may have a record
/// whose commit is at LSN 40, and lack an earlier record of the replay whose commit is at LSN 30.
/// So one LSN is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Has {
    /// Everything that committed at or below it.
    pub(crate) commit: Lsn,
    /// Of transactions that committed later: the records below it. They were replayed.
    pub(crate) replayed: Lsn,
}

impl Has {
    /// Everything that committed at or below an LSN, and nothing else.
    pub(crate) fn up_to(commit: Lsn) -> Self {
        Has { commit, replayed: Lsn::ORIGIN }
    }

    pub(crate) fn of(page: &[u8]) -> Self {
        let lsn = |at: usize| {
            Lsn::new(page[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        Has { commit: lsn(COMMIT_AT), replayed: lsn(REPLAYED_AT) }
    }

    pub(crate) fn put(self, page: &mut [u8]) {
        page[COMMIT_AT..REPLAYED_AT].copy_from_slice(&self.commit.get().to_le_bytes());
        page[REPLAYED_AT..SLOTS_AT].copy_from_slice(&self.replayed.get().to_le_bytes());
    }

    /// True if the page has a record.
    pub(crate) fn has(self, lsn: Lsn, commit: Lsn) -> bool {
        commit <= self.commit || lsn < self.replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_size_fit_their_page() {
        let physical = (1..=ROW_BYTES_MAX).map(|bytes| Rows::physical(bytes).unwrap());
        let logical = (1..=LOGICAL_ROW_BYTES_MAX).map(|bytes| Rows::logical(bytes).unwrap());
        for rows in physical.chain(logical) {
            let last = rows.per_page() - 1;
            let row = vec![7; rows.bytes_max()];
            let mut page = vec![0; PAGE_BYTES];
            rows.set(&mut page, last, Some(&row));
            assert_eq!(rows.get(&page, last), Some(&row[..]), "{rows:?}");
            assert_eq!(rows.place(rows.number(7, last)), Some((7, last)));
        }
        assert_eq!((Rows::physical(0), Rows::physical(ROW_BYTES_MAX + 1)), (None, None));
        assert_eq!((Rows::logical(0), Rows::logical(LOGICAL_ROW_BYTES_MAX + 1)), (None, None));
    }

    #[test]
    fn the_bytes_of_rows_are_those_of_the_format_page() {
        let (rows, mut page) = (Rows::Physical(1000), vec![0; PAGE_BYTES]);
        rows.set(&mut page, 1, Some(&[7; 1000]));
        assert_eq!((rows.per_page(), page[16], &page[1016..1018]), (4, 2, &[0, 7][..]));

        let (rows, mut page) = (Rows::Logical(1000), vec![0; PAGE_BYTES]);
        Has { commit: Lsn::new(5), replayed: Lsn::new(6) }.put(&mut page);
        rows.set(&mut page, 1, Some(b"long row"));
        rows.set(&mut page, 1, Some(b"row"));
        assert_eq!((rows.per_page(), page[16], page[24]), (4, 5, 6));
        assert_eq!(&page[1034..1045], b"\x04\0row\0\0\0\0\0\0");
        rows.set(&mut page, 2, Some(b""));
        assert_eq!([0, 1, 2].map(|slot| rows.get(&page, slot)), [None, Some(&b"row"[..]), Some(&b""[..])]);
        rows.set(&mut page, 1, None);
        assert_eq!((rows.get(&page, 1), page[1036]), (None, 0));
    }

    #[test]
    fn a_page_has_a_record_by_its_commit_or_by_its_replay() {
        let has = Has { commit: Lsn::new(30), replayed: Lsn::new(20) };
        assert!(has.has(Lsn::new(25), Lsn::new(30)), "its commit is in the page");
        assert!(has.has(Lsn::new(10), Lsn::new(40)), "it was replayed");
        assert!(!has.has(Lsn::new(20), Lsn::new(40)));
    }
}
