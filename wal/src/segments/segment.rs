//! Segment files: names, headers, creation.
//!
//! A segment file bears its number, `0000000000000001.seg`. It is made aside under a temporary name, at full
//! size, synced, and then published without replacing: a segment that has its name has a whole header. A
//! leftover under a temporary name is nobody's and is removed when the log is opened.
//!
//! A segment that is no longer needed may be recycled: it takes the name `0000000000000001.seg.free`, durably, before
//! anything in it is overwritten; its new header is synced before it is published under its new number. Its old
//! batches stay, and check out nowhere: the seed of their checksums has the old number in it.
//!
//! A file that is made before its segment is needed waits as `spare.seg.free`.
//!
//! A new file reads as zeros behind its header. They are written out if many syncs are to be expected in it, which then
//! carry data only; a log that fills a segment with a few large rounds would write everything twice for nothing.

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

/// What is no segment any more or not yet: what interrupted creations left, and spare files.
pub(crate) fn leftovers(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PathBuf>> {
    let names = fs.list(dir).map_err(Error::io("list", dir))?;
    let is_left = |name: &str| {
        name.ends_with(ASIDE_SUFFIX) || name.ends_with(FREE_SUFFIX) || name == slot_file::ASIDE_NAME
    };
    Ok(names.iter().filter(|name| name.to_str().is_some_and(is_left)).map(|name| dir.join(name)).collect())
}

/// Removes them.
pub(crate) fn remove_leftovers(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    for path in leftovers(fs, dir)? {
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// How the room behind a new segment's header is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Zeros are written.
    Written,
    /// Only the length is set: the file system finds room when it is written.
    Sparse,
}

/// Creates the segment with this header and the index of the one before; it and its name are durable on return. After
/// an error no unpublished file is left, as far as possible: on a full disk it would take the space that is missing.
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
        // What is left is removed when the log is opened again.
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

/// Makes a file for a segment to come, full of zeros, under a name of its own. It and its name are durable on return;
/// after an error nothing is left, as far as can be.
pub(crate) fn create_spare(fs: &dyn FileSystem, dir: &Path, bytes: u32) -> Result<PathBuf> {
    let path = dir.join(SPARE_NAME);
    let file = fs.create_new(&path).map_err(Error::io("create", &path))?;
    let made = write_zeros(file.as_ref(), 0, u64::from(bytes)).and_then(|()| file.sync_all());
    match made.and_then(|()| fs.sync_dir(dir)) {
        Ok(()) => Ok(path),
        Err(e) => {
            // A leftover is removed when the log is opened again.
            let _ = fs.remove_file(&path);
            Err(Error::io("write", &path)(e))
        }
    }
}

/// Takes the name of a segment away and keeps its file for another. It may be used once the folder was synced.
pub(crate) fn set_free(fs: &dyn FileSystem, dir: &Path, segment: SegmentNo) -> Result<PathBuf> {
    let path = path_of(dir, segment);
    let free = path.with_extension("seg.free");
    fs.publish(&path, &free).map_err(Error::io("set free", &path))?;
    Ok(free)
}

/// As [`create`], from a file that [`set_free`] or [`create_spare`] left.
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
        // It was recycled after it was found.
        Err(_) if !fs.exists(&path).map_err(Error::io("look for", &path))? => Ok(None),
        header => Ok(Some((file, header?))),
    }
}

/// The index of `segment`, out of the header of the one after it, `next`. One that doesn't check out is none: whoever
/// asks looks at the whole segment then.
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

/// Errors unless `next` continues the log of `previous`, from the very same life of it.
pub(crate) fn check_follows(dir: &Path, previous: &SegmentHeader, next: &SegmentHeader) -> Result<()> {
    let what = if next.timeline != previous.timeline {
        "timeline"
    } else if next.log_id != previous.log_id {
        "log identity"
    } else if next.segment_size != previous.segment_size {
        "segment size"
    } else if next.follows.segment != Some((previous.segment, previous.incarnation)) {
        "predecessor"
    } else if next.incarnation < previous.incarnation {
        "incarnation"
    } else if !ends_in(previous, next) {
        "predecessor's end"
    } else {
        return Ok(());
    };
    Err(Error::Foreign { path: path_of(dir, next.segment), segment: next.segment, what })
}

/// True if the end that `next` states for its predecessor lies in it.
fn ends_in(previous: &SegmentHeader, next: &SegmentHeader) -> bool {
    let end = previous.segment.checked_add(1).and_then(|after| previous.segment_size.start_of(after));
    previous.first_batch().is_some_and(|first| first <= next.follows.end)
        && end.is_some_and(|end| next.follows.end <= end)
}
