//! Reads a log, batch by batch.
//!
//! A reader reads up to a limit: the durable point of an open log, or one that its caller states.
//! It returns nothing above the limit (FAILURES 42). Below the limit everything must exist: each
//! batch is verified, must follow its predecessor, and the last one must end where the next
//! segment's header states. Anything else is a hole, reported with its position; a reader never
//! skips it.

use super::chain;
use super::cursor::Cursor;
use super::place::{Found, Reach};
use crate::error::Witness;
use crate::segments::{segment, sequence};
use crate::shared::Shared;
use crate::{Error, Result};
use pitr_format::log::{Batch, BatchHeader, Follows, Frame, SegmentHeader};
use pitr_format::{DecodeError, Incarnation, Lsn, SegmentNo, TimelineId};
use pitr_vfs::{Access, FileSystem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A verified batch of a log.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// The batch's header.
    pub header: BatchHeader,
    /// Timeline of the log.
    pub timeline: TimelineId,
    /// Segment that contains the batch.
    pub segment: SegmentNo,
    /// Incarnation of that segment.
    pub incarnation: Incarnation,
    /// Header and body, without padding.
    pub bytes: Vec<u8>,
    /// For the first batch of a segment: the end of the log before it. Segments without a batch are
    /// skipped: `gap` is set if there was a gap anywhere since the last batch.
    pub follows: Option<Follows>,
}

impl LogBatch {
    /// The record frames in order. Does not verify the checksum again: the reader did.
    pub fn frames(&self) -> Result<impl Iterator<Item = Result<Frame<'_>>>> {
        let (lsn, segment) = (self.header.lsn, self.segment);
        let faulty = move |source: DecodeError| Error::Frames { lsn, segment, source };
        Ok(self.batch()?.frames().map(move |frame| frame.map_err(faulty)))
    }

    pub(crate) fn batch(&self) -> Result<Batch<'_>> {
        let (lsn, segment) = (self.header.lsn, self.segment);
        Batch::checked_before(self.header, &self.bytes).map_err(|source| Error::Frames {
            lsn,
            segment,
            source,
        })
    }

    /// Start of the next batch in the same segment.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.header.end().unwrap_or(Lsn::MAX)
    }
}

/// Reads the batches of a log in order. It holds one open file and one window of it.
#[derive(Debug)]
pub struct LogReader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    limit: Limit,
    /// Start of the reader.
    from: Lsn,
    /// The current segment; `None` before the first.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    cursor: Cursor,
    /// The end of the log before the segment, as long as no batch of the segment was returned.
    follows: Option<Follows>,
    /// The segment after this one, once it was found.
    next: Option<SegmentHeader>,
}

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
    /// A reader of the log in `dir`, which need not be open, from `from` up to `until`. Everything
    /// below `until` must be durable: anything unreadable there is a hole. `from` is the start or
    /// the end of a batch; from a position within a batch the reader returns the whole batch. It
    /// does not return a batch that ends after `until`.
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, from: Lsn, until: Lsn) -> Self {
        LogReader { fs, dir: dir.to_owned(), limit: Limit::Fixed(until), from, current: None }
    }

    pub(crate) fn live(shared: &Arc<Shared>, from: Lsn) -> Self {
        let limit = Limit::Live(Arc::clone(shared));
        LogReader { fs: Arc::clone(&shared.env.fs), dir: shared.dir.clone(), limit, from, current: None }
    }

    /// The reader's position: the end of the last batch that it returned.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.current.as_ref().map_or(self.from, |current| current.cursor.at().max(self.from))
    }

    /// The next batch; `None` at the limit. [`Error::Removed`] if the log no longer holds this
    /// batch. On an open log a later call may return more. After an error the reader keeps its
    /// position.
    pub fn next_batch(&mut self) -> Result<Option<LogBatch>> {
        let limit = self.limit.get();
        if self.position() >= limit {
            return Ok(None);
        }
        if self.current.is_none() {
            let cursor = chain::enter(self.fs.as_ref(), &self.dir, self.from, limit)?;
            let at_begin = Some(cursor.at()) == cursor.header().first_batch();
            let follows = at_begin.then_some(cursor.header().follows);
            self.current = Some(Current { cursor, follows, next: None });
        }
        while let Some(next) = self.sealed_here(limit)? {
            self.advance(&next)?;
        }
        self.take(limit)
    }

    /// Reads the batch at the cursor, unless the limit is reached.
    fn take(&mut self, limit: Lsn) -> Result<Option<LogBatch>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        if current.cursor.at() >= limit {
            return Ok(None);
        }
        let reach = match &current.next {
            Some(next) => Reach::sealed_by(next),
            None => Reach::up_to(limit, current.cursor.place().segment_end()),
        };
        let before = *current.cursor.place();
        let SegmentHeader { timeline, segment, incarnation, .. } = *before.header();
        match current.cursor.next(reach.end)? {
            Found::Batch(batch) => {
                let (header, bytes, follows) = (batch.header, batch.bytes().to_vec(), current.follows.take());
                Ok(Some(LogBatch { header, timeline, segment, incarnation, bytes, follows }))
            }
            Found::Fault(fault) => match reach.hole(&before, fault) {
                None => Ok(None),
                // The file may have been recycled while it was read.
                Some(hole) => Err(chain::hole_or_removed(self.fs.as_ref(), &self.dir, before.header(), hole)),
            },
        }
    }

    /// The next segment, if the current one ends at the cursor.
    fn sealed_here(&mut self, limit: Lsn) -> Result<Option<SegmentHeader>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        if current.next.is_none() && limit > current.cursor.place().segment_end() {
            let numbers = segment::list(self.fs.as_ref(), &self.dir)?;
            let header = current.cursor.header();
            current.next = Some(chain::find_next(self.fs.as_ref(), &self.dir, &numbers, header, limit)?);
        }
        Ok(current.next.filter(|next| next.follows.end == current.cursor.at()))
    }

    /// Continues in segment `next`, after its predecessor was read to its end.
    fn advance(&mut self, next: &SegmentHeader) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        chain::check_joins(&self.dir, current.cursor.place(), next)?;
        let previous = current.cursor.header();
        let opened = segment::open(self.fs.as_ref(), &self.dir, next.segment, Access::Read)?;
        let Some((file, header)) = opened.filter(|(_, header)| header == next) else {
            let hole = sequence::missing_segment(previous, next.segment, next.follows.end, Witness::Caller);
            return Err(chain::hole_or_removed(self.fs.as_ref(), &self.dir, previous, hole));
        };
        let follows = match current.follows {
            Some(earlier) => Follows { gap: earlier.gap || header.follows.gap, ..earlier },
            None => header.follows,
        };
        let cursor = Cursor::new(file, segment::path_of(&self.dir, header.segment), header)?;
        self.current = Some(Current { cursor, follows: Some(follows), next: None });
        Ok(())
    }
}
