//! Base and log into one file, every block written once.
//!
//! The merge says which blocks have an image: of the base only the others are read and written, extent by extent, then
//! the images go to their places. Both passes run on all threads; since no two of them write the same byte, the result does
//! not depend on their order or number (law 6).

use crate::error::{Error, Result};
use pitr_archive::{BlockSet, FileChange, Image, Merged};
use pitr_format::FileId;
use pitr_snapshot::SnapshotReader;
use pitr_vfs::{Buffer, File};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes at the head of the result that are written last.
pub(crate) const HEAD_BYTES: u64 = 4096;
/// A page of the system's cache, bytes.
const PAGE_BYTES: u32 = 4096;

/// The file that is built, without its head, which is kept until the end.
pub(crate) struct Sink<'a> {
    file: &'a dyn File,
    len: u64,
    is_cached: bool,
    head: Mutex<Vec<u8>>,
    written: AtomicU64,
}

impl<'a> Sink<'a> {
    /// A sink for a file of `len` bytes, all zeros so far, with the log that goes over it.
    pub(crate) fn new(file: &'a dyn File, len: u64, change: Option<&FileChange>) -> io::Result<Self> {
        file.set_len(len.max(crate::output::MARK.len() as u64))?;
        let head = Mutex::new(vec![0; len.min(HEAD_BYTES) as usize]);
        // Over parts of pages blocks are written only after the pages were read.
        let is_cached = change.and_then(|change| change.block_bytes).is_some_and(|bytes| bytes < PAGE_BYTES);
        Ok(Sink { file, len, is_cached, head, written: AtomicU64::new(0) })
    }

    /// Writes bytes; what lies behind the end of the file is left out.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fits = self.len.saturating_sub(offset).min(bytes.len() as u64);
        let bytes = &bytes[..fits as usize];
        self.written.fetch_add(fits, Ordering::Relaxed);
        let in_head = HEAD_BYTES.saturating_sub(offset).min(fits) as usize;
        if in_head > 0 {
            let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            head[offset as usize..offset as usize + in_head].copy_from_slice(&bytes[..in_head]);
        }
        let (bytes, offset) = (&bytes[in_head..], offset + in_head as u64);
        match self.is_cached {
            true => self.file.write_all_at(bytes, offset),
            false => self.file.write_once_at(bytes, offset),
        }
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Cuts the file to its exact length and gives back its head.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        if self.len < crate::output::MARK.len() as u64 {
            // A file shorter than the mark loses it here; such a one is no database.
            self.file.set_len(self.len)?;
        }
        Ok(self.head.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes what stays of a snapshot's file.
pub(crate) struct BaseWriter<'a, 's> {
    pub(crate) sink: &'a Sink<'s>,
    pub(crate) base: &'a SnapshotReader,
    pub(crate) file: FileId,
    /// What the log does to the file.
    pub(crate) change: Option<&'a FileChange>,
    /// The blocks that images of the log replace.
    pub(crate) replaced: Option<&'a BlockSet>,
    pub(crate) failed: &'a (dyn Fn(io::Error) -> Error + Sync),
    pub(crate) tick: &'a (dyn Fn() + Sync),
}

impl BaseWriter<'_, '_> {
    /// Writes it; extents that `old` holds are taken from there. Returns how many bytes these are.
    pub(crate) fn write(&self, old: Option<&dyn File>) -> Result<u64> {
        let end = self.end()?;
        let mut wanted = Vec::new();
        for extent in 0..self.base.extents(self.file)? {
            if !self.kept(&self.span(extent)?, end).is_empty() {
                wanted.push(extent);
            }
        }
        let mut reused = 0;
        if let Some(old) = old {
            let taken = wanted
                .par_iter()
                .map_init(Buffer::default, |bytes, extent| self.take(old, *extent, end, bytes));
            let taken: Vec<u64> = taken.collect::<Result<_>>()?;
            reused = taken.iter().sum();
            let mut taken = taken.into_iter();
            wanted.retain(|_| taken.next() == Some(0));
        }
        self.base.read_extents(self.file, &wanted, |extent, bytes| self.put(extent, bytes, end).map(drop))?;
        Ok(reused)
    }

    /// Where what stays of the base ends.
    fn end(&self) -> Result<u64> {
        let len = self.base.file(self.file)?.len;
        Ok(self.change.map_or(len, |change| len.min(change.min_len)).min(self.sink.len))
    }

    fn span(&self, extent: u64) -> Result<Range<u64>> {
        Ok(self.base.span(self.file, extent)?)
    }

    /// What stays of an extent that lies there.
    fn kept(&self, span: &Range<u64>, end: u64) -> Vec<(u64, u64)> {
        if span.start >= end {
            return Vec::new();
        }
        let block_bytes = self.change.and_then(|change| change.block_bytes);
        kept(span.start, span.end.min(end), block_bytes.zip(self.replaced))
    }

    /// Takes an extent from the old file, if it is there. Its hash says so, never its time or the file's length
    /// (FAILURES 33). Returns its bytes, or 0.
    fn take(&self, old: &dyn File, extent: u64, end: u64, bytes: &mut Buffer) -> Result<u64> {
        let span = self.span(extent)?;
        bytes.set_len((span.end - span.start) as usize); // at most a mebibyte
        let is_there = old.read_once_at(bytes, span.start).is_ok_and(|read| read == bytes.len());
        if !is_there || !self.base.is_extent(self.file, extent, bytes)? {
            return Ok(0);
        }
        // An extent of zeros is there, and costs nothing to have taken.
        Ok(self.put(extent, bytes, end)?.max(1))
    }

    /// Writes what stays of an extent; returns how many bytes it wrote.
    fn put(&self, extent: u64, bytes: &[u8], end: u64) -> Result<u64> {
        let (span, mut written) = (self.span(extent)?, 0);
        for (from, to) in self.kept(&span, end) {
            // An extent holds all of the file's bytes from its start, and runs end where the file does.
            let part = &bytes[(from - span.start) as usize..(to - span.start) as usize];
            // Zeros are there already; runs of them stay holes.
            if part.iter().any(|byte| *byte != 0) {
                self.sink.write(from, part).map_err(self.failed)?;
                written += part.len() as u64;
            }
        }
        (self.tick)();
        Ok(written)
    }
}

/// The runs of bytes between two offsets that no image replaces.
fn kept(start: u64, end: u64, replaced: Option<(u32, &BlockSet)>) -> Vec<(u64, u64)> {
    let Some((block_bytes, replaced)) = replaced else { return vec![(start, end)] };
    let block_bytes = u64::from(block_bytes);
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut at = start;
    while at < end {
        let block = at / block_bytes;
        let next = ((block + 1) * block_bytes).min(end);
        if !replaced.contains(block) {
            match runs.last_mut() {
                Some(run) if run.1 == at => run.1 = next,
                _ => runs.push((at, next)),
            }
        }
        at = next;
    }
    runs
}

/// Writes the surviving images of a file.
pub(crate) fn write_images(
    sink: &Sink<'_>,
    merged: &Merged,
    failed: &(dyn Fn(io::Error) -> Error + Sync),
    tick: &(dyn Fn() + Sync),
) -> Result<()> {
    merged.par_for_each(|image: Image<'_>| {
        tick();
        // The index was checked: block numbers times block size stay within their range.
        sink.write(image.block * image.data.len() as u64, image.data).map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_no_image_replaces(
            replaced in prop::collection::btree_set(0u64..40, 0..30), start in 0u64..20, len in 0u64..6000,
        ) {
            let mut blocks = BlockSet::default();
            for block in &replaced {
                blocks.insert(*block);
            }
            let (start, end) = (start * 512, start * 512 + len);
            let runs = kept(start, end, Some((512, &blocks)));
            for at in start..end {
                let inside = runs.iter().any(|(from, to)| (*from..*to).contains(&at));
                prop_assert_eq!(inside, !replaced.contains(&(at / 512)), "{}", at);
            }
            prop_assert!(runs.windows(2).all(|w| w[0].1 < w[1].0));
        }
    }
}
