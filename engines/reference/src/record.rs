//! The logical record of a row (`docs/format/reference.md`).
//!
//! It states the size of the table's rows, so that its page and slot are known without the table:
//! during a restore, the header of a table is not in its file yet.

use crate::rows::Rows;

/// Row number, largest size of a row, kind.
const HEAD_BYTES: usize = 11;
const DELETE: u8 = 0;
const PUT: u8 = 1;

/// The change of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRecord<'a> {
    pub(crate) rows: Rows,
    pub(crate) page: u64,
    pub(crate) slot: usize,
    /// The new row; `None` if it is deleted.
    pub(crate) bytes: Option<&'a [u8]>,
}

/// The record of a row of a logical table, which fits and can be placed.
pub(crate) fn encode(rows: Rows, row: u64, bytes: Option<&[u8]>) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES + bytes.map_or(0, <[u8]>::len));
    record.extend_from_slice(&row.to_le_bytes());
    record.extend_from_slice(&(rows.bytes_max() as u16).to_le_bytes()); // less than a page
    record.push(if bytes.is_some() { PUT } else { DELETE });
    record.extend_from_slice(bytes.unwrap_or_default());
    record
}

/// `None` if it is not a record of a row.
#[inline]
pub(crate) fn decode(record: &[u8]) -> Option<RowRecord<'_>> {
    let (head, bytes) = record.split_first_chunk::<HEAD_BYTES>()?;
    let (row, rest) = head.split_first_chunk::<8>()?;
    let rows = Rows::logical(usize::from(u16::from_le_bytes([rest[0], rest[1]])))?;
    let (page, slot) = rows.place(u64::from_le_bytes(*row))?;
    match rest[2] {
        PUT if rows.fits(bytes.len()) => Some(RowRecord { rows, page, slot, bytes: Some(bytes) }),
        DELETE if bytes.is_empty() => Some(RowRecord { rows, page, slot, bytes: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_has_the_bytes_of_the_format_page() {
        let rows = Rows::Logical(300);
        let put = encode(rows, 27, Some(b"row"));
        assert_eq!(put, b"\x1b\0\0\0\0\0\0\0\x2c\x01\x01row");
        let (page, slot) = rows.place(27).unwrap();
        assert_eq!(decode(&put), Some(RowRecord { rows, page, slot, bytes: Some(b"row") }));
        let delete = encode(rows, 27, None);
        assert_eq!(decode(&delete), Some(RowRecord { rows, page, slot, bytes: None }));
        assert_eq!(decode(&put[..10]), None);
        assert_eq!(decode(&[&delete[..], b"x"].concat()), None, "a delete has no bytes");
        assert_eq!(decode(&encode(Rows::Logical(2), 1, Some(b"row"))), None, "the row does not fit");
        assert_eq!(decode(&encode(rows, u64::MAX, None)), None, "no table has this row");
        assert_eq!(decode(&encode(Rows::Logical(5000), 1, None)), None, "no page has this row");
    }
}
