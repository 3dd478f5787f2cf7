//! A read-only view of the first bytes of a file. This is one of three modules with `unsafe` in
//! this crate.
//!
//! # Requirements
//! A mapped view is the file itself. A change of the file changes the view, although the compiler
//! assumes that a `&[u8]` is constant. Truncating the file removes pages, and an access to a
//! removed page ends the process (`SIGBUS`). So callers may request [`crate::File::view`] only for
//! bytes that are neither changed nor truncated while the view lives. The file may lose its name in
//! that time; its pages stay until the view is dropped.
//!
//! All callers work on `&[u8]` and cannot distinguish a mapping from memory.
#![allow(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::ops::Deref;

/// The first bytes of a file, mapped or in memory; see the module documentation.
pub struct View(Bytes);

enum Bytes {
    Held(Vec<u8>),
    Mapped(memmap2::Mmap),
}

impl View {
    /// Maps the first `len` bytes. Returns [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    pub(crate) fn map(file: &fs::File, len: u64) -> io::Result<View> {
        let bytes = bounded(len, file.metadata()?.len())?;
        if bytes == 0 {
            return Ok(View(Bytes::Held(Vec::new())));
        }
        let mut options = memmap2::MmapOptions::new();
        // The whole view will be read. Populating walks the page tables once, instead of one fault
        // for each few pages.
        options.len(bytes).populate();
        // SAFETY: the mapped bytes must not change or disappear. Callers of `File::view` ensure
        // that this program does neither: they request parts of files that it never writes again,
        // such as sealed segments, which are neither truncated nor recycled while a view pins them.
        // Another program could violate this. A write is detected as damage by the checksums; a
        // truncation ends this process with SIGBUS. The log's folder is locked against other
        // writers of this program, and `docs/format/wal.md` documents the rule for all others. The
        // check above ensures that no byte was beyond the end at the time of the mapping.
        let mapped = unsafe { options.map(file) }?;
        Ok(View(Bytes::Mapped(mapped)))
    }
}

impl From<Vec<u8>> for View {
    fn from(bytes: Vec<u8>) -> Self {
        View(Bytes::Held(bytes))
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Held(bytes) => bytes,
            Bytes::Mapped(mapped) => mapped,
        }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapped = matches!(self.0, Bytes::Mapped(_));
        f.debug_struct("View").field("len", &self.len()).field("mapped", &mapped).finish()
    }
}

/// Converts `len` to a length in memory, if a file of `file_len` bytes has that many.
pub(crate) fn bounded(len: u64, file_len: u64) -> io::Result<usize> {
    match usize::try_from(len) {
        Ok(bytes) if len <= file_len => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than the requested view")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(miri))]
    use crate::{FileSystem, OsFs};

    #[test]
    #[cfg(not(miri))] // miri has no mappings; the callers run there on bytes in memory
    fn a_view_holds_the_start_of_the_file_and_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = OsFs.create_new(&path).unwrap();
        let bytes: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let view = file.view(9_000).unwrap();
        assert!(matches!(view.0, Bytes::Mapped(_)));
        OsFs.remove_file(&path).unwrap();
        drop(file);
        assert!(view[..] == bytes[..9_000]);
        assert_eq!(format!("{view:?}"), "View { len: 9000, mapped: true }");
    }

    #[test]
    #[cfg(not(miri))] // miri has no mappings; the callers run there on bytes in memory
    fn a_view_beyond_the_end_of_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.create_new(&dir.path().join("f")).unwrap();
        assert!(file.view(0).unwrap().is_empty());
        file.write_all_at(&[7; 5], 0).unwrap();
        for len in [6, 4096, u64::MAX] {
            assert_eq!(file.view(len).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{len}");
        }
        assert_eq!(&file.view(5).unwrap()[..], &[7; 5]);
    }

    #[test]
    fn bytes_in_memory_are_a_view() {
        let view = View::from(vec![1, 2, 3]);
        assert_eq!((view.as_ref(), view.len()), (&[1, 2, 3][..], 3));
    }
}
