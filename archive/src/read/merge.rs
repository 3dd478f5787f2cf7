//! The newest committed image of every block between two positions of a history.
//!
//! There are two passes, and neither holds the data in memory. The first reads the footers, newest
//! object first. It keeps one bit for each block (is its newest image found?) and one for each
//! image (does it survive?): see [`select`]. The second reads only the frames with surviving
//! images, verifies and decodes them on rayon with a bounded look-ahead, and returns each surviving
//! image once.
//!
//! Logical records have no newest one that replaces the others: all that count are passed on, in
//! LSN order, by a pass of their own: see [`records`]. A caller that can't apply them is refused
//! with an error before: see [`logical`].

mod blocks;
mod logical;
mod records;
mod select;
mod stream;

pub use blocks::BlockSet;
pub use logical::Logical;
pub use stream::Image;

use crate::archive::{Archive, LogObject};
use crate::error::{Error, Result};
use crate::history::{Piece, runs};
use bit_vec::BitVec;
use pitr_format::{FileId, Lsn};
use pitr_objects::parallel;
use pitr_redo::{BlockImage, FileChange};
use select::{Crossing, Selected, Selection};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use stream::{FrameRun, Seams, deliver, fetch};

/// Number of footers that are held at a time.
const OBJECTS_AHEAD: usize = 16;
/// Runs of frames that are fetched at the same time, and that wait to be decoded.
const RUNS_AHEAD: usize = 4;

/// The newest committed image of every block in a span of the log; made by [`Merged::new`].
#[derive(Debug)]
pub struct Merged {
    archive: Archive,
    objects: Vec<(Piece, Option<BitVec>)>,
    files: BTreeMap<FileId, FileChange>,
    /// The blocks of each file that have a surviving image.
    blocks: BTreeMap<FileId, BlockSet>,
    crossings: Vec<Crossing>,
    clipped: HashMap<Lsn, u32>,
    seen: u64,
    survivors: u64,
    applied: u64,
    skipped: u64,
    log_bytes: u64,
    logical: Logical,
}

impl Merged {
    /// Selects the surviving images at or after `after` whose transactions committed at or before
    /// `upto`. `pieces` are those of the history, ascending; it ignores pieces outside the span.
    ///
    /// # Errors
    /// [`Error::WalGap`] if a part of the log between the two is missing (FAILURES 11);
    /// [`Error::Logical`] if a transaction that counts has logical records (FAILURES 52);
    /// [`Error::BlockSize`]; errors of reading footers.
    pub fn new(archive: &Archive, pieces: &[Piece], after: Lsn, upto: Lsn) -> Result<Self> {
        let merged = Self::with_logical(archive, pieces, after, upto)?;
        merged.logical.refuse(|_| false)?;
        Ok(merged)
    }

    /// As [`new`](Self::new), but accepts logical records. The caller must apply all of
    /// [`logical`](Self::logical), or fail.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), except [`Error::Logical`].
    pub fn with_logical(archive: &Archive, pieces: &[Piece], after: Lsn, upto: Lsn) -> Result<Self> {
        let overlaps = |piece: &&Piece| piece.to > after && piece.from() < upto;
        let pieces: Vec<Piece> = pieces.iter().filter(overlaps).copied().collect();
        check_whole(&pieces, after, upto)?;
        let mut selection = Selection::new(after, upto);
        let (mut objects, mut log_bytes) = (Vec::with_capacity(pieces.len()), 0);
        let mut logical = Vec::new();
        for some in pieces.rchunks(OBJECTS_AHEAD) {
            let opened = archive.open_all(some.iter().map(|piece| &piece.name))?;
            for (piece, object) in some.iter().zip(&opened).rev() {
                log_bytes += object.bytes_between(after, upto.min(piece.to));
                let Selected { images, logical: records } = selection.add(piece, &object.footer)?;
                objects.push((*piece, images));
                logical.extend(records.map(|range| (*piece, range)));
            }
        }
        let logical = Logical::new(archive, &pieces, logical, &mut selection)?;
        objects.reverse();
        let (seen, survivors) = (selection.seen, selection.survivors);
        let (applied, skipped) = (selection.applied, selection.skipped.len() as u64);
        let crossings = std::mem::take(&mut selection.crossings);
        let clipped = std::mem::take(&mut selection.clipped);
        let (mut files, mut blocks) = (BTreeMap::new(), BTreeMap::new());
        for (file, merged) in selection.into_files() {
            files.insert(file, merged.change);
            blocks.insert(file, merged.blocks);
        }
        let archive = archive.clone();
        let merged = Merged {
            archive,
            objects,
            files,
            blocks,
            crossings,
            clipped,
            seen,
            survivors,
            applied,
            skipped,
            log_bytes,
            logical,
        };
        Ok(merged)
    }

    /// The change of each file that the span touches.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<FileId, FileChange> {
        &self.files
    }

    /// The blocks of a file that have a surviving image; `None` if the span does not touch the
    /// file.
    #[must_use]
    pub fn blocks(&self, file: FileId) -> Option<&BlockSet> {
        self.blocks.get(&file)
    }

    /// Number of committed images in the span.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.seen
    }

    /// Number of transactions that committed in the span.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Number of transactions with records in the span that do not count: they aborted, or had not
    /// committed at its end.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The surviving image of one block; `None` if it has none. Reads the frames with this image.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn image(&self, file: FileId, block: u64) -> Result<Option<Vec<u8>>> {
        if !self.blocks(file).is_some_and(|blocks| blocks.contains(block)) {
            return Ok(None);
        }
        let (seams, mut found) = (Seams::default(), None);
        let mut keep = |image: Image<'_>| {
            found = Some(image.data.to_vec());
            Ok(())
        };
        self.for_each_run::<Error>(&|of, number| (of, number) == (file, block), |work| {
            work.iter().try_for_each(|(object, run)| {
                let raw = fetch(&self.archive, object, run)?;
                deliver(object, run, &raw, &seams, &mut |image| self.clip(image, &mut keep))
            })
        })?;
        Ok(found)
    }

    /// Drops the images of all other files. Frames with none of these files' images are not read.
    pub fn keep_only(&mut self, files: &BTreeSet<FileId>) {
        self.files.retain(|file, _| files.contains(file));
        self.blocks.retain(|file, _| files.contains(file));
        self.crossings.retain(|crossing| files.contains(&crossing.file));
        self.survivors = self.blocks.values().map(BlockSet::len).sum();
    }

    /// Number of images that survive: one for each block that has any.
    #[must_use]
    pub fn survivors(&self) -> u64 {
        self.survivors
    }

    /// Bytes of decoded log in the span.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The logical records in the span.
    #[must_use]
    pub fn logical(&self) -> &Logical {
        &self.logical
    }

    /// Passes every surviving image to `f`, in the order of the log.
    ///
    /// # Errors
    /// Errors of reading, and the first error of `f`.
    pub fn for_each<E>(&self, mut f: impl FnMut(Image<'_>) -> Result<(), E>) -> Result<(), E>
    where
        E: From<Error> + Send,
    {
        let (seams, mut given) = (Seams::default(), 0);
        let spawn = self.archive.spawn();
        let ahead = parallel::threads(spawn) + 1;
        self.for_each_run::<E>(&|file, _| self.blocks.contains_key(&file), |work| {
            for some in work.chunks(ahead) {
                let read = |(object, run): &(&LogObject, FrameRun)| fetch(&self.archive, object, run);
                let raw: Vec<_> = parallel::map::<_, _, Result<_>>(spawn, some, read)?;
                for ((object, run), raw) in some.iter().zip(&raw) {
                    let mut take = |image: Image<'_>| {
                        given += 1;
                        self.clip(image, &mut f)
                    };
                    deliver(object, run, raw, &seams, &mut take)?;
                }
            }
            Ok(())
        })?;
        self.check_all_given(given, &seams).map_err(E::from)
    }

    /// Passes every surviving image to `f`, in any order and from any thread.
    ///
    /// # Errors
    /// Errors of reading, and one error of `f`.
    pub fn par_for_each<E>(&self, f: impl Fn(Image<'_>) -> Result<(), E> + Sync) -> Result<(), E>
    where
        E: From<Error> + Send,
    {
        let (seams, given) = (Seams::default(), std::sync::atomic::AtomicU64::new(0));
        self.for_each_run::<E>(&|file, _| self.blocks.contains_key(&file), |work| {
            let fetch = |(object, run): &(&LogObject, FrameRun)| {
                Ok(self.archive.fetch_frames(object, run.frames.clone())?)
            };
            parallel::ahead(self.archive.spawn(), RUNS_AHEAD, work, fetch, |(object, run), stored| {
                let raw = self.archive.decode_frames(object, run.frames.clone(), &stored)?;
                let mut take = |image: Image<'_>| {
                    given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    self.clip(image, &mut |image| f(image))
                };
                deliver(object, run, &raw, &seams, &mut take)
            })
        })?;
        self.check_all_given(given.into_inner(), &seams).map_err(E::from)
    }

    /// Opens the objects with surviving images, some at a time, and passes the frames that must be
    /// read for the wanted blocks to `f`.
    fn for_each_run<E: From<Error>>(
        &self,
        wants: &dyn Fn(FileId, u64) -> bool,
        mut f: impl FnMut(&[(&LogObject, FrameRun)]) -> Result<(), E>,
    ) -> Result<(), E> {
        let needed: Vec<(&Piece, Option<&BitVec>, Vec<Crossing>)> = self
            .objects
            .iter()
            .map(|(piece, bits)| {
                let through =
                    |c: &&Crossing| c.lsn < piece.name.to && c.end > piece.name.to && c.end > piece.from();
                (piece, bits.as_ref(), self.crossings.iter().filter(through).copied().collect::<Vec<_>>())
            })
            .filter(|(_, bits, crossings)| bits.is_some() || !crossings.is_empty())
            .collect();
        for some in needed.chunks(OBJECTS_AHEAD) {
            let opened =
                self.archive.open_all(some.iter().map(|(piece, ..)| &piece.name)).map_err(E::from)?;
            let mut work = Vec::new();
            for (object, (piece, bits, crossings)) in opened.iter().zip(some) {
                let runs = stream::runs(&object.footer, piece.name, *bits, crossings, wants);
                let runs = runs.map_err(E::from)?;
                work.extend(runs.into_iter().map(|run| (object, run)));
            }
            f(&work)?;
        }
        Ok(())
    }

    /// Passes an image to `f`, with zeros in place of the cut part.
    fn clip<E>(&self, image: Image<'_>, f: &mut dyn FnMut(Image<'_>) -> Result<(), E>) -> Result<(), E> {
        match self.clipped.get(&image.lsn) {
            None => f(image),
            Some(kept) => {
                let mut data = image.data.to_vec();
                BlockImage::clip(&mut data, *kept);
                f(Image { data: &data, ..image })
            }
        }
    }

    /// Fails unless all indexed images were found: a missing image would silently leave an older
    /// block.
    fn check_all_given(&self, given: u64, seams: &Seams) -> Result<()> {
        match (seams.unfinished(), self.objects.last()) {
            (None, _) if given == self.survivors => Ok(()),
            (unfinished, Some((piece, _))) => {
                Err(Error::Index { object: piece.name, lsn: unfinished.unwrap_or(piece.from()) })
            }
            (_, None) => Ok(()),
        }
    }
}

/// Fails unless the pieces contain everything between the two positions.
fn check_whole(pieces: &[Piece], after: Lsn, upto: Lsn) -> Result<()> {
    if after >= upto {
        return Ok(());
    }
    let runs = runs(pieces);
    match runs.first() {
        None => Err(Error::WalGap { from: after, to: upto }),
        Some(run) if run.from > after => Err(Error::WalGap { from: after, to: run.from }),
        Some(run) if run.to < upto => {
            Err(Error::WalGap { from: run.to, to: runs.get(1).map_or(upto, |next| next.from) })
        }
        Some(_) => Ok(()),
    }
}
