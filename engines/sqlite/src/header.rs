//! The first hundred bytes of a SQLite database file.
//!
//! Source: "Database File Format", section 1.3, of SQLite's documentation.

use pitr_format::DecodeError;
use pitr_format::bytes::Reader;

/// Size of the header, bytes.
pub(crate) const HEADER_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Fields that pitr needs before it opens a connection to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Size of a page, bytes.
    pub page_bytes: u32,
    /// True if the database is in WAL mode (both format versions are 2).
    pub wal_mode: bool,
    /// Pages of the database according to the header. `None` if an old library did not update the
    /// field.
    pub pages: Option<u32>,
    /// Version of the library that wrote the database last, as in `3054001`.
    pub sqlite_version: u32,
}

impl DatabaseHeader {
    /// Decodes the header. `None` for an empty file, which is a database without content.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        const WHAT: &str = "SQLite header";
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut r = Reader::new(bytes);
        let magic: [u8; 16] = r.array(WHAT)?;
        if &magic != MAGIC {
            return Err(DecodeError::Magic {
                what: WHAT,
                found: u64::from_le_bytes(magic[..8].try_into().unwrap_or_default()),
            });
        }
        let page_bytes = page_size(u16::from_be_bytes(r.array(WHAT)?))?;
        let (write_version, read_version) = (r.u8(WHAT)?, r.u8(WHAT)?);
        let be_u32 = |offset: usize| -> Result<u32, DecodeError> {
            let mut at = Reader::new(bytes);
            at.take(offset, WHAT)?;
            Ok(u32::from_be_bytes(at.array(WHAT)?))
        };
        let change_counter = be_u32(24)?;
        let pages = be_u32(28)?;
        let valid_for = be_u32(92)?;
        Ok(Some(DatabaseHeader {
            page_bytes,
            wal_mode: write_version == 2 && read_version == 2,
            pages: (change_counter == valid_for && pages > 0).then_some(pages),
            sqlite_version: be_u32(96)?,
        }))
    }
}

fn page_size(raw: u16) -> Result<u32, DecodeError> {
    match u32::from(raw) {
        1 => Ok(65_536),
        n if n.is_power_of_two() && n >= 512 => Ok(n),
        n => Err(DecodeError::Range { what: "SQLite page size", value: n.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_written_by_sqlite_is_decoded() {
        let dir = tempfile::tempdir().unwrap();
        for page_bytes in [512u32, 4096, 65_536] {
            let path = dir.path().join(format!("{page_bytes}.db"));
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch(&format!("PRAGMA page_size={page_bytes}; CREATE TABLE t(x);")).unwrap();
            let rollback = DatabaseHeader::decode(&std::fs::read(&path).unwrap()).unwrap().unwrap();
            assert_eq!(
                (rollback.page_bytes, rollback.wal_mode, rollback.pages),
                (page_bytes, false, Some(2))
            );
            db.execute_batch("PRAGMA journal_mode=WAL; INSERT INTO t VALUES(1); PRAGMA wal_checkpoint;")
                .unwrap();
            let wal = DatabaseHeader::decode(&std::fs::read(&path).unwrap()).unwrap().unwrap();
            assert!(wal.wal_mode);
            assert!(wal.sqlite_version > 3_051_002);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = DatabaseHeader::decode(&bytes);
        }
    }
}
