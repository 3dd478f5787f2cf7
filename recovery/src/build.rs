//! Base and log into one file, every block written once.
//!
//! The merge says which blocks have an image: of the base only the others are read and written, extent by extent, then
//! the images go to their places. Both passes run on all threads; since no two of them write the same byte, the result does
//! not depend on their order or number (law 6).

use crate::error::{Error, Result};
use pitr_archive::{FileChange, Image, Merged};
use pitr_format::FileId;
use pitr_snapshot::{EXTENT_BYTES, SnapshotReader};
use pitr_vfs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes at the head of the result that are written last.
pub(crate) const HEAD_BYTES: u64 = 4096;

/// The file that is built, without its head, which is kept until the end.
pub(crate) struct Sink<'a> {
    file: &'a dyn File,
    len: u64,
    head: Mutex<Vec<u8>>,
    written: AtomicU64,
}

impl<'a> Sink<'a> {
    /// A sink for a file of `len` bytes, all zeros so far.
    pub(crate) fn new(file: &'a dyn File, len: u64) -> io::Result<Self> {
        file.set_len(len.max(crate::output::MARK.len() as u64))?;
        let head = Mutex::new(vec![0; len.min(HEAD_BYTES) as usize]);
        Ok(Sink { file, len, head, written: AtomicU64::new(0) })
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
        if in_head < bytes.len() {
            self.file.write_all_at(&bytes[in_head..], offset + in_head as u64)?;
        }
        Ok(())
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

/// Writes what stays of the base. `change` says what the log does to the file.
pub(crate) fn write_base(
    sink: &Sink<'_>,
    base: &SnapshotReader,
    file: FileId,
    change: Option<&FileChange>,
    failed: &(dyn Fn(io::Error) -> Error + Sync),
    tick: &(dyn Fn() + Sync),
) -> Result<()> {
    let len = base.file(file)?.len;
    let end = change.map_or(len, |change| len.min(change.min_len)).min(sink.len);
    let keep = |extent: u64| kept(extent * EXTENT_BYTES, end.min((extent + 1) * EXTENT_BYTES), change);
    let wanted: Vec<u64> =
        (0..end.div_ceil(EXTENT_BYTES)).filter(|extent| !keep(*extent).is_empty()).collect();
    base.read_extents(file, &wanted, |extent, bytes| {
        let start = extent * EXTENT_BYTES;
        for (from, to) in keep(extent) {
            // An extent holds all of the file's bytes from its start, and runs end where the file does.
            let part = &bytes[(from - start) as usize..(to - start) as usize];
            // Zeros are there already; runs of them stay holes.
            if part.iter().any(|byte| *byte != 0) {
                sink.write(from, part).map_err(failed)?;
            }
        }
        tick();
        Ok(())
    })
}

/// The runs of bytes between two offsets that no image replaces.
fn kept(start: u64, end: u64, change: Option<&FileChange>) -> Vec<(u64, u64)> {
    let Some((change, block_bytes)) = change.and_then(|c| Some((c, u64::from(c.block_bytes?)))) else {
        return vec![(start, end)];
    };
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut at = start;
    while at < end {
        let block = at / block_bytes;
        let next = ((block + 1) * block_bytes).min(end);
        if !change.blocks.contains(block) {
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
            let mut change = FileChange { block_bytes: Some(512), ..FileChange::default() };
            for block in &replaced {
                change.blocks.insert(*block);
            }
            let (start, end) = (start * 512, start * 512 + len);
            let runs = kept(start, end, Some(&change));
            for at in start..end {
                let inside = runs.iter().any(|(from, to)| (*from..*to).contains(&at));
                prop_assert_eq!(inside, !replaced.contains(&(at / 512)), "{}", at);
            }
            prop_assert!(runs.windows(2).all(|w| w[0].1 < w[1].0));
        }
    }
}
