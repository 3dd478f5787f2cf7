//! Assembles records from the batches of a log.

use super::reader::LogBatch;
use crate::{Error, Result};
use pitr_format::log::{Assembler, Batch, Part, WholeRecord};
use pitr_format::{Incarnation, Lsn, SegmentNo};

/// Assembles the fragments of records across batches and segments. If a record is incomplete when
/// the incarnation changes, a torn tail cut it off, and it is discarded; anywhere else an
/// incomplete record is an error.
///
/// Holds at most one record.
#[derive(Debug, Default)]
pub struct Records {
    assembler: Assembler,
    incarnation: Option<Incarnation>,
    /// True while there may be fragments of a record that started before the first batch.
    in_the_middle: bool,
    /// The batch with the first skipped fragment.
    passed_over: Option<Lsn>,
}

impl Records {
    /// Creates the assembler of a reader that starts with a whole record.
    #[must_use]
    pub fn new() -> Self {
        Records::default()
    }

    /// Creates the assembler of a reader that may start within a record. Skips the fragments of
    /// that record.
    #[must_use]
    pub fn from_anywhere() -> Self {
        Records { in_the_middle: true, ..Records::default() }
    }

    /// Position of the incomplete record, if there is one.
    #[must_use]
    pub fn open_since(&self) -> Option<Lsn> {
        self.assembler.open_since()
    }

    /// Takes the next batch and passes every record that it completes to `each`. Stops at an error
    /// of `each`. Can't be used after an error.
    pub fn feed<E: From<Error>>(
        &mut self,
        batch: &LogBatch,
        each: impl FnMut(&WholeRecord<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.enter(batch.incarnation);
        self.take(&batch.batch()?, batch.segment, each)
    }

    /// States the incarnation of the next batches.
    pub(crate) fn enter(&mut self, incarnation: Incarnation) {
        if self.incarnation.is_some_and(|before| before != incarnation) {
            self.assembler.forget();
            self.in_the_middle = false;
        }
        self.incarnation = Some(incarnation);
    }

    /// Passes every record of the batch to `each`.
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

    /// Takes the missing fragments of the incomplete record from the batch, and passes the record
    /// to `each` once it is complete.
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

    /// True for a fragment of a record that started before the first batch.
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

    /// The ends of this segment's records, to be joined with those of its neighbours.
    pub(crate) fn seam(&self) -> Seam {
        let open = match (self.in_the_middle, self.passed_over) {
            (false, _) => Some(self.open_since().is_some()),
            (true, Some(_)) => Some(true),
            (true, None) => None,
        };
        Seam { leads: self.passed_over, open }
    }

    /// Fails if a record is incomplete at the end of the durable log.
    pub fn finish(&self) -> Result<()> {
        match self.open_since() {
            None => Ok(()),
            Some(lsn) => Err(Error::Unfinished { lsn }),
        }
    }
}

/// How the records of a separately read segment join those of its neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seam {
    /// The first batch with a fragment whose record started in an earlier segment.
    pub(crate) leads: Option<Lsn>,
    /// True if the segment ends within a record; `None` if no fragment in it shows this.
    pub(crate) open: Option<bool>,
}
