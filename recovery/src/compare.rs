//! Comparison of files with a state of the archive. Writes nothing.
//!
//! The pieces of a file that no image of the log has are compared with the sums that the snapshot's
//! packs hold, and the others with the images. So the content of the snapshot is not read, and a
//! restored file is compared with something other than the bytes that it was written from.

use crate::build::PlannedFile;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::restore::{Phase, Prepared, Progress, Restorer};
use pitr_archive::{BlockSet, Image};
use pitr_format::FileId;
use pitr_objects::parallel;
use pitr_snapshot::{EXTENT_BYTES, SnapshotReader};
use pitr_vfs::{Access, Buffers, File, Loan, Spawn, mix64};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Unit in which content is compared by hash, bytes.
const PIECE_BYTES: u64 = 4096;
/// Differences that are kept. All are counted.
const KEPT: usize = 1000;

/// Opens a file to compare, by its path in the result; `None` if there is no such file.
pub type OpenFile<'a> = dyn Fn(&Path) -> Result<Option<Arc<dyn File>>> + 'a;

/// A part of a file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path of the file below the compared folder; empty if the state is one file.
    pub path: PathBuf,
    /// Range in the file, bytes: a piece of at most 4 KiB, or a block of the log. If the lengths
    /// differ, the range between the two.
    pub range: Range<u64>,
}

/// How much is compared.
#[derive(Clone, Copy)]
pub struct CompareOptions<'a> {
    /// The part of the extents that is compared, 0 to 1. They are chosen at random.
    pub share: f64,
    /// About how many bytes of the files are compared at most; none if `None`. The share is lowered
    /// to that.
    pub bytes_max: Option<u64>,
    /// Decides which extents are chosen.
    pub seed: u64,
    /// Called before each extent, and each block of the log, with its length in bytes. Ends the
    /// comparison if it returns false.
    pub go_on: &'a (dyn Fn(u64) -> bool + Sync),
}

impl std::fmt::Debug for CompareOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CompareOptions { share, bytes_max, seed, go_on: _ } = self;
        let mut out = f.debug_struct("CompareOptions");
        out.field("share", share).field("bytes_max", bytes_max).field("seed", seed).finish_non_exhaustive()
    }
}

impl Default for CompareOptions<'_> {
    /// Everything.
    fn default() -> Self {
        CompareOptions { share: 1.0, bytes_max: None, seed: 0, go_on: &|_| true }
    }
}

impl CompareOptions<'_> {
    /// True if the 1 MiB at `offset` of a file is chosen.
    fn chooses(&self, file: FileId, offset: u64) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let drawn = mix64(self.seed ^ (u64::from(file.get()) << 44) ^ (offset / EXTENT_BYTES));
        (drawn >> 11) as f64 / (1_u64 << 53) as f64 <= self.share
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Bytes that were compared. Blocks that are in the log count once.
    pub bytes: u64,
    /// Number of differences.
    pub count: u64,
    /// False if the caller ended the comparison early, or if `bytes_max` lowered the share.
    pub is_whole: bool,
    /// The first differences, sorted; at most 1,000.
    pub differences: Vec<Difference>,
}

impl Restorer<'_> {
    /// Compares the files at `root` with the state of `plan`: a file, or a folder as the engine
    /// lays it out. `None` if the log has logical records: only the engine knows what these write.
    ///
    /// # Errors
    /// [`Error::Io`]; those of reading the repository. A missing file is a difference.
    pub fn compare(&self, plan: &Plan, root: &Path) -> Result<Option<Comparison>> {
        let open = |path: &Path| {
            let at = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
            match self.fs.open(&at, Access::Read) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                other => other.map(Some).map_err(Error::io("open", &at)),
            }
        };
        self.compare_with(plan, CompareOptions::default(), &open)
    }

    /// Like [`compare`](Self::compare), for files that `open` returns; `None` for a missing file.
    ///
    /// # Errors
    /// Those of [`compare`](Self::compare), and of `open`.
    pub fn compare_with(
        &self,
        plan: &Plan,
        options: CompareOptions<'_>,
        open: &OpenFile<'_>,
    ) -> Result<Option<Comparison>> {
        let Prepared { merged, base, files, .. } = self.prepare(plan, None)?;
        if !merged.logical().is_empty() {
            return Ok(None);
        }
        let len: u64 = files.iter().map(|planned| planned.len).sum();
        let fits = options.bytes_max.map_or(1.0, |most| most as f64 / len.max(1) as f64);
        let is_lowered = fits < options.share;
        let options = CompareOptions { share: options.share.min(fits), ..options };
        let found = Findings::default();
        let total = files.iter().map(|planned| planned.len.div_ceil(EXTENT_BYTES)).sum();
        let tick = self.ticker(Phase::Check, total);
        (self.progress)(Progress { phase: Phase::Check, done: 0, total });
        let mut opened = std::collections::BTreeMap::new();
        for planned in &files {
            let PlannedFile { place, len, before } = planned;
            let Some(file) = open(&place.path)? else {
                found.add(&place.path, 0..*len);
                continue;
            };
            let change = merged.files().get(&place.file);
            let with = Compared {
                planned,
                base: base.as_ref().filter(|_| *before > 0),
                end: change.map_or(u64::MAX, |change| change.min_len).min(*before).min(*len),
                images: merged.blocks(place.file).zip(change.and_then(|change| change.block_bytes)),
                file: file.as_ref(),
                buffers: Buffers::default(),
                found: &found,
                options,
            };
            with.run(self.spawn(), &tick)?;
            if with.images.is_some() {
                opened.insert(place.file, (file, planned));
            }
        }
        merged.par_for_each(|image: Image<'_>| {
            let Some((file, planned)) = opened.get(&image.file) else { return Ok(()) };
            // The index was checked: block numbers times block size are in the range of their type.
            let start = image.block * image.data.len() as u64;
            let end = (start + image.data.len() as u64).min(planned.len).max(start);
            if !found.goes_on(&options, image.file, &(start..end)) {
                return Ok(());
            }
            let mut now = vec![0; (end - start) as usize]; // at most a block
            let path = &planned.place.path;
            file.read_up_to_at(&mut now, start).map_err(Error::io("read", path))?;
            if now != image.data[..now.len()] {
                found.add(path, start..end);
            }
            Ok::<(), Error>(())
        })?;
        let comparison = found.finish();
        Ok(Some(Comparison { is_whole: comparison.is_whole && !is_lowered, ..comparison }))
    }
}

/// Differences, from several threads.
#[derive(Default)]
struct Findings {
    count: AtomicU64,
    /// Bytes that were compared.
    bytes: AtomicU64,
    /// True if the caller has ended the comparison.
    ended: AtomicBool,
    kept: Mutex<Vec<Difference>>,
}

impl Findings {
    fn add(&self, path: &Path, range: Range<u64>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(Difference { path: path.to_owned(), range });
        }
    }

    /// True if a range is chosen, and the caller does not end the comparison before it.
    fn goes_on(&self, options: &CompareOptions<'_>, file: FileId, range: &Range<u64>) -> bool {
        if !options.chooses(file, range.start) || self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let goes_on = (options.go_on)(range.end - range.start);
        if !goes_on {
            self.ended.store(true, Ordering::Relaxed);
        }
        goes_on
    }

    fn finish(self) -> Comparison {
        let mut differences = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        differences.sort_by(|a, b| (&a.path, a.range.start).cmp(&(&b.path, b.range.start)));
        let (bytes, count) = (self.bytes.into_inner(), self.count.into_inner());
        Comparison { bytes, count, is_whole: !self.ended.into_inner(), differences }
    }
}

/// A file, and what it must hold outside the images of the log.
struct Compared<'a> {
    planned: &'a PlannedFile,
    base: Option<&'a SnapshotReader>,
    /// End of the bytes of the base that are in the state.
    end: u64,
    /// Blocks that are in the log, and their size, bytes.
    images: Option<(&'a BlockSet, u32)>,
    file: &'a dyn File,
    buffers: Buffers,
    found: &'a Findings,
    options: CompareOptions<'a>,
}

impl Compared<'_> {
    fn path(&self) -> &Path {
        &self.planned.place.path
    }

    fn run(&self, spawn: Spawn, tick: &(dyn Fn() + Sync)) -> Result<()> {
        let (file, wanted) = (self.planned.place.file, self.planned.len);
        let len = self.file.len().map_err(Error::io("measure", self.path()))?;
        if len != wanted {
            self.found.add(self.path(), len.min(wanted)..len.max(wanted));
        }
        // A file without blocks is not changed by a log.
        let cut = match self.base {
            Some(base) if !base.file(file)?.has_blocks() => Some((base, base.extents(file)?)),
            _ => None,
        };
        let extents = cut.map_or(wanted.div_ceil(EXTENT_BYTES), |(_, extents)| extents);
        parallel::map(spawn, 0..extents, |extent| {
            tick();
            match cut {
                Some((base, _)) => self.cut_extent(base, extent),
                None => self.extent(extent),
            }
        })
    }

    /// True if a range is to be compared.
    fn begins(&self, span: &Range<u64>) -> bool {
        let begins = self.found.goes_on(&self.options, self.planned.place.file, span);
        if begins {
            self.found.bytes.fetch_add(span.end - span.start, Ordering::Relaxed);
        }
        begins
    }

    /// The bytes of a range of the file, with zeros after its end.
    fn read(&self, range: &Range<u64>) -> Result<Loan> {
        let mut now = self.buffers.lend((range.end - range.start) as usize); // at most an extent
        let read = self.file.read_once_at(&mut now, range.start);
        let read = read.map_err(Error::io("read", self.path()))?;
        now[read..].fill(0);
        Ok(now)
    }

    /// Compares an extent of a file without blocks.
    fn cut_extent(&self, base: &SnapshotReader, extent: u64) -> Result<()> {
        let span = base.span(self.planned.place.file, extent)?;
        if !self.begins(&span) {
            return Ok(());
        }
        if !base.is_extent(self.planned.place.file, extent, &self.read(&span)?)? {
            self.found.add(self.path(), span);
        }
        Ok(())
    }

    /// Compares 1 MiB of the file, from a multiple of 1 MiB.
    fn extent(&self, extent: u64) -> Result<()> {
        let span = extent * EXTENT_BYTES..((extent + 1) * EXTENT_BYTES).min(self.planned.len);
        if !self.begins(&span) {
            return Ok(());
        }
        let now = self.read(&span)?;
        let base = self.base.filter(|_| span.start < self.end);
        let differing = match base {
            Some(base) => base.differing(self.planned.place.file, extent, &now)?,
            None => now.chunks(PIECE_BYTES as usize).map(|piece| piece.iter().any(|b| *b != 0)).collect(),
        };
        for (start, differs) in (span.start..span.end).step_by(PIECE_BYTES as usize).zip(differing) {
            let piece = start..(start + PIECE_BYTES).min(span.end);
            // The base may have content where the state has none.
            let is_cut = base.is_some() && piece.end > self.end;
            if !(differs || is_cut) || self.is_in_log(&piece) {
                continue;
            }
            let bytes = &now[(piece.start - span.start) as usize..(piece.end - span.start) as usize];
            if !self.is_equal(&piece, bytes)? {
                self.found.add(self.path(), piece);
            }
        }
        Ok(())
    }

    /// True if each byte of the range is in an image.
    fn is_in_log(&self, range: &Range<u64>) -> bool {
        let Some((blocks, block_bytes)) = self.images else { return false };
        let size = u64::from(block_bytes.max(1));
        (range.start / size..range.end.div_ceil(size)).all(|block| blocks.contains(block))
    }

    /// Compares a piece byte by byte, without the bytes that are in images.
    fn is_equal(&self, piece: &Range<u64>, now: &[u8]) -> Result<bool> {
        let mut expected = vec![0; now.len()];
        let of_base = self.end.clamp(piece.start, piece.end) - piece.start;
        if let Some(base) = self.base.filter(|_| of_base > 0) {
            base.read_at(self.planned.place.file, piece.start, &mut expected[..of_base as usize])?;
        }
        let size = self.images.map_or(PIECE_BYTES, |(_, size)| u64::from(size.max(1)).min(PIECE_BYTES));
        let mut parts = (piece.start..piece.end).step_by(size as usize);
        Ok(parts.all(|start| {
            let part = start..(start + size).min(piece.end);
            let here = (part.start - piece.start) as usize..(part.end - piece.start) as usize;
            now[here.clone()] == expected[here] || self.is_in_log(&part)
        }))
    }
}
