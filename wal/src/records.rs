//! Whole records out of the batches of a log.

use crate::reader::LogBatch;
use crate::{Error, Result};
use pitr_format::log::{Assembler, Part, WholeRecord};
use pitr_format::{Incarnation, Lsn};

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
        mut each: impl FnMut(&WholeRecord<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if self.incarnation.is_some_and(|incarnation| incarnation != batch.incarnation) {
            self.assembler.forget();
        }
        self.incarnation = Some(batch.incarnation);
        let (lsn, segment) = (batch.header.lsn, batch.segment);
        for frame in batch.frames()? {
            let frame = frame?;
            self.in_the_middle &= matches!(frame.part, Part::Middle | Part::Last);
            if self.in_the_middle {
                continue;
            }
            let whole = self.assembler.push(&frame);
            let whole = whole.map_err(|source| Error::Frames { lsn, segment, source })?;
            if let Some(record) = whole {
                each(&record)?;
            }
        }
        Ok(())
    }

    /// Errors if a record is still incomplete: for a reader that has come to the end of what is durable.
    pub fn finish(&self) -> Result<()> {
        match self.open_since() {
            None => Ok(()),
            Some(lsn) => Err(Error::Unfinished { lsn }),
        }
    }
}
