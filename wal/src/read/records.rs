//! Whole records out of the batches of a log.

use super::reader::LogBatch;
use crate::{Error, Result};
use pitr_format::log::{Assembler, Batch, Part, WholeRecord};
use pitr_format::{Incarnation, Lsn, SegmentNo};

/// Puts the fragments of records together over batches and segments. A record that is still incomplete when
/// the incarnation changes was cut off with a torn tail and is forgotten; anywhere else that is an error.
///
/// It holds at most one record.
#[derive(Debug, Default)]
pub struct Records {
    assembler: Assembler,
    incarnation: Option<Incarnation>,
    /// True while fragments may come whose record began before the first batch.
    in_the_middle: bool,
    /// The batch with the first fragment that was passed over.
    passed_over: Option<Lsn>,
}

impl Records {
    /// For a reader that begins with a whole record.
    #[must_use]
    pub fn new() -> Self {
        Records::default()
    }

    /// For a reader that may begin within a record: fragments of that one are passed over.
    #[must_use]
    pub fn from_anywhere() -> Self {
        Records { in_the_middle: true, ..Records::default() }
    }

    /// Position of the record whose rest is still to come.
    #[must_use]
    pub fn open_since(&self) -> Option<Lsn> {
        self.assembler.open_since()
    }

    /// Takes the next batch and hands every record that it completes to `each`. Errors of `each` end it; the
    /// assembly can't be used after an error.
    pub fn feed<E: From<Error>>(
        &mut self,
        batch: &LogBatch,
        each: impl FnMut(&WholeRecord<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.enter(batch.incarnation);
        self.take(&batch.batch()?, batch.segment, each)
    }

    /// The next batches are of this incarnation.
    pub(crate) fn enter(&mut self, incarnation: Incarnation) {
        if self.incarnation.is_some_and(|before| before != incarnation) {
            self.assembler.forget();
            self.in_the_middle = false;
        }
        self.incarnation = Some(incarnation);
    }

    /// Hands every record of the batch to `each`.
    #[inline]
    pub(crate) fn take<E: From<Error>>(
        &mut self,
        batch: &Batch<'_>,
        segment: SegmentNo,
        mut each: impl FnMut(&WholeRecord<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let faulty = |source| Error::Frames { lsn: batch.header.lsn, segment, source };
        for frame in batch.frames() {
            let frame = frame.map_err(faulty)?;
            if self.passes_over(frame.part, batch.header.lsn) {
                continue;
            }
            if let Some(record) = self.assembler.push(&frame).map_err(faulty)? {
                each(&record)?;
            }
        }
        Ok(())
    }

    /// Takes from the batch what the incomplete record still needs, and hands it to `each` once it is whole.
    pub(crate) fn take_rest<E: From<Error>>(
        &mut self,
        batch: &Batch<'_>,
        segment: SegmentNo,
        mut each: impl FnMut(&WholeRecord<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let faulty = |source| Error::Frames { lsn: batch.header.lsn, segment, source };
        for frame in batch.frames() {
            if let Some(record) = self.assembler.push(&frame.map_err(faulty)?).map_err(faulty)? {
                return each(&record);
            }
        }
        Ok(())
    }

    /// True for a fragment whose record began before the first batch.
    #[inline]
    fn passes_over(&mut self, part: Part, batch: Lsn) -> bool {
        if !self.in_the_middle {
            return false;
        }
        self.in_the_middle = part == Part::Middle;
        let passes = matches!(part, Part::Middle | Part::Last);
        if passes {
            self.passed_over.get_or_insert(batch);
        }
        passes
    }

    /// What the records of one segment leave to be joined with those of its neighbours.
    pub(crate) fn seam(&self) -> Seam {
        let open = match (self.in_the_middle, self.passed_over) {
            (false, _) => Some(self.open_since().is_some()),
            (true, Some(_)) => Some(true),
            (true, None) => None,
        };
        Seam { leads: self.passed_over, open }
    }

    /// Errors if a record is still incomplete: for a reader that has come to the end of what is durable.
    pub fn finish(&self) -> Result<()> {
        match self.open_since() {
            None => Ok(()),
            Some(lsn) => Err(Error::Unfinished { lsn }),
        }
    }
}

/// How the records of one segment, read by itself, join those before and behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seam {
    /// The first batch with a fragment whose record began in an earlier segment.
    pub(crate) leads: Option<Lsn>,
    /// True if the segment ends within a record; `None` if it has no fragment that tells.
    pub(crate) open: Option<bool>,
}
