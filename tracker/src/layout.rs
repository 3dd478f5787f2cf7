//! The file of a frozen epoch. `docs/format/tracker.md` shows the same as tables.
//!
//! # Layout
//! A header of 64 bytes with a checksum of itself and one of the body. Then, in ascending order,
//! each file with its pages. A page is a list of indexes or 1024 bytes of bits, whichever is
//! shorter.
//!
//! # Invariants
//! - A checksum covers every byte, and a decoded set contains the encoded one.
//! - Decoding allocates memory only for pages that are present, and at most
//!   [`crate::MEMORY_BYTES_MAX`].

use crate::file_set::{FileSet, empty_page, ones};
use crate::{BlockSize, ChangeSet, Changes, LsnRange, PAGE_BLOCKS};
use bit_vec::BitVec;
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, FileId, Lsn, TimelineId};

/// Size of the header, bytes.
pub(crate) const HEADER_BYTES: usize = 64;
/// Maximum size of a file, bytes. A set at the memory limit needs less.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;
/// Version that this program writes, and the newest one it reads.
const VERSION: u16 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"PITRCHG1");
const FLAG_WHOLE: u16 = 1;
const PAGE_BYTES: usize = (PAGE_BLOCKS / 8) as usize;
/// Number of marked blocks from which on a page is stored as bits.
const LIST_BELOW: u16 = (PAGE_BYTES / 2) as u16;
/// Size of a file's entry without its pages, bytes.
const FILE_ENTRY_BYTES: usize = 20;
/// Page numbers are below this, so that block numbers do not overflow.
const PAGES_END: u64 = 1 << 51;

/// The log that the positions belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// Timeline of the log.
    pub timeline: TimelineId,
    /// The random identity that all segments of the log contain.
    pub log_id: [u8; 16],
}

/// The header of a claim file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) log: LogIdentity,
    pub(crate) range: LsnRange,
    whole: bool,
    files: u32,
    body_len: u32,
    body_crc: u32,
}

impl Header {
    /// Decodes and checks the header at the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "header of changes";
        let mut r = Reader::new(bytes);
        let magic = r.u64(WHAT)?;
        if magic != MAGIC {
            return Err(DecodeError::Magic { what: WHAT, found: magic });
        }
        let fields = Reader::new(bytes).take(HEADER_BYTES, WHAT)?;
        let (fields, crc) = fields.split_at(HEADER_BYTES - 4);
        check(WHAT, fields, Reader::new(crc).u32(WHAT)?)?;
        r.check_version_u16(VERSION, WHAT)?;
        let flags = r.u16(WHAT)?;
        if flags & !FLAG_WHOLE != 0 {
            return Err(DecodeError::Range { what: "flags of changes", value: flags.into() });
        }
        let log = LogIdentity { timeline: TimelineId::new(r.u32(WHAT)?), log_id: r.array(WHAT)? };
        let (from, to) = (r.u64(WHAT)?, r.u64(WHAT)?);
        let range = LsnRange::new(Lsn::new(from), Lsn::new(to));
        let range = range.map_err(|_| DecodeError::Range { what: "range of changes", value: to })?;
        let (files, body_len, body_crc) = (r.u32(WHAT)?, r.u32(WHAT)?, r.u32(WHAT)?);
        Ok(Header { log, range, whole: flags & FLAG_WHOLE != 0, files, body_len, body_crc })
    }

    /// Returns the header if its range equals the range in the file's name.
    pub(crate) fn is_named(self, range: LsnRange) -> Result<Self, DecodeError> {
        let value = self.range.to().get();
        if self.range == range {
            Ok(self)
        } else {
            Err(DecodeError::Range { what: "range of changes", value })
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_u64(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(if self.whole { FLAG_WHOLE } else { 0 });
        out.put_u32(self.log.timeline.get());
        out.put(&self.log.log_id);
        out.put_u64(self.range.from().get());
        out.put_u64(self.range.to().get());
        out.put_u32(self.files);
        out.put_u32(self.body_len);
        out.put_u32(self.body_crc);
        out.put_u32(crc32fast::hash(&out));
        out
    }
}

/// Encodes a file that claims these changes.
pub(crate) fn encode(log: LogIdentity, changes: &Changes) -> Vec<u8> {
    let mut body = Vec::new();
    let sets = changes.set.file_sets();
    for (file, set) in sets {
        put_file(&mut body, *file, set);
    }
    let header = Header {
        log,
        range: changes.range,
        whole: changes.set.is_whole(),
        files: sets.len() as u32,
        body_len: body.len() as u32,
        body_crc: crc32fast::hash(&body),
    };
    let mut out = header.encode();
    out.append(&mut body);
    out
}

/// Decodes and checks a whole file.
pub(crate) fn decode(bytes: &[u8]) -> Result<(LogIdentity, Changes), DecodeError> {
    let header = Header::decode(bytes)?;
    let mut r = Reader::new(bytes);
    r.take(HEADER_BYTES, "header of changes")?;
    let body = r.take(header.body_len as usize, "body of changes")?;
    r.finish("changes")?;
    check("body of changes", body, header.body_crc)?;

    let mut set = if header.whole { ChangeSet::whole() } else { ChangeSet::new() };
    let (mut r, mut before) = (Reader::new(body), None);
    for _ in 0..header.files {
        before = Some(take_file(&mut r, &mut set, before)?);
    }
    r.finish("body of changes")?;
    Ok((header.log, Changes { range: header.range, set }))
}

fn check(what: &'static str, bytes: &[u8], found: u32) -> Result<(), DecodeError> {
    let computed = crc32fast::hash(bytes);
    if computed == found { Ok(()) } else { Err(DecodeError::Checksum { what, found, computed }) }
}

fn put_file(out: &mut Vec<u8>, file: FileId, set: &FileSet) {
    out.put_u32(file.get());
    out.put_u32(set.size.map_or(0, BlockSize::bytes));
    out.put_u64(set.changed_from);
    out.put_u32(set.pages.len() as u32);
    for (number, bits) in &set.pages {
        out.put_u64(*number);
        let count = bits.count_ones() as u16; // at most PAGE_BLOCKS = 8192
        out.put_u16(count);
        if count < LIST_BELOW {
            ones(bits).for_each(|bit| out.put_u16(bit as u16));
        } else {
            bits.blocks().for_each(|word| out.put_u32(word));
        }
    }
}

fn take_file(r: &mut Reader<'_>, set: &mut ChangeSet, before: Option<FileId>) -> Result<FileId, DecodeError> {
    const WHAT: &str = "changed file";
    let mut entry = Reader::new(r.take(FILE_ENTRY_BYTES, WHAT)?);
    let file = FileId::new(entry.u32(WHAT)?);
    if before.is_some_and(|before| before >= file) {
        return Err(DecodeError::Range { what: "order of changed files", value: file.get().into() });
    }
    let raw_size = entry.u32(WHAT)?;
    let changed_from = entry.u64(WHAT)?;
    let pages = entry.u32(WHAT)?;
    if raw_size == 0 && pages > 0 {
        return Err(DecodeError::Range { what: "number of changed pages", value: pages.into() });
    }
    set.set_length(file, changed_from);
    if raw_size == 0 {
        return Ok(file);
    }
    let size = BlockSize::new(raw_size);
    let size = size.map_err(|_| DecodeError::Range { what: "block size", value: raw_size.into() })?;
    set.set_size(file, size);
    let mut end = 0;
    for _ in 0..pages {
        let number = r.u64("changed page")?;
        if number < end || number >= PAGES_END {
            return Err(DecodeError::Range { what: "number of a changed page", value: number });
        }
        end = number + 1;
        let (first, bits) = take_page(r)?;
        set.union_page(file, size, number, number * PAGE_BLOCKS + first, &bits);
    }
    Ok(file)
}

/// Decodes a page: its first set bit, and all bits.
fn take_page(r: &mut Reader<'_>) -> Result<(u64, BitVec), DecodeError> {
    const WHAT: &str = "changed page";
    let wrong = |value: u64| DecodeError::Range { what: "bits of a changed page", value };
    let count = r.u16(WHAT)?;
    let bits = if count < LIST_BELOW {
        let mut bits = empty_page();
        let mut end = 0;
        for place in r.take(usize::from(count) * 2, WHAT)?.as_chunks::<2>().0 {
            let place = u16::from_le_bytes(*place);
            if place < end || u64::from(place) >= PAGE_BLOCKS {
                return Err(wrong(place.into()));
            }
            bits.set(place.into(), true);
            end = place + 1;
        }
        bits
    } else {
        let mut bytes: [u8; PAGE_BYTES] = r.array(WHAT)?;
        // A BitVec numbers the bits of a byte from the high end.
        bytes.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        BitVec::from_bytes(&bytes)
    };
    let first = ones(&bits).next().filter(|_| bits.count_ones() == u64::from(count));
    Ok((first.ok_or(wrong(count.into()))?, bits))
}

#[cfg(test)]
mod tests;
