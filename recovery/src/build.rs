//! Builds the files of a result from base and log in one pass. Every block is written once.
//!
//! The surviving images of the log are gathered first ([`Gathered`]). Then each extent is put
//! together from the base and its images, and written whole, past the system's cache. An extent of
//! which images have every byte is not read from the base. All threads work on different extents,
//! so the result does not depend on their order or number (law 6).
//!
//! # Old content
//! An extent is not fetched if the content is there already: in the file itself, which an
//! interrupted restore left or which is updated in place, or in another file. Contents decide, by
//! their hashes, never a time or a length (FAILURES 33).

use crate::error::{Error, Result};
use crate::gather::{Gathered, Gathering, Overlay, REGION_BYTES};
use crate::layout::FilePlace;
use crate::sink::{Sink, SinkFile};
use crate::writers::{Ready, Writers};
use pitr_archive::{FileChange, Image, Merged};
use pitr_format::FileId;
use pitr_objects::parallel;
use pitr_snapshot::{EXTENT_BYTES, SnapshotReader};
use pitr_vfs::{Access, Buffers, File, FileSystem, Loan, Spawn};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Marked files that stay open until the end. Others are opened again.
const OPEN_MAX: usize = 256;
/// Regions of a file that are written at the same time: the disk works for one while another is put
/// together. Their images are in memory.
const REGIONS_AT_ONCE: usize = 3;
/// Unit in which content is compared by hash, bytes.
const PIECE_BYTES: u64 = 4096;

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
    /// True if the temporary name has old content.
    pub(crate) is_resumed: bool,
    pub(crate) base: Option<&'a SnapshotReader>,
    pub(crate) merged: &'a Merged,
    pub(crate) mark: Option<&'static [u8]>,
    /// The existing output, whose extents may be reused.
    pub(crate) old: Option<&'a Path>,
}

/// The written files.
#[derive(Default)]
pub(crate) struct Written<'a> {
    /// Files that have a mark. If the result is one file, that file.
    pub(crate) sinks: BTreeMap<FileId, Sink<'a>>,
    /// Bytes of the snapshot in the result.
    pub(crate) base_bytes: u64,
    /// Bytes of these that were there already.
    pub(crate) reused_bytes: u64,
}

/// Bytes that the images of a restore take, each with a few bytes more.
pub(crate) fn image_bytes(merged: &Merged) -> u64 {
    merged.files().iter().map(|(file, change)| of_images(merged, *file, change)).sum()
}

fn of_images(merged: &Merged, file: FileId, change: &FileChange) -> u64 {
    let each = u64::from(change.block_bytes.unwrap_or(0)) + 16;
    merged.blocks(file).map_or(0, |blocks| blocks.len().saturating_mul(each))
}

impl<'a> Builder<'a> {
    /// Gathers the surviving images of the log.
    pub(crate) fn gather(
        &self,
        files: &[PlannedFile],
        spill: &Path,
        memory: usize,
        tick: &(dyn Fn() + Sync),
    ) -> Result<Gathered> {
        let gathering = files.iter().filter_map(|planned| {
            let (file, len) = (planned.place.file, planned.len);
            let change = self.merged.files().get(&file).filter(|change| change.block_bytes.is_some())?;
            Some(Gathering { file, len, image_bytes: of_images(self.merged, file, change) })
        });
        let gathered = Gathered::new(self.fs, spill, &gathering.collect::<Vec<_>>(), memory)?;
        self.merged.par_for_each(|image: Image<'_>| {
            tick();
            // The index was checked: block numbers times block size are in the range of their type.
            gathered.add(image.file, image.block * image.data.len() as u64, image.data)
        })?;
        Ok(gathered)
    }

    /// Number of extents of the files.
    pub(crate) fn extents(&self, files: &[PlannedFile]) -> Result<u64> {
        files.iter().map(|planned| self.extents_of(planned)).sum()
    }

    fn extents_of(&self, planned: &PlannedFile) -> Result<u64> {
        let of_base = match self.base.filter(|_| planned.before > 0) {
            Some(base) => base.extents(planned.place.file)?,
            None => 0,
        };
        Ok(of_base.max(planned.len.div_ceil(EXTENT_BYTES)))
    }

    /// Creates the files and writes them.
    pub(crate) fn write(
        &self,
        files: Vec<PlannedFile>,
        gathered: &Gathered,
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
        let write = |planned| self.write_one(planned, gathered, tick, &written);
        parallel::map::<_, _, Result<()>>(self.spawn, small, write)?;
        large.into_iter().try_for_each(write)?;
        Ok(written.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_one(
        &self,
        planned: PlannedFile,
        gathered: &Gathered,
        tick: &(dyn Fn() + Sync),
        written: &Mutex<Written<'a>>,
    ) -> Result<()> {
        let base = self.base.filter(|_| planned.before > 0);
        let is_small = self.extents_of(&planned)? <= 1;
        let PlannedFile { place: FilePlace { file, path, holes }, len, .. } = planned;
        let change = self.merged.files().get(&file);
        let (at, opened, is_fresh) = self.create(&path)?;
        let mut old = Vec::new();
        if !is_fresh {
            old.push(Old { file: Arc::clone(&opened), is_result: true });
        }
        old.extend(self.open_old(&path)?.map(|file| Old { file, is_result: false }));
        let mut sink = Sink::begin(self.fs, at, opened, SinkFile { len, holes, is_fresh, mark: self.mark })?;
        let end = match base {
            None => 0,
            Some(base) => {
                let len = base.file(file)?.len.min(len);
                change.map_or(len, |change| len.min(change.min_len))
            }
        };
        let (base_bytes, reused_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let (buffers, spawn) = (Buffers::default(), self.spawn);
        let has_images = change.is_some_and(|change| change.block_bytes.is_some());
        let write = |ready: Ready| {
            let written = sink.put(ready.offset, &ready.bytes)?;
            if let Some(of_log) = ready.of_log {
                base_bytes.fetch_add(written.saturating_sub(of_log), Ordering::Relaxed);
            }
            tick();
            Ok(())
        };
        let build = |writers: &Writers<'_>| {
            let (sink, base_bytes, reused_bytes) = (&sink, &base_bytes, &reused_bytes);
            let writer = FileWriter {
                sink,
                writers,
                file,
                base,
                end,
                old,
                buffers,
                spawn,
                tick,
                base_bytes,
                reused_bytes,
            };
            writer.write(gathered, has_images, change.is_some())
        };
        match is_small || spawn.is_inline() {
            true => build(&Writers::Caller(&write))?,
            false => Writers::run(&write, build)?,
        }
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.base_bytes += base_bytes.into_inner();
        written.reused_bytes += reused_bytes.into_inner();
        if self.single.is_some() || self.mark.is_some() {
            if written.sinks.len() >= OPEN_MAX {
                sink.close();
            }
            written.sinks.insert(file, sink);
        }
        Ok(())
    }

    /// The file at a path of the result, and true if it is new.
    fn create(&self, path: &Path) -> Result<(PathBuf, Arc<dyn File>, bool)> {
        if let Some(single) = &self.single {
            return Ok((self.root.to_owned(), Arc::clone(single), !self.is_resumed));
        }
        let at = self.root.join(path);
        if self.is_resumed {
            match self.fs.open(&at, Access::ReadWrite) {
                Ok(file) => return Ok((at, file, false)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // A file that can't be opened is replaced.
                Err(_) => self.fs.remove_all(&at).map_err(Error::io("remove", &at))?,
            }
        }
        let created = self.fs.create_private(&at).map_err(Error::io("create", &at))?;
        Ok((at, created, true))
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

/// A file with content that may be that of the result.
struct Old {
    file: Arc<dyn File>,
    /// True if this is the file that is written.
    is_result: bool,
}

/// An extent of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extent {
    /// Number of the snapshot's extent that starts here.
    number: Option<u64>,
    /// Its bytes in the result.
    span: Range<u64>,
}

/// Writes one file.
struct FileWriter<'a> {
    sink: &'a Sink<'a>,
    writers: &'a Writers<'a>,
    file: FileId,
    base: Option<&'a SnapshotReader>,
    /// End of the bytes of the base that are in the result.
    end: u64,
    old: Vec<Old>,
    buffers: Buffers,
    spawn: Spawn,
    tick: &'a (dyn Fn() + Sync),
    base_bytes: &'a AtomicU64,
    reused_bytes: &'a AtomicU64,
}

impl FileWriter<'_> {
    fn write(&self, gathered: &Gathered, has_images: bool, is_changed: bool) -> Result<()> {
        let extents = self.split(is_changed)?;
        if !has_images {
            return self.write_extents(extents, &Overlay::default());
        }
        let region = |extent: &Extent| extent.span.start / REGION_BYTES;
        let regions: Vec<&[Extent]> = extents.chunk_by(|a, b| region(a) == region(b)).collect();
        let next = AtomicUsize::new(0);
        let write = || {
            while let Some(of_region) = regions.get(next.fetch_add(1, Ordering::Relaxed)) {
                let overlay = gathered.take(self.file, region(&of_region[0]))?; // never empty
                self.write_extents(of_region.to_vec(), &overlay)?;
            }
            Ok(())
        };
        parallel::map(self.spawn, 0..REGIONS_AT_ONCE, |_| {
            // After an error, no other region is begun.
            write().inspect_err(|_: &Error| next.store(regions.len(), Ordering::Relaxed))
        })
    }

    /// The extents of the result. They start where those of the base do.
    fn split(&self, is_changed: bool) -> Result<Vec<Extent>> {
        let (mut extents, mut at) = (Vec::new(), 0);
        if let Some(base) = self.base {
            let has_blocks = base.file(self.file)?.has_blocks();
            if is_changed && !has_blocks {
                return Err(Error::OtherShape { file: self.file });
            }
            for number in 0..base.extents(self.file)? {
                let start = base.span(self.file, number)?.start;
                if start >= self.sink.len() {
                    break;
                }
                at = if has_blocks { start + EXTENT_BYTES } else { base.span(self.file, number)?.end };
                extents.push(Extent { number: Some(number), span: start..at.min(self.sink.len()) });
            }
        }
        while at < self.sink.len() {
            let next = (at + EXTENT_BYTES).min(self.sink.len());
            extents.push(Extent { number: None, span: at..next });
            at = next;
        }
        Ok(extents)
    }

    fn write_extents(&self, mut extents: Vec<Extent>, overlay: &Overlay) -> Result<()> {
        if !self.old.is_empty() {
            let reuse = |extent: &Extent| self.reuse(extent, overlay);
            let reused: Vec<bool> = parallel::map::<_, _, Result<_>>(self.spawn, &extents, reuse)?;
            let mut reused = reused.into_iter();
            extents.retain(|_| reused.next() == Some(false));
        }
        let (from_base, others): (Vec<Extent>, Vec<Extent>) =
            extents.into_iter().partition(|extent| self.needs_base(extent, overlay));
        parallel::map::<_, _, Result<()>>(self.spawn, others, |extent: Extent| {
            let mut bytes = self.buffers.lend((extent.span.end - extent.span.start) as usize);
            bytes.fill(0);
            self.put(&extent, bytes, overlay)
        })?;
        let Some(base) = self.base else { return Ok(()) };
        let number = |extent: &Extent| extent.number.unwrap_or_default(); // each has one
        match &from_base[..] {
            [] => Ok(()),
            // This thread reads the only extent of a small file, because other threads read other
            // files.
            [only] => {
                let read = base.read_extent(self.file, number(only))?;
                let mut bytes = self.buffers.lend(read.len());
                bytes.copy_from_slice(&read);
                self.complete(only, bytes, overlay)
            }
            _ => {
                let numbers: Vec<u64> = from_base.iter().map(number).collect();
                base.read_extents(self.file, &numbers, |wanted, bytes| {
                    let extent = numbers.binary_search(&wanted).ok().map(|place| &from_base[place]);
                    let extent =
                        extent.ok_or(pitr_snapshot::Error::NoExtent { file: self.file, extent: wanted });
                    self.complete(extent?, bytes, overlay)
                })
            }
        }
    }

    /// The bytes of an extent that may be those of the base.
    fn of_base(&self, extent: &Extent) -> Range<u64> {
        match extent.number {
            Some(_) => extent.span.start..extent.span.end.min(self.end).max(extent.span.start),
            None => extent.span.start..extent.span.start,
        }
    }

    fn needs_base(&self, extent: &Extent, overlay: &Overlay) -> bool {
        !overlay.covers(&self.of_base(extent))
    }

    /// Writes an extent from the bytes of the base, which may be shorter or longer.
    fn complete(&self, extent: &Extent, mut of_base: Loan, overlay: &Overlay) -> Result<()> {
        let len = (extent.span.end - extent.span.start) as usize; // at most EXTENT_BYTES
        of_base.buffer().resize(len);
        self.put(extent, of_base, overlay)
    }

    /// Writes an extent. `bytes` has what the base has, or zeros.
    fn put(&self, extent: &Extent, mut bytes: Loan, overlay: &Overlay) -> Result<()> {
        let of_base = self.of_base(extent);
        bytes[(of_base.end - extent.span.start) as usize..].fill(0);
        overlay.apply(extent.span.start, &mut bytes);
        let of_log = (!of_base.is_empty()).then(|| overlay.bytes_in(&extent.span));
        self.writers.write(Ready { offset: extent.span.start, bytes, of_log })
    }

    /// Uses old content for an extent, if it has the bytes of the base that the log leaves. True if
    /// the extent is done.
    fn reuse(&self, extent: &Extent, overlay: &Overlay) -> Result<bool> {
        let len = (extent.span.end - extent.span.start) as usize; // at most EXTENT_BYTES
        for old in &self.old {
            if old.is_result && self.sink.withholds(extent.span.start) {
                continue;
            }
            let mut bytes = self.buffers.lend(len);
            let read = old.file.read_once_at(&mut bytes, extent.span.start).unwrap_or(0);
            let of_base = self.of_base(extent);
            if ((of_base.end - extent.span.start) as usize) > read
                || !self.has_base(extent, &bytes, overlay)?
            {
                continue;
            }
            bytes[read..].fill(0);
            let kept = (of_base.end - of_base.start).saturating_sub(overlay.bytes_in(&of_base));
            if old.is_result {
                let rest = &mut bytes[(of_base.end - extent.span.start) as usize..];
                let had_rest =
                    rest.iter().any(|byte| *byte != 0) && !overlay.covers(&(of_base.end..extent.span.end));
                if had_rest {
                    rest.fill(0);
                }
                let is_changed = overlay.apply(extent.span.start, &mut bytes);
                if had_rest || is_changed {
                    self.sink.put(extent.span.start, &bytes)?;
                }
                self.base_bytes.fetch_add(kept, Ordering::Relaxed);
                (self.tick)();
            } else {
                self.put(extent, bytes, overlay)?;
            }
            self.reused_bytes.fetch_add(kept, Ordering::Relaxed);
            return Ok(true);
        }
        Ok(false)
    }

    /// True if `bytes` has the bytes of the base that the log leaves, according to their hashes.
    fn has_base(&self, extent: &Extent, bytes: &[u8], overlay: &Overlay) -> Result<bool> {
        let of_base = self.of_base(extent);
        let (Some(base), Some(number)) = (self.base, extent.number) else { return Ok(true) };
        if overlay.covers(&of_base) {
            return Ok(true);
        }
        let whole = base.span(self.file, number)?;
        let Some(now) = bytes.get(..(whole.end - whole.start) as usize) else { return Ok(false) };
        if overlay.is_empty() && of_base.end == whole.end {
            return Ok(base.is_extent(self.file, number, now)?);
        }
        if !base.file(self.file)?.has_blocks() {
            return Ok(false);
        }
        let differing = match base.differing(self.file, number, now) {
            Err(pitr_snapshot::Error::Chunks(e)) if e.kind().is_of_one_object() => return Ok(false),
            other => other?,
        };
        let starts = (extent.span.start..).step_by(PIECE_BYTES as usize);
        let missing = starts.zip(differing).filter(|(_, differs)| *differs).any(|(start, _)| {
            let piece = start..(start + PIECE_BYTES).min(of_base.end).max(start);
            !overlay.covers(&piece)
        });
        Ok(!missing)
    }
}
