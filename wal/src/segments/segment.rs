//! Segment files: names, headers, creation.
//!
//! A segment file is named after its number: `0000000000000001.seg`. It is created under a
//! temporary name at full size, synced, and then published without replacing: a segment with its
//! final name has a complete header. Opening the log removes leftovers under temporary names.
//!
//! A segment that is no longer needed may be recycled. It is durably renamed to
//! `0000000000000001.seg.free` before anything in it is overwritten, and its new header is synced
//! before it is published under its new number. Its old batches stay in the file, but fail their
//! checksums: the seed contains the old number.
//!
//! A file that is prepared before its segment is needed is named `spare.seg.free`.
//!
//! A new file reads as zeros after its header. The zeros are written if many syncs are expected:
//! each sync then carries data only. A log that fills a segment with a few large rounds would write
//! everything twice for no gain.

use super::slot_file;
use crate::{Error, Result};
use pitr_format::index::SegmentIndex;
use pitr_format::log::{SEGMENT_HEADER_BYTES, SegmentHeader};
use pitr_format::{DecodeError, SegmentNo};
use pitr_vfs::{Access, File, FileSystem};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".seg";
const ASIDE_SUFFIX: &str = ".seg.new";
const FREE_SUFFIX: &str = ".seg.free";
const SPARE_NAME: &str = "spare.seg.free";
const NAME_DIGITS: usize = 16;

type HeaderBytes = [u8; SEGMENT_HEADER_BYTES as usize];
/// Bytes of zeros written at once.
const ZEROS_BYTES: usize = 1 << 20;

/// Name of the file that the log's writer locks.
pub(crate) const LOCK_NAME: &str = "lock";

/// The file of a segment.
pub(crate) fn path_of(dir: &Path, segment: SegmentNo) -> PathBuf {
    dir.join(format!("{:0NAME_DIGITS$x}{SUFFIX}", segment.get()))
}

/// The number in a segment's file name; `None` for any other name.
fn number_of(name: &OsStr) -> Option<SegmentNo> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    let canonical =
        digits.len() == NAME_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let raw = u64::from_str_radix(digits, 16).ok()?;
    (canonical && raw > 0).then_some(SegmentNo::new(raw))
}

/// The segments in a folder, in order.
pub(crate) fn list(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<SegmentNo>> {
    let names = fs.list(dir).map_err(Error::io("list", dir))?;
    let mut numbers: Vec<SegmentNo> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Files that are not segments: leftovers of interrupted creations, and spare files.
pub(crate) fn leftovers(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    let names = fs.list(dir).map_err(Error::io("list", dir))?;
    let is_left = |name: &str| {
        name.ends_with(ASIDE_SUFFIX) || name.ends_with(FREE_SUFFIX) || name == slot_file::ASIDE_NAME
    };
    Ok(names.iter().filter(|name| name.to_str().is_some_and(is_left)).map(|name| dir.join(name)).collect())
}

/// Removes the files of [`leftovers`].
pub(crate) fn remove_leftovers(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    for path in leftovers(fs, dir)? {
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// How the space after a new segment's header is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Zeros are written.
    Written,
    /// Only the length is set: the file system allocates space on write.
    Sparse,
}

/// Creates the segment with this header and the index of its predecessor. File and name are durable
/// on return. After an error it removes the unpublished file if possible: on a full disk that file
/// would use up space.
pub(crate) fn create(
    fs: &dyn FileSystem,
    dir: &Path,
    header: &SegmentHeader,
    before: &SegmentIndex,
    room: Room,
) -> Result<Arc<dyn File>> {
    let path = path_of(dir, header.segment);
    let aside = path.with_extension("seg.new");
    let file = fs.create_new(&aside).map_err(Error::io("create", &aside))?;
    if let Err(source) = fill(file.as_ref(), header, before, room) {
        // Opening the log removes a leftover.
        let _ = fs.remove_file(&aside);
        return Err(Error::io("write", &aside)(source));
    }
    fs.publish(&aside, &path).map_err(Error::io("publish", &path))?;
    fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(file)
}

fn fill(file: &dyn File, header: &SegmentHeader, before: &SegmentIndex, room: Room) -> std::io::Result<()> {
    let size = u64::from(header.segment_size.bytes());
    file.write_all_at(&header.encode(before), 0)?;
    if room == Room::Sparse {
        file.set_len(size)?;
        return file.sync_all();
    }
    write_zeros(file, u64::from(SEGMENT_HEADER_BYTES), size)?;
    file.sync_all()
}

fn write_zeros(file: &dyn File, mut offset: u64, end: u64) -> std::io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(end as usize)];
    while offset < end {
        let len = (end - offset).min(zeros.len() as u64);
        file.write_all_at(&zeros[..len as usize], offset)?;
        offset += len;
    }
    Ok(())
}

/// Creates a file full of zeros for a later segment. File and name are durable on return. After an
/// error it removes the file if possible.
pub(crate) fn create_spare(fs: &dyn FileSystem, dir: &Path, bytes: u32) -> Result<PathBuf> {
    let path = dir.join(SPARE_NAME);
    let file = fs.create_new(&path).map_err(Error::io("create", &path))?;
    let made = write_zeros(file.as_ref(), 0, u64::from(bytes)).and_then(|()| file.sync_all());
    match made.and_then(|()| fs.sync_dir(dir)) {
        Ok(()) => Ok(path),
        Err(e) => {
            // Opening the log removes a leftover.
            let _ = fs.remove_file(&path);
            Err(Error::io("write", &path)(e))
        }
    }
}

/// Removes the name of a segment and keeps its file for another one. The file may be used after the
/// folder is synced.
pub(crate) fn set_free(fs: &dyn FileSystem, dir: &Path, segment: SegmentNo) -> Result<PathBuf> {
    let path = path_of(dir, segment);
    let free = path.with_extension("seg.free");
    fs.publish(&path, &free).map_err(Error::io("set free", &path))?;
    Ok(free)
}

/// Like [`create`], in a file of [`set_free`] or [`create_spare`].
pub(crate) fn recycle(
    fs: &dyn FileSystem,
    dir: &Path,
    free: &Path,
    header: &SegmentHeader,
    before: &SegmentIndex,
) -> Result<Arc<dyn File>> {
    let path = path_of(dir, header.segment);
    let file = fs.open(free, Access::ReadWrite).map_err(Error::io("open", free))?;
    file.write_all_at(&header.encode(before), 0).map_err(Error::io("write", free))?;
    file.sync_data().map_err(Error::io("sync", free))?;
    fs.publish(free, &path).map_err(Error::io("publish", &path))?;
    fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(file)
}

/// Opens a segment and reads its header; `None` if there is no such file.
pub(crate) fn open(
    fs: &dyn FileSystem,
    dir: &Path,
    segment: SegmentNo,
    access: Access,
) -> Result<Option<(Arc<dyn File>, SegmentHeader)>> {
    let path = path_of(dir, segment);
    let file = match fs.open(&path, access) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", &path))?,
    };
    match read_header(file.as_ref(), &path, segment).map(|(header, _)| header) {
        // The segment was recycled after it was listed.
        Err(_) if !fs.exists(&path).map_err(Error::io("look for", &path))? => Ok(None),
        header => Ok(Some((file, header?))),
    }
}

/// The index of `segment`, from the header of its successor `next`. Empty if it fails its checksum:
/// the caller then reads the whole segment.
pub(crate) fn index_of(
    fs: &dyn FileSystem,
    dir: &Path,
    segment: &SegmentHeader,
    next: SegmentNo,
) -> Result<SegmentIndex> {
    let path = path_of(dir, next);
    let file = match fs.open(&path, Access::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(SegmentIndex::default()),
        other => other.map_err(Error::io("open", &path))?,
    };
    let (next, bytes) = read_header(file.as_ref(), &path, next)?;
    let follows = next.follows.segment == Some((segment.segment, segment.incarnation));
    Ok(next.index_before(&bytes).ok().filter(|_| follows).unwrap_or_default())
}

fn read_header(file: &dyn File, path: &Path, segment: SegmentNo) -> Result<(SegmentHeader, HeaderBytes)> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let len = file.read_up_to_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    let damaged = |source| Error::Header { path: path.to_owned(), segment, source };
    let header = SegmentHeader::decode(&bytes[..len]).map_err(damaged)?;
    if header.segment != segment {
        return Err(Error::Foreign { path: path.to_owned(), segment, what: "number" });
    }
    let size = u64::from(header.segment_size.bytes());
    let len = file.len().map_err(Error::io("measure", path))?;
    if len != size {
        return Err(damaged(DecodeError::Range { what: "length of the segment file", value: len }));
    }
    Ok((header, bytes))
}
