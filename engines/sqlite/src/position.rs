//! How far the `-wal` file has been captured: the note of every commit in the local log.

use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, TxId};

use crate::wal::{Checksum, Salts};

const VERSION: u8 = 1;

/// A position in the `-wal` file, and the size of the database there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Generation of the `-wal` file; `None` while it had no header yet.
    pub salts: Option<Salts>,
    /// Number of the last captured frame, 0 before the first.
    pub frame: u32,
    /// The running sums after that frame.
    pub checksum: Checksum,
    /// Size of a page, bytes.
    pub page_bytes: u32,
    /// Pages of the database.
    pub pages: u32,
    /// The last captured transaction.
    pub tx: TxId,
    /// Stamp of the database file, if it held everything up to this position.
    pub file: Option<FileStamp>,
}

/// Tells whether a database file was written since the stamp was taken.
///
/// No program can set the change time, and each write moves it, at the granularity of the kernel's
/// clock. So a stamp is taken only of a file that was not written for longer than that granularity
/// (see [`crate::source::Source::file_stamp`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Device and inode.
    pub file: (u64, u64),
    /// Length, bytes.
    pub len: u64,
    /// Time of the last change of content or metadata, nanoseconds since the Unix epoch.
    pub changed_ns: i64,
}

impl Position {
    /// Length of the database file at this position, bytes.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }

    /// Encodes the note.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.salts.is_some()) | u8::from(self.file.is_some()) << 1);
        out.put(&self.salts.unwrap_or(Salts([0; 8])).0);
        out.put_u32(self.frame);
        out.put_u32(self.checksum.s0);
        out.put_u32(self.checksum.s1);
        out.put_u32(self.page_bytes);
        out.put_u32(self.pages);
        out.put_u64(self.tx.get());
        if let Some(stamp) = &self.file {
            out.put_u64(stamp.file.0);
            out.put_u64(stamp.file.1);
            out.put_u64(stamp.len);
            out.put_i64(stamp.changed_ns);
        }
        out
    }

    /// Decodes a note.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "position in the -wal file";
        let mut r = Reader::new(bytes);
        r.check_version_u8(VERSION, WHAT)?;
        let flags = r.u8(WHAT)?;
        let salts = Salts(r.array(WHAT)?);
        let mut position = Position {
            salts: (flags & 1 != 0).then_some(salts),
            frame: r.u32(WHAT)?,
            checksum: Checksum { s0: r.u32(WHAT)?, s1: r.u32(WHAT)? },
            page_bytes: r.u32(WHAT)?,
            pages: r.u32(WHAT)?,
            tx: TxId::new(r.u64(WHAT)?),
            file: None,
        };
        if flags & 2 != 0 {
            let file = (r.u64(WHAT)?, r.u64(WHAT)?);
            position.file = Some(FileStamp { file, len: r.u64(WHAT)?, changed_ns: r.i64(WHAT)? });
        }
        r.finish(WHAT)?;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_round_trip(salts: Option<[u8; 8]>, frame: u32, s0: u32, s1: u32, page_bytes: u32, pages: u32, tx: u64, stamp: Option<(u64, u64, u64, i64)>) {
            let file = stamp.map(|(dev, ino, len, changed_ns)| FileStamp { file: (dev, ino), len, changed_ns });
            let position = Position { salts: salts.map(Salts), frame, checksum: Checksum { s0, s1 }, page_bytes, pages, tx: TxId::new(tx), file };
            prop_assert_eq!(Position::decode(&position.encode()).unwrap(), position);
        }
    }
}
