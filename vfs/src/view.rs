//! A read-only view of the first bytes of a file: one of three places with `unsafe` in this crate.
//!
//! # What it relies on
//! A mapped view is the file itself: whoever changes the file changes the view, under a `&[u8]` of which the compiler
//! believes that it stands still, and whoever cuts it takes pages away: touching one of them ends the process
//! (`SIGBUS`). So [`crate::File::view`] may be asked only for bytes that nobody changes or cuts while the view lives.
//! The file may lose its name meanwhile; its pages stay until the view is dropped.
//!
//! Everything above works on `&[u8]` and can't tell a mapping from memory.
#![allow(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::ops::Deref;

/// See the module's head. It holds either a mapping or the bytes themselves.
pub struct View(Bytes);

enum Bytes {
    Held(Vec<u8>),
    Mapped(memmap2::Mmap),
}

impl View {
    /// Maps the first `len` bytes; [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    pub(crate) fn map(file: &fs::File, len: u64) -> io::Result<View> {
        let bytes = bounded(len, file.metadata()?.len())?;
        if bytes == 0 {
            return Ok(View(Bytes::Held(Vec::new())));
        }
        let mut options = memmap2::MmapOptions::new();
        // All of it is going to be read: one walk over the page tables instead of a fault for each few pages.
        options.len(bytes).populate();
        // SAFETY: the bytes behind the slice must stand still and stay there. The callers of `File::view` see to the
        // first: they ask for parts of files that are never written again by this program, as sealed segments, which
        // are neither cut nor recycled while a view pins them. Another program could break it: by writing, which the
        // checksums show as damage, or by cutting the file, which ends this process with SIGBUS. The log's folder is
        // locked against other writers of ours, and `docs/format/wal.md` says so to everyone else. That no byte was
        // beyond the end when it was mapped is checked above.
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

/// `len` as a length in memory, if a file of `file_len` bytes has that many.
pub(crate) fn bounded(len: u64, file_len: u64) -> io::Result<usize> {
    match usize::try_from(len) {
        Ok(bytes) if len <= file_len => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than the view asked for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(miri))]
    use crate::{FileSystem, OsFs};

    #[test]
    #[cfg(not(miri))] // It has no mappings; what stands above them runs there on held bytes.
    fn a_view_is_the_begin_of_the_file_and_outlives_its_name() {
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
    #[cfg(not(miri))] // It has no mappings; what stands above them runs there on held bytes.
    fn more_than_the_file_has_is_refused_before_it_is_mapped() {
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
    fn held_bytes_are_a_view_too() {
        let view = View::from(vec![1, 2, 3]);
        assert_eq!((view.as_ref(), view.len()), (&[1, 2, 3][..], 3));
    }
}
