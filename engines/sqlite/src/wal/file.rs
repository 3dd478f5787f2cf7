//! Header and frames of a `-wal` file.

use std::sync::Arc;

use pitr_format::DecodeError;
use pitr_format::bytes::Reader;
use pitr_vfs::File;

use super::Checksum;
use crate::error::{Error, Result};
use crate::steps;

/// Size of the file header, bytes.
const WAL_HEADER_BYTES: u64 = 32;
/// Size of a frame header, bytes.
const FRAME_HEADER_BYTES: u64 = 24;
const WAL_MAGIC_LITTLE: u32 = 0x377f_0682;
const WAL_MAGIC_BIG: u32 = 0x377f_0683;
const WAL_VERSION: u32 = 3_007_000;
/// Maximum number of bytes of frames read at once.
const READ_BYTES: u64 = 1 << 20;

/// The two random numbers that change each time the `-wal` file restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salts(pub [u8; 8]);

/// The header of a `-wal` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Size of a page, bytes.
    pub page_bytes: u32,
    /// Salts of this generation of the file.
    pub salts: Salts,
    /// The sums after the header. Those of the first frame continue from them.
    pub checksum: Checksum,
    big_endian: bool,
}

impl WalHeader {
    fn decode(bytes: &[u8]) -> std::result::Result<Self, DecodeError> {
        const WHAT: &str = "SQLite -wal header";
        let mut r = Reader::new(bytes);
        let mut word = || r.array(WHAT).map(u32::from_be_bytes);
        let (magic, version, page_bytes) = (word()?, word()?, word()?);
        word()?; // checkpoint sequence number
        let salts = Salts(r.array(WHAT)?);
        let big_endian = match magic {
            WAL_MAGIC_LITTLE => false,
            WAL_MAGIC_BIG => true,
            other => return Err(DecodeError::Magic { what: WHAT, found: other.into() }),
        };
        if version != WAL_VERSION {
            return Err(DecodeError::Version { what: WHAT, found: version, known: WAL_VERSION });
        }
        if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
            return Err(DecodeError::Range { what: "SQLite -wal page size", value: page_bytes.into() });
        }
        let found = read_checksum(&mut r, WHAT)?;
        let checksum = Checksum::default().over(Reader::new(bytes).take(24, WHAT)?, big_endian);
        if found != checksum {
            return Err(DecodeError::Checksum { what: WHAT, found: found.s1, computed: checksum.s1 });
        }
        Ok(WalHeader { page_bytes, salts, checksum, big_endian })
    }

    fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES + u64::from(self.page_bytes)
    }
}

fn read_checksum(r: &mut Reader<'_>, what: &'static str) -> std::result::Result<Checksum, DecodeError> {
    Ok(Checksum { s0: u32::from_be_bytes(r.array(what)?), s1: u32::from_be_bytes(r.array(what)?) })
}

/// A frame whose salts and sums have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Number of the page, from 1.
    pub page: u32,
    /// Pages of the database after the transaction, if this frame commits one; otherwise 0.
    pub commit_pages: u32,
    /// The page's content.
    pub data: &'a [u8],
}

/// An open `-wal` file. Unlike the database file it may be opened and closed at any time: SQLite
/// holds no lock on it.
#[derive(Debug, Clone)]
pub struct WalFile {
    file: Arc<dyn File>,
}

impl WalFile {
    /// Wraps an open file.
    #[must_use]
    pub fn new(file: Arc<dyn File>) -> Self {
        WalFile { file }
    }

    /// The header; `None` while the file is empty or its header is half written, as just after a
    /// restart.
    pub fn header(&self) -> Result<Option<WalHeader>> {
        steps::reached();
        let mut bytes = [0; WAL_HEADER_BYTES as usize];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(WalHeader::decode(&bytes).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Error::ReadLog(e)),
        }
    }

    /// The sums that frame `number` states, if its salts are those of `header`.
    pub fn stated_checksum(&self, header: &WalHeader, number: u32) -> Result<Option<Checksum>> {
        steps::reached();
        if number == 0 {
            return Ok(Some(header.checksum));
        }
        let mut bytes = [0; FRAME_HEADER_BYTES as usize];
        let offset = WAL_HEADER_BYTES + u64::from(number - 1) * header.frame_bytes();
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(Error::ReadLog(e)),
        }
        if bytes[8..16] != header.salts.0 {
            return Ok(None);
        }
        let mut r = Reader::new(&bytes[16..]);
        Ok(read_checksum(&mut r, "SQLite frame").ok())
    }

    /// Reads the page of frame `number` again. The frame was checked before and can't change.
    pub fn page_at(&self, header: &WalHeader, number: u32, page: &mut [u8]) -> Result<()> {
        steps::reached();
        let offset = WAL_HEADER_BYTES + u64::from(number - 1) * header.frame_bytes() + FRAME_HEADER_BYTES;
        self.file.read_exact_at(page, offset).map_err(Error::ReadLog)
    }

    /// A reader of the frames after frame `after`, whose running sums are `checksum`.
    #[must_use]
    pub fn frames(&self, header: WalHeader, after: u32, checksum: Checksum) -> FrameReader {
        FrameReader {
            file: Arc::clone(&self.file),
            header,
            number: after,
            checksum,
            bytes: Vec::new(),
            at: 0,
        }
    }
}

/// Reads frames in order, a megabyte at a time, and checks each.
#[derive(Debug)]
pub struct FrameReader {
    file: Arc<dyn File>,
    header: WalHeader,
    number: u32,
    checksum: Checksum,
    bytes: Vec<u8>,
    at: usize,
}

impl FrameReader {
    /// Number of the last frame that was read.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The running sums after this frame.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The next frame, which must be at or below `published`. A published frame that fails its
    /// checks is an error: it was overwritten during the read, or damaged.
    pub fn next(&mut self, published: u32) -> Result<Frame<'_>> {
        let number = self.number + 1;
        debug_assert!(number <= published);
        if self.at >= self.bytes.len() {
            self.fill(published)?;
        }
        let frame_len = self.header.frame_bytes() as usize;
        let frame = &self.bytes[self.at..self.at + frame_len];
        let (head, data) = frame.split_at(FRAME_HEADER_BYTES as usize);
        let be = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let big_endian = self.header.big_endian;
        let checksum = self.checksum.over(&head[..8], big_endian).over(data, big_endian);
        let stated = Checksum { s0: be(16), s1: be(20) };
        let page = be(0);
        if head[8..16] != self.header.salts.0 || stated != checksum || page == 0 {
            return Err(Error::FrameChanged { frame: number });
        }
        self.at += frame_len;
        self.number = number;
        self.checksum = checksum;
        Ok(Frame { page, commit_pages: be(4), data })
    }

    fn fill(&mut self, published: u32) -> Result<()> {
        steps::reached();
        let frame_len = self.header.frame_bytes();
        let wanted = u64::from(published - self.number).min((READ_BYTES / frame_len).max(1));
        let offset = WAL_HEADER_BYTES + u64::from(self.number) * frame_len;
        self.bytes.resize((wanted * frame_len) as usize, 0);
        self.at = 0;
        self.file.read_exact_at(&mut self.bytes, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::FrameChanged { frame: self.number + 1 },
            _ => Error::ReadLog(e),
        })
    }
}
