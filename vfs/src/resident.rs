//! Which bytes of a file the system has in its cache.
//!
//! `mincore(2)` tells it of a mapping, and nothing is read by it: a read that must not wait (`RWF_NOWAIT`) has kernels of today
//! begin to bring the page that it does not find, so that whoever asked twice found it. Nobody looks at the mapped bytes.
#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::fs::File;
use std::path::Path;

/// What `mincore` counts in, bytes; where pages are larger it refuses, and nothing is known to be there.
const PAGE_BYTES: usize = 4096;

/// A file whose pages are asked for.
#[derive(Debug)]
pub(crate) struct Resident(MmapRaw);

impl Resident {
    /// `None` where nothing can be learned: an empty file, one that can't be mapped, or one that is not ours to write, of which the
    /// system says that all of it is there. `path` leads to the open file.
    pub(crate) fn of(file: &File, path: &Path) -> Option<Self> {
        accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).ok()?;
        MmapOptions::new().map_raw_read_only(file).ok().map(Resident)
    }

    /// True if at least half of the pages of a range are in the cache. Of what was not part of the file when this was made
    /// nothing is known.
    pub(crate) fn holds(&self, offset: u64, len: usize) -> bool {
        let start = usize::try_from(offset).map_or(usize::MAX, |at| at / PAGE_BYTES * PAGE_BYTES);
        let whole = self.0.len().saturating_sub(start).min(len);
        if whole == 0 {
            return false;
        }
        let mut pages = vec![0u8; whole.div_ceil(PAGE_BYTES)];
        // SAFETY: the range lies within the mapping, from the begin of a page, and there is a byte for each page of it.
        // No memory of the range is touched, whatever has become of the file.
        let told = unsafe { libc::mincore(self.0.as_mut_ptr().add(start).cast(), whole, pages.as_mut_ptr()) };
        let there = pages.iter().filter(|page| **page & 1 == 1).count();
        told == 0 && there * 2 >= len.div_ceil(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(miri))] // It has no mappings.
    fn what_was_written_is_there_and_asking_brings_nothing() {
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
        assert!(!resident.holds(0, PAGE_BYTES), "the first question brought it");
        // Half of the range, and less.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut vec![0; 4 * PAGE_BYTES], 0).unwrap();
        assert!(resident.holds(0, 8 * PAGE_BYTES) && !resident.holds(0, 9 * PAGE_BYTES));
        // What is not ours to write, and what has no bytes.
        assert!(Resident::of(&file, &dir.path().join("no such file")).is_none());
        assert!(Resident::of(&File::create(&path).unwrap(), &path).is_none());
    }
}
