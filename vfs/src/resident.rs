//! Which bytes of a file are in the system's cache.
//!
//! `mincore(2)` answers this for a mapping and reads nothing. A non-blocking read (`RWF_NOWAIT`) is
//! not an alternative: current kernels start to load a missing page, so a second query would find
//! it. The mapped bytes are never accessed.
#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::fs::File;
use std::path::Path;

/// Unit of `mincore`, bytes. On systems with larger pages it fails, and nothing counts as cached.
const PAGE_BYTES: usize = 4096;

/// A mapped file whose cached pages can be queried.
#[derive(Debug)]
pub(crate) struct Resident(MmapRaw);

impl Resident {
    /// Maps the file. `path` leads to the open file.
    ///
    /// Returns `None` if the query is not possible: an empty file, a file that cannot be mapped, or
    /// a file that this process may not write, for which the system reports all pages as cached.
    pub(crate) fn of(file: &File, path: &Path) -> Option<Self> {
        accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).ok()?;
        MmapOptions::new().map_raw_read_only(file).ok().map(Resident)
    }

    /// True if at least half of the pages of a range are cached. Growth of the file since the
    /// mapping counts as not cached.
    pub(crate) fn holds(&self, offset: u64, len: usize) -> bool {
        let start = usize::try_from(offset).map_or(usize::MAX, |at| at / PAGE_BYTES * PAGE_BYTES);
        let whole = self.0.len().saturating_sub(start).min(len);
        if whole == 0 {
            return false;
        }
        let mut pages = vec![0u8; whole.div_ceil(PAGE_BYTES)];
        // SAFETY: the range is within the mapping and starts at a page, and `pages` has a byte for
        // each page of the range. The call touches no memory of the range, whatever happened to the
        // file.
        let result =
            unsafe { libc::mincore(self.0.as_mut_ptr().add(start).cast(), whole, pages.as_mut_ptr()) };
        let there = pages.iter().filter(|page| **page & 1 == 1).count();
        result == 0 && there * 2 >= len.div_ceil(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(miri))] // miri has no mappings
    fn written_pages_are_cached_and_a_query_loads_none() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![7; 50 * PAGE_BYTES + 10]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        let resident = Resident::of(&file, &path).unwrap();
        assert!(
            resident.holds(0, 50 * PAGE_BYTES) && resident.holds(49 * PAGE_BYTES as u64, PAGE_BYTES + 10)
        );
        assert!(!resident.holds(51 * PAGE_BYTES as u64, 1) && !resident.holds(u64::MAX, 1));
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        if resident.holds(0, 50 * PAGE_BYTES) {
            return; // a file system in memory
        }
        assert!(!resident.holds(0, PAGE_BYTES), "the first query loaded the page");
        // Half of the range is cached, then less than half.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut vec![0; 4 * PAGE_BYTES], 0).unwrap();
        assert!(resident.holds(0, 8 * PAGE_BYTES) && !resident.holds(0, 9 * PAGE_BYTES));
        // A file that this process cannot write, and an empty file.
        assert!(Resident::of(&file, &dir.path().join("no such file")).is_none());
        assert!(Resident::of(&File::create(&path).unwrap(), &path).is_none());
    }
}
