//! Reads and writes that bypass the page cache.
//!
//! A backup reads its data once, and a restore does not read what it writes. Through the cache,
//! each page is allocated, filled, copied and later evicted, in place of a page that an application
//! needs. Directly (`O_DIRECT`) it costs nearly no processor time. Cached data, however, is
//! available at once, on a disk of any speed, so a reader checks the cache first (`resident.rs`). A
//! direct read also returns data that is newer in the cache than on the disk.

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

/// Alignment of addresses, offsets and lengths of direct requests, bytes.
const ALIGNMENT: usize = Buffer::ALIGNMENT;
/// Smaller requests are not worth a second descriptor, bytes.
const BYTES_MIN: usize = 256 << 10;
/// Size of one direct write, bytes.
const BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// An aligned copy of the data to write.
    static TO_WRITE: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// The descriptor for direct requests, with the access of the file. `None` if direct requests are
/// not possible.
pub(crate) type Direct = OnceLock<Option<Second>>;

/// A second descriptor of a file.
#[derive(Debug)]
pub(crate) struct Second {
    file: File,
    /// Created on the first read, because files that are only written do not need it.
    resident: OnceLock<Option<Resident>>,
}

impl Second {
    fn is_cached(&self, offset: u64, len: usize) -> bool {
        let resident = self.resident.get_or_init(|| Resident::of(&self.file, &path_of(&self.file)));
        resident.as_ref().is_some_and(|resident| resident.holds(offset, len))
    }
}

/// A path to an open file, whatever its current name.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Reads as many whole blocks as possible past the cache. Returns their number of bytes; the caller
/// reads the rest. The second descriptor is closed together with the first.
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
                // The end of the file, at or within a block.
                Ok(read) => return done + read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break, // the caller retries through the cache
            }
        }
    }
    done
}

/// Writes as many whole blocks as possible past the cache. Returns the range of `bytes` that was
/// written; the caller writes the rest, also after a failure here.
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
                    return; // a failed write, or a file system without direct requests
                }
                done += part.len();
            }
        });
    }
    if done > start { start..done } else { 0..0 }
}

/// Opens the same file again.
fn open(file: &File) -> Option<Second> {
    let is_written = rustix::fs::fcntl_getfl(file).ok()?.contains(OFlags::RDWR);
    let flags = OFlags::DIRECT.bits() as i32;
    // No error may follow the open: a new descriptor must not be closed before the file is.
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
    fn direct_and_cached_reads_return_the_same_bytes() {
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
        // A read also returns data that is written but not yet on the disk.
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
    fn direct_and_cached_writes_give_the_same_bytes() {
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
            // Overwrites data that is not yet on the disk.
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
        let truncated = crate::OsFile::from(File::options().read(true).write(true).open(&path).unwrap());
        truncated.set_len(0).unwrap();
        truncated.write_once_at(&bytes, 100).unwrap();
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
            _ => assert_eq!(written, 0..0), // a file system without direct requests
        }
        assert_eq!(write_directly(&file, &direct, &bytes[..BYTES_MIN - 1], 0), 0..0);
    }
}
