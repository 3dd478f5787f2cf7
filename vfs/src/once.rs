//! Reading and writing past the page cache.
//!
//! What a backup reads it reads once, and what a restore writes it does not read. Through the cache each page of it is
//! allocated, filled, copied and later evicted in place of something that an application needs; directly (`O_DIRECT`) it costs
//! nearly no processor time. But what is in the cache is there at once, on a disk of any speed: so a reader asks first
//! (`resident.rs`). A direct read sees what is newer in the cache than on the disk too.

use crate::Buffer;
use crate::resident::Resident;
use rustix::fs::OFlags;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

/// What direct requests want of addresses, offsets and lengths, bytes.
const ALIGNMENT: usize = Buffer::ALIGNMENT;
/// Fewer bytes are not worth a second descriptor.
const BYTES_MIN: usize = 256 << 10;
/// Bytes of one request to write.
const BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// What is to be written, where direct requests can be made for it.
    static TO_WRITE: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// The descriptor for direct requests, for what the file is open for; `None` where there are none.
pub(crate) type Direct = OnceLock<Option<Second>>;

/// A second descriptor of a file.
#[derive(Debug)]
pub(crate) struct Second {
    file: File,
    /// Made when it is read the first time: files that are only written need none.
    resident: OnceLock<Option<Resident>>,
}

impl Second {
    fn is_cached(&self, offset: u64, len: usize) -> bool {
        let resident = self.resident.get_or_init(|| Resident::of(&self.file, &path_of(&self.file)));
        resident.as_ref().is_some_and(|resident| resident.holds(offset, len))
    }
}

/// A path to an open file, whatever its name is by now.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Reads whole blocks past the cache, as many as can be had so, and returns their bytes; the rest is for the caller to read. The
/// second descriptor is closed together with the first.
pub(crate) fn read_directly(file: &File, direct: &Direct, buf: &mut [u8], offset: u64) -> usize {
    let whole = buf.len() / ALIGNMENT * ALIGNMENT;
    let is_aligned = offset.is_multiple_of(ALIGNMENT as u64) && buf.as_ptr().align_offset(ALIGNMENT) == 0;
    let mut done = 0;
    if whole >= BYTES_MIN
        && is_aligned
        && let Some(direct) = direct.get_or_init(|| open(file))
        && !direct.is_cached(offset, whole)
    {
        while done < whole {
            match direct.file.read_at(&mut buf[done..whole], offset + done as u64) {
                Ok(read) if read.is_multiple_of(ALIGNMENT) && read > 0 => done += read,
                // The file's end, in or before a block.
                Ok(read) => return done + read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break, // the cache may know better
            }
        }
    }
    done
}

/// Writes whole blocks past the cache, as many as can be, and returns which of `bytes` these are; the rest is for the caller to
/// write, also where this failed.
pub(crate) fn write_directly(file: &File, direct: &Direct, bytes: &[u8], offset: u64) -> Range<usize> {
    let start = (offset.next_multiple_of(ALIGNMENT as u64) - offset) as usize; // less than a block
    let end = start + bytes.len().saturating_sub(start) / ALIGNMENT * ALIGNMENT;
    let mut done = start;
    if end - start >= BYTES_MIN
        && let Some(direct) = direct.get_or_init(|| open(file))
    {
        TO_WRITE.with_borrow_mut(|buffer| {
            for part in bytes[start..end].chunks(BYTES_MAX) {
                let mut aligned = part;
                if part.as_ptr().align_offset(ALIGNMENT) != 0 {
                    buffer.set_len(part.len());
                    buffer.copy_from_slice(part);
                    aligned = buffer;
                }
                if direct.file.write_all_at(aligned, offset + done as u64).is_err() {
                    return; // as it failed, or as file systems may that have no direct requests
                }
                done += part.len();
            }
        });
    }
    if done > start { start..done } else { 0..0 }
}

/// The same file once more.
fn open(file: &File) -> Option<Second> {
    let is_written = rustix::fs::fcntl_getfl(file).ok()?.contains(OFlags::RDWR);
    let flags = OFlags::DIRECT.bits() as i32;
    // Nothing may fail from here on: what is open is not to be closed before the file is.
    let second =
        OpenOptions::new().read(true).write(is_written).custom_flags(flags).open(path_of(file)).ok()?;
    Some(Second { file: second, resident: OnceLock::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File as _;
    use std::sync::Arc;

    #[test]
    fn the_same_bytes_come_whichever_way() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        let len = 3 * BYTES_MIN + 5000;
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for is_cold in [false, true] {
            let file: Arc<dyn crate::File> = Arc::new(crate::OsFile::from(File::open(&path).unwrap()));
            let cold = File::open(&path).unwrap();
            for (offset, wanted) in [
                (0, BYTES_MIN),
                (0, len),
                (ALIGNMENT, len),
                (BYTES_MIN, 2 * BYTES_MIN + 5000),
                (BYTES_MIN + 1, BYTES_MIN),
                (2 * BYTES_MIN, BYTES_MIN + 17),
                (3 * BYTES_MIN, BYTES_MIN),
                (len, BYTES_MIN),
                (len + 9000, BYTES_MIN),
                (12, 1),
                (0, 0),
            ] {
                if is_cold {
                    cold.sync_all().unwrap();
                    rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                }
                let mut buffer = Buffer::default();
                buffer.set_len(wanted);
                let read = file.read_once_at(&mut buffer, offset as u64).unwrap();
                let there = &bytes[offset.min(len)..len.min(offset + wanted)];
                assert!(buffer[..read] == *there, "{wanted} at {offset}, cold: {is_cold}");
            }
        }
        // What was written and not yet on the disk is read too.
        let file = crate::OsFile::from(File::options().read(true).write(true).open(&path).unwrap());
        file.write_all_at(&[9; 10], 2 * ALIGNMENT as u64 + 5).unwrap();
        let mut buffer = Buffer::default();
        buffer.set_len(BYTES_MIN);
        file.read_once_at(&mut buffer, 0).unwrap();
        assert_eq!(
            buffer[2 * ALIGNMENT..2 * ALIGNMENT + 20],
            [&bytes[8192..8197], &[9; 10], &bytes[8207..8212]].concat()
        );
    }

    #[test]
    fn the_same_bytes_are_written_whichever_way() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        let len = 2 * BYTES_MAX + 5000;
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
        for (offset, wanted) in [
            (0, BYTES_MIN),
            (0, len),
            (ALIGNMENT, len),
            (ALIGNMENT, BYTES_MAX + ALIGNMENT),
            (1, BYTES_MIN),
            (ALIGNMENT - 1, BYTES_MIN + 2 * ALIGNMENT),
            (5 * ALIGNMENT + 17, len),
            (12, 1),
            (0, 0),
        ] {
            // Among bytes that were written before and are not on the disk yet.
            std::fs::write(&path, vec![9; len + 7 * ALIGNMENT]).unwrap();
            let file = crate::OsFile::from(File::options().read(true).write(true).open(&path).unwrap());
            let mut buffer = Buffer::default();
            buffer.set_len(wanted);
            buffer.copy_from_slice(&bytes[..wanted]);
            file.write_once_at(&buffer, offset as u64).unwrap();
            file.write_once_at(&bytes[..wanted], offset as u64).unwrap();
            let mut expected = vec![9; len + 7 * ALIGNMENT];
            expected[offset..offset + wanted].copy_from_slice(&bytes[..wanted]);
            assert!(std::fs::read(&path).unwrap() == expected, "{wanted} at {offset}");
        }
        let behind = crate::OsFile::from(File::options().read(true).write(true).open(&path).unwrap());
        behind.set_len(0).unwrap();
        behind.write_once_at(&bytes, 100).unwrap();
        assert!(std::fs::read(&path).unwrap() == [&[0; 100], &bytes[..]].concat());
        let unwritable = crate::OsFile::from(File::open(&path).unwrap());
        assert!(unwritable.write_once_at(&bytes, 0).is_err());
    }

    #[test]
    fn whole_blocks_are_written_directly() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file =
            File::options().read(true).write(true).create_new(true).open(dir.path().join("f")).unwrap();
        let (direct, bytes) = (Direct::new(), vec![1; BYTES_MIN + 2 * ALIGNMENT]);
        let written = write_directly(&file, &direct, &bytes, 1);
        match direct.get() {
            Some(Some(_)) => assert_eq!(written, ALIGNMENT - 1..BYTES_MIN + 2 * ALIGNMENT - 1),
            _ => assert_eq!(written, 0..0), // a file system without
        }
        assert_eq!(write_directly(&file, &direct, &bytes[..BYTES_MIN - 1], 0), 0..0);
    }
}
