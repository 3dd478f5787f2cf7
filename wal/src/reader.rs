//! Reading a log back, batch by batch.
//!
//! A reader goes up to a limit, the durable point of an open log or one that its caller states, and hands out
//! nothing above it (FAILURES 42). Below the limit everything must be there: each batch is checked, must
//! follow the one before it, and must end where the next segment's header says that its segment ends.
//! Anything else is a hole, with its place; a reader never goes over it.

use crate::commit::Shared;
use crate::cursor::{Cursor, Found};
use crate::error::{Damage, Witness};
use crate::{Error, Result, open, segment};
use pitr_format::log::{Batch, BatchHeader, Follows, Frame, Seed, SegmentHeader};
use pitr_format::{DecodeError, Incarnation, Lsn, SegmentNo, TimelineId};
use pitr_vfs::{Access, File, FileSystem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A batch as it stands in the log, checked.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// Its header.
    pub header: BatchHeader,
    /// Timeline of the log.
    pub timeline: TimelineId,
    /// Segment that holds it.
    pub segment: SegmentNo,
    /// Incarnation of that segment.
    pub incarnation: Incarnation,
    /// Header and body, without the padding behind.
    pub bytes: Vec<u8>,
    /// For the first batch of a segment: what came before. Segments without a batch are left out of it: `gap`
    /// is set if there was one anywhere since the last batch.
    pub follows: Option<Follows>,
}

impl LogBatch {
    /// The record frames in order.
    pub fn frames(&self) -> Result<impl Iterator<Item = Result<Frame<'_>>>> {
        let (lsn, segment) = (self.header.lsn, self.segment);
        let faulty = move |source: DecodeError| Error::Frames { lsn, segment, source };
        let batch = Batch::decode(&self.bytes, self.seed()).map_err(faulty)?;
        Ok(batch.frames().map(move |frame| frame.map_err(faulty)))
    }

    /// Where the next batch of the same segment stands.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.header.end().unwrap_or(Lsn::MAX)
    }

    fn seed(&self) -> Seed {
        Seed::new(self.timeline, self.segment, self.incarnation)
    }
}

/// Reads the batches of a log in order. It holds one open file and one window of it.
#[derive(Debug)]
pub struct LogReader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    limit: Limit,
    /// Where the reader began.
    from: Lsn,
    /// The segment that it stands in; `None` before the first.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    cursor: Cursor,
    /// What the next batch follows, if none of the segment was passed yet.
    follows: Option<Follows>,
    /// The segment after this one, once it was seen.
    next: Option<SegmentHeader>,
}

type Opened = (Arc<dyn File>, SegmentHeader);

#[derive(Debug)]
enum Limit {
    Fixed(Lsn),
    Live(Arc<Shared>),
}

impl Limit {
    fn get(&self) -> Lsn {
        match self {
            Limit::Fixed(until) => *until,
            Limit::Live(shared) => shared.queue().durable(),
        }
    }
}

impl LogReader {
    /// A reader of the log in `dir`, which need not be open, from `from` up to `until`. Everything below
    /// `until` must be durable: what can't be read there is a hole. `from` is the place or the end of a
    /// batch; from a position within a batch the whole batch is read. A batch that ends behind `until` is
    /// not.
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, from: Lsn, until: Lsn) -> Self {
        LogReader { fs, dir: dir.to_owned(), limit: Limit::Fixed(until), from, current: None }
    }

    pub(crate) fn live(shared: &Arc<Shared>, from: Lsn) -> Self {
        let limit = Limit::Live(Arc::clone(shared));
        LogReader { fs: Arc::clone(&shared.fs), dir: shared.dir.clone(), limit, from, current: None }
    }

    /// Where the reader stands: behind the last batch that it returned.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.current.as_ref().map_or(self.from, |current| current.cursor.at().max(self.from))
    }

    /// The next batch; `None` at the limit. [`Error::Removed`] if the log no longer holds it. On an open log
    /// a later call may return more. After an error the reader stays where it is.
    pub fn next_batch(&mut self) -> Result<Option<LogBatch>> {
        let limit = self.limit.get();
        if self.position() >= limit {
            return Ok(None);
        }
        if self.current.is_none() {
            self.current = Some(self.enter(limit)?);
        }
        while let Some(next) = self.sealed_here(limit)? {
            self.advance(&next)?;
        }
        self.take(limit)
    }

    /// Reads the batch at which the cursor stands, unless the limit is there.
    fn take(&mut self, limit: Lsn) -> Result<Option<LogBatch>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        if current.cursor.at() >= limit {
            return Ok(None);
        }
        let (end, durable, witness) = match &current.next {
            Some(next) => (next.follows.end, next.follows.end, Witness::Segment(next.segment)),
            None => (limit.min(current.cursor.segment_end()), limit, Witness::Caller),
        };
        let SegmentHeader { timeline, segment, incarnation, .. } = *current.cursor.header();
        let (lsn, offset) = (current.cursor.at(), current.cursor.offset());
        let damage = match current.cursor.next(end)? {
            Found::Batch(header, bytes) => {
                let (bytes, follows) = (bytes.to_vec(), current.follows.take());
                return Ok(Some(LogBatch { header, timeline, segment, incarnation, bytes, follows }));
            }
            // The limit stands within a batch, which is then not wholly below it.
            Found::Crossing if matches!(witness, Witness::Caller) => return Ok(None),
            Found::Crossing => Damage::Bytes,
            Found::Damage(damage) => damage,
        };
        let hole = Error::Hole { lsn, segment, offset, damage, durable, witness };
        let header = *current.cursor.header();
        // The file may have been recycled below the reader.
        Err(hole_or_removed(self.fs.as_ref(), &self.dir, &header, hole))
    }

    /// The segment that follows, if the current one ends at the cursor.
    fn sealed_here(&mut self, limit: Lsn) -> Result<Option<SegmentHeader>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        if current.next.is_none() && limit > current.cursor.segment_end() {
            let header = *current.cursor.header();
            current.next = Some(find_next(self.fs.as_ref(), &self.dir, &header, limit)?);
        }
        Ok(current.next.filter(|next| next.follows.end == current.cursor.at()))
    }

    /// Goes on in the segment `next`, whose predecessor was read to its end.
    fn advance(&mut self, next: &SegmentHeader) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.cursor.last_batch().is_some_and(|last| last != next.follows.last_batch) {
            let path = segment::path_of(&self.dir, next.segment);
            return Err(Error::Foreign { path, segment: next.segment, what: "predecessor's last batch" });
        }
        let previous = current.cursor.header();
        let opened = segment::open(self.fs.as_ref(), &self.dir, next.segment, Access::Read)?;
        let Some((file, header)) = opened.filter(|(_, header)| header == next) else {
            let hole = open::missing_segment(previous, next.segment, next.follows.end, Witness::Caller);
            return Err(hole_or_removed(self.fs.as_ref(), &self.dir, previous, hole));
        };
        let follows = match current.follows {
            Some(earlier) => Follows { gap: earlier.gap || header.follows.gap, ..earlier },
            None => header.follows,
        };
        let cursor = Cursor::new(file, segment::path_of(&self.dir, header.segment), header)?;
        self.current = Some(Current { cursor, follows: Some(follows), next: None });
        Ok(())
    }

    /// Finds the segment in which to begin, and the batch in it.
    fn enter(&self, limit: Lsn) -> Result<Current> {
        let (file, header) = self.find_first()?;
        let mut cursor = Cursor::new(file, segment::path_of(&self.dir, header.segment), header)?;
        let first = cursor.at();
        cursor.seek(self.from, limit.min(cursor.segment_end()))?;
        let follows = (cursor.at() == first).then_some(header.follows);
        Ok(Current { cursor, follows, next: None })
    }

    /// The last segment whose predecessor ends at or before `from`: the one that goes on from there.
    fn find_first(&self) -> Result<Opened> {
        let numbers = segment::list(self.fs.as_ref(), &self.dir)?;
        let open = |number| segment::open(self.fs.as_ref(), &self.dir, number, Access::Read);
        let oldest = numbers.first().copied().map(open).transpose()?.flatten();
        let Some((_, oldest)) = oldest else { return Err(Error::NoLog { dir: self.dir.clone() }) };
        let holder = oldest.segment_size.segment_of(self.from);
        let begin = numbers.partition_point(|number| *number <= holder).saturating_sub(1);
        let mut found = None;
        for number in &numbers[begin..] {
            match open(*number)? {
                Some((_, header)) if header.follows.end > self.from => break,
                opened => found = opened.or(found),
            }
        }
        let first = oldest.first_batch().unwrap_or(Lsn::MAX);
        found.ok_or(Error::Removed { lsn: self.from, first })
    }
}

/// The segment after `previous`, which must be there because the limit is behind `previous`.
fn find_next(fs: &dyn FileSystem, dir: &Path, previous: &SegmentHeader, limit: Lsn) -> Result<SegmentHeader> {
    for number in segment::list(fs, dir)?.into_iter().filter(|number| *number > previous.segment) {
        if let Some((_, next)) = segment::open(fs, dir, number, Access::Read)? {
            let found = open::check_next(dir, previous, &next).map(|()| next);
            return found.map_err(|hole| hole_or_removed(fs, dir, previous, hole));
        }
    }
    let missing = previous.segment.checked_add(1).unwrap_or(previous.segment);
    Err(hole_or_removed(fs, dir, previous, open::missing_segment(previous, missing, limit, Witness::Caller)))
}

/// A segment is missing behind `previous`. Segments are removed oldest first: if `previous` is gone as well,
/// the reader was overtaken.
fn hole_or_removed(fs: &dyn FileSystem, dir: &Path, previous: &SegmentHeader, hole: Error) -> Error {
    match fs.exists(&segment::path_of(dir, previous.segment)) {
        Ok(false) => {}
        _ => return hole,
    }
    let oldest = segment::list(fs, dir).ok().and_then(|numbers| numbers.first().copied());
    let first = oldest.and_then(|number| {
        let (_, header) = segment::open(fs, dir, number, Access::Read).ok()??;
        header.first_batch()
    });
    match (first, &hole) {
        (Some(first), Error::Hole { lsn, .. }) => Error::Removed { lsn: *lsn, first },
        _ => hole,
    }
}
