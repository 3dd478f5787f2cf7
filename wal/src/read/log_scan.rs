//! A pass over a range of the log, segment by segment, in place.
//!
//! # What it promises
//! - The same batches and records as [`crate::LogReader`] and [`crate::Records`] give for the
//!   range, and the same errors where something is missing or damaged: both use [`super::place`].
//! - Segments can be read in any order and concurrently. A record belongs to the segment in which
//!   it starts: for the end of the record, reading that segment continues into the next segments.
//!   Reading those segments skips the end of the record. Joining the results verifies that the two
//!   fit ([`Seams`]).
//! - It holds only the segments that are being read, sealed ones mapped, and the headers of all.

use super::chain;
use super::place::{Place, Reach};
use super::records::{Records, Seam};
use super::sealed::{Hold, Piece, SealedSegment};
use crate::segments::{DirLock, segment};
use crate::shared::Shared;
use crate::{Error, Result};
use pitr_format::log::WholeRecord;
use pitr_format::{DecodeError, Incarnation, Lsn};
use pitr_vfs::FileSystem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A range of the log that is read in place.
#[derive(Debug)]
pub struct LogScan {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    pieces: Vec<Piece>,
    until: Lsn,
    hold: Hold,
}

impl LogScan {
    /// A scan of the log in `dir`, which no writer may have open ([`Error::Locked`]). The log stays
    /// locked as long as the scan lives. `from` and `until` are those of
    /// [`crate::LogReader::open`].
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, from: Lsn, until: Lsn) -> Result<Self> {
        if !fs.exists(dir).map_err(Error::io("look for", dir))? {
            return Err(Error::NoLog { dir: dir.to_owned() });
        }
        let hold = Hold::Closed { _lock: DirLock::take(fs.as_ref(), dir)? };
        LogScan::new(fs, dir, from, until, hold)
    }

    /// A scan of an open log. `until` must be durable.
    pub(crate) fn live(shared: &Arc<Shared>, from: Lsn, until: Lsn) -> Result<Self> {
        let hold = Hold::Open(Arc::clone(shared));
        LogScan::new(Arc::clone(&shared.env.fs), &shared.dir, from, until, hold)
    }

    fn new(fs: Arc<dyn FileSystem>, dir: &Path, from: Lsn, until: Lsn, hold: Hold) -> Result<Self> {
        let pieces = pieces(fs.as_ref(), dir, from, until)?;
        Ok(LogScan { fs, dir: dir.to_owned(), pieces, until, hold })
    }

    /// Number of segments in the range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// True if there is nothing in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The segments in order, each loaded when it is requested.
    pub fn segments(&self) -> impl Iterator<Item = Result<SealedSegment>> {
        self.pieces.iter().map(|piece| self.load(piece))
    }

    /// Passes every record that starts in the range to `each`, in order. Skips a record that
    /// started before the range; [`Error::Unfinished`] if the last one ends after it.
    pub fn for_each<E: From<Error>>(
        &self,
        mut each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seams = Seams::default();
        for nth in 0..self.pieces.len() {
            let seam = self.visit(nth, &mut each)?;
            seams.join(&self.pieces[nth], seam)?;
        }
        Ok(())
    }

    /// Passes every record that starts in segment `nth` of the range to `each`.
    pub(crate) fn visit<E: From<Error>>(
        &self,
        nth: usize,
        each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<Seam, E> {
        self.visit_loaded(nth, &self.load(&self.pieces[nth])?, each)
    }

    /// Like [`LogScan::visit`], for a segment that is already loaded.
    pub(crate) fn visit_loaded<E: From<Error>>(
        &self,
        nth: usize,
        segment: &SealedSegment,
        mut each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<Seam, E> {
        let header = segment.header();
        let mut records = Records::from_anywhere();
        records.enter(header.incarnation);
        for batch in segment.batches() {
            records.take(&batch?, header.segment, &mut each)?;
        }
        let seam = records.seam();
        if seam.open == Some(true) {
            self.read_on(nth, records, each)?;
        }
        Ok(seam)
    }

    /// Reads the rest of the record that segment `nth` leaves incomplete.
    fn read_on<E: From<Error>>(
        &self,
        nth: usize,
        mut records: Records,
        mut each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for piece in &self.pieces[nth + 1..] {
            records.enter(piece.header().incarnation);
            if records.open_since().is_none() {
                return Ok(()); // A torn tail cut off the rest of the record.
            }
            let segment = self.load(piece)?;
            for batch in segment.batches() {
                records.take_rest(&batch?, piece.header().segment, &mut each)?;
                if records.open_since().is_none() {
                    return Ok(());
                }
            }
        }
        Ok(records.finish()?)
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(crate) fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn until(&self) -> Lsn {
        self.until
    }

    pub(crate) fn load(&self, piece: &Piece) -> Result<SealedSegment> {
        piece.load(self.fs.as_ref(), &self.dir, &self.hold)
    }
}

/// The segments of a range. Fails if one of them is missing.
fn pieces(fs: &dyn FileSystem, dir: &Path, from: Lsn, until: Lsn) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    if from >= until {
        return Ok(pieces);
    }
    let mut place = *chain::enter(fs, dir, from, until)?.place();
    let numbers = segment::list(fs, dir)?;
    while until > place.segment_end() {
        let next = chain::find_next(fs, dir, &numbers, place.header(), until)?;
        pieces.push(Piece { place, reach: Reach::sealed_by(&next), next: Some(next) });
        place = Place::first(next)?;
    }
    pieces.push(Piece { place, reach: Reach::up_to(until, place.segment_end()), next: None });
    Ok(pieces)
}

/// Verifies that segments which were read separately fit at their ends. They are joined in the
/// order of the log.
#[derive(Debug, Default)]
pub(crate) struct Seams {
    /// True if the segments so far end within a record; `None` as long as that is unknown.
    open: Option<bool>,
    incarnation: Option<Incarnation>,
}

impl Seams {
    /// Fails if the segment starts with the rest of a record that no earlier segment started.
    pub(crate) fn join(&mut self, piece: &Piece, seam: Seam) -> Result<()> {
        let header = piece.header();
        if self.incarnation.is_some_and(|before| before != header.incarnation) {
            self.open = Some(false);
        }
        self.incarnation = Some(header.incarnation);
        if let (Some(lsn), Some(false)) = (seam.leads, self.open) {
            let source = DecodeError::Range { what: "record part out of order", value: lsn.get() };
            return Err(Error::Frames { lsn, segment: header.segment, source });
        }
        self.open = seam.open.or(self.open);
        Ok(())
    }
}
