//! Builds the files of a result from base and log. Every block is written once.
//!
//! The merge determines which blocks have an image. The other blocks are read from the base and
//! written, extent by extent. Then the images are written to their places. Both passes run on all
//! threads. No two of them write the same byte, so the result does not depend on their order or
//! number (law 6).

use crate::error::{Error, Result};
use crate::layout::FilePlace;
use crate::sink::{Sink, SinkFile};
use pitr_archive::{BlockSet, FileChange, Image, Merged};
use pitr_format::FileId;
use pitr_objects::parallel;
use pitr_snapshot::SnapshotReader;
use pitr_vfs::{Access, Buffers, File, FileSystem, Spawn};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files that stay open for the images of the log. Others are opened for each image.
const OPEN_MAX: usize = 256;

/// A file of the result, before it is written.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    /// Path of the file in the result. Empty if the result is this file.
    pub(crate) place: FilePlace,
    /// Length of the file in the snapshot, bytes; 0 if the snapshot doesn't have it.
    pub(crate) before: u64,
    /// Length of the file in the result, bytes.
    pub(crate) len: u64,
}

impl PlannedFile {
    /// Bytes that the file takes on the disk.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let holes = self.place.holes.iter().flatten().map(|(from, to)| to.saturating_sub(*from)).sum();
        self.len.saturating_sub(holes)
    }
}

/// Builds the files of a result under its temporary name.
pub(crate) struct Builder<'a> {
    pub(crate) fs: &'a dyn FileSystem,
    pub(crate) spawn: Spawn,
    /// The temporary name.
    pub(crate) root: &'a Path,
    /// The result, if it is one file.
    pub(crate) single: Option<Arc<dyn File>>,
    pub(crate) base: Option<&'a SnapshotReader>,
    pub(crate) merged: &'a Merged,
    pub(crate) mark: Option<&'static [u8]>,
    /// The existing output, whose extents may be reused.
    pub(crate) old: Option<&'a Path>,
}

/// Files that still lack their images after the base is written.
#[derive(Default)]
pub(crate) struct Written<'a> {
    /// Files that have a mark, or that the log changes. If the result is one file, that file.
    pub(crate) sinks: BTreeMap<FileId, Sink<'a>>,
    /// Bytes written from the snapshot.
    pub(crate) base_bytes: u64,
    /// Bytes that were taken from the existing output.
    pub(crate) reused_bytes: u64,
}

impl<'a> Builder<'a> {
    /// Extents of the base that the files have.
    pub(crate) fn extents(&self, files: &[PlannedFile]) -> Result<u64> {
        files.iter().map(|planned| self.extents_of(planned)).sum()
    }

    fn extents_of(&self, planned: &PlannedFile) -> Result<u64> {
        match self.base.filter(|_| planned.before > 0) {
            Some(base) => Ok(base.extents(planned.place.file)?),
            None => Ok(0),
        }
    }

    /// Creates the files, and writes the parts of the base that the log does not replace.
    pub(crate) fn write_base(
        &self,
        files: Vec<PlannedFile>,
        tick: &(dyn Fn() + Sync),
    ) -> Result<Written<'a>> {
        let written = Mutex::new(Written::default());
        // Small files are written side by side. Large files are written one after the other, each
        // by all threads.
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for planned in files {
            let is_small = self.extents_of(&planned)? <= 1;
            if is_small { &mut small } else { &mut large }.push(planned);
        }
        let write = |planned| self.write_one(planned, tick, &written);
        parallel::map::<_, _, Result<()>>(self.spawn, small, write)?;
        large.into_iter().try_for_each(write)?;
        Ok(written.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_one(
        &self,
        planned: PlannedFile,
        tick: &(dyn Fn() + Sync),
        written: &Mutex<Written<'a>>,
    ) -> Result<()> {
        let has_base = planned.before > 0;
        let PlannedFile { place: FilePlace { file, path, holes }, len, .. } = planned;
        let change = self.merged.files().get(&file);
        let (at, created) = self.create(&path)?;
        let about = SinkFile { len, holes, change, mark: self.mark };
        let mut sink = Sink::begin(self.fs, at, created, about)?;
        let reused = match self.base.filter(|_| has_base) {
            None => 0,
            Some(base) => {
                let (old, replaced) = (self.open_old(&path)?, self.merged.blocks(file));
                BaseWriter { sink: &sink, base, file, change, replaced, spawn: self.spawn, tick }
                    .write(old.as_deref())?
            }
        };
        let is_unfinished = self.single.is_some() || self.mark.is_some() || change.is_some();
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.base_bytes += sink.written();
        written.reused_bytes += reused;
        if is_unfinished {
            if written.sinks.len() >= OPEN_MAX {
                sink.close();
            }
            written.sinks.insert(file, sink);
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> Result<(PathBuf, Arc<dyn File>)> {
        if let Some(single) = &self.single {
            return Ok((self.root.to_owned(), Arc::clone(single)));
        }
        let at = self.root.join(path);
        let created = self.fs.create_private(&at).map_err(Error::io("create", &at))?;
        Ok((at, created))
    }

    /// The file of the existing output at the path of a file of the result.
    fn open_old(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        let Some(old) = self.old else { return Ok(None) };
        if self.single.is_none() {
            // A file that can't be read is not reused.
            return Ok(self.fs.open(&old.join(path), Access::Read).ok());
        }
        match self.fs.open(old, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(Error::io("open", old)),
        }
    }
}

/// Writes the surviving images of the log.
pub(crate) fn write_images(
    sinks: &BTreeMap<FileId, Sink<'_>>,
    merged: &Merged,
    tick: &(dyn Fn() + Sync),
) -> Result<()> {
    merged.par_for_each(|image: Image<'_>| {
        tick();
        let sink = sinks.get(&image.file).ok_or(Error::NotLaidOut { file: image.file })?;
        // The index was checked: block numbers times block size are in the range of their type.
        sink.write(image.block * image.data.len() as u64, image.data)
    })
}

/// Writes the parts of a file of the snapshot that the log does not replace.
struct BaseWriter<'a> {
    sink: &'a Sink<'a>,
    base: &'a SnapshotReader,
    file: FileId,
    /// The log's change of the file.
    change: Option<&'a FileChange>,
    /// The blocks that images of the log replace.
    replaced: Option<&'a BlockSet>,
    spawn: Spawn,
    tick: &'a (dyn Fn() + Sync),
}

impl BaseWriter<'_> {
    /// Writes these parts. Takes extents from `old` where their content is the same, and returns
    /// the number of those bytes.
    fn write(&self, old: Option<&dyn File>) -> Result<u64> {
        let end = self.end()?;
        let mut wanted = Vec::new();
        for extent in 0..self.base.extents(self.file)? {
            if !self.kept(&self.span(extent)?, end).is_empty() {
                wanted.push(extent);
            }
        }
        let mut reused = 0;
        if let Some(old) = old {
            let buffers = Buffers::default();
            let take = |extent: &u64| self.take(old, *extent, end, &buffers);
            let taken: Vec<u64> = parallel::map::<_, _, Result<_>>(self.spawn, &wanted, take)?;
            reused = taken.iter().sum();
            let mut taken = taken.into_iter();
            wanted.retain(|_| taken.next() == Some(0));
        }
        match wanted[..] {
            // This thread reads the only extent of a small file, because other threads read other
            // files.
            [only] => drop(self.put(only, &self.base.read_extent(self.file, only)?, end)?),
            _ => self
                .base
                .read_extents(self.file, &wanted, |extent, bytes| self.put(extent, bytes, end).map(drop))?,
        }
        Ok(reused)
    }

    /// End of the bytes of the base that the log does not replace.
    fn end(&self) -> Result<u64> {
        let len = self.base.file(self.file)?.len;
        Ok(self.change.map_or(len, |change| len.min(change.min_len)).min(self.sink.len()))
    }

    fn span(&self, extent: u64) -> Result<Range<u64>> {
        Ok(self.base.span(self.file, extent)?)
    }

    /// The runs of an extent that the log leaves.
    fn kept(&self, span: &Range<u64>, end: u64) -> Vec<(u64, u64)> {
        if span.start >= end {
            return Vec::new();
        }
        let block_bytes = self.change.and_then(|change| change.block_bytes);
        kept(span.start, span.end.min(end), block_bytes.zip(self.replaced))
    }

    /// Takes an extent from the old file, if the file has it. The hash of the extent decides, never
    /// a time or the file's length (FAILURES 33). Returns the number of bytes taken, or 0.
    fn take(&self, old: &dyn File, extent: u64, end: u64, buffers: &Buffers) -> Result<u64> {
        let span = self.span(extent)?;
        let mut bytes = buffers.lend((span.end - span.start) as usize); // at most a mebibyte
        let is_there = old.read_once_at(&mut bytes, span.start).is_ok_and(|read| read == bytes.len());
        if !is_there || !self.base.is_extent(self.file, extent, &bytes)? {
            return Ok(0);
        }
        // An extent of zeros needs no write, and still counts as taken.
        Ok(self.put(extent, &bytes, end)?.max(1))
    }

    /// Writes the parts of an extent that the log does not replace. Returns the number of bytes
    /// written.
    fn put(&self, extent: u64, bytes: &[u8], end: u64) -> Result<u64> {
        let (span, mut written) = (self.span(extent)?, 0);
        for (from, to) in self.kept(&span, end) {
            // An extent has all of the file's bytes from the extent's start, and runs end at the
            // end of the file.
            let part = &bytes[(from - span.start) as usize..(to - span.start) as usize];
            written += self.sink.write_over_zeros(from, part)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_without_an_image_are_kept(
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
