//! The delta extractor: computes from the log which blocks changed.
//!
//! It reads no log itself; the caller passes the records in order. A record belongs to the range
//! that contains its LSN, whatever the outcome of its transaction: images of aborted transactions
//! count too.

use crate::effect::Effect;
use crate::epoch::Epoch;
use crate::{BlockSize, Changes, Error, LsnRange, MEMORY_BYTES_MAX, Result};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{FileId, Lsn};

/// Collects the changes that the records of a range make.
#[derive(Debug)]
pub struct Extractor {
    range: LsnRange,
    /// The same kind of bitmap that a tracker's passes mark.
    epoch: Epoch,
    /// Blocks that are not yet marked in the bitmap.
    ///
    /// A log that streams through the caches evicts the bitmap from them. Marking blocks in groups
    /// overlaps their memory accesses.
    waiting: Vec<(FileId, BlockSize, u64)>,
    /// End of the last record.
    at: Lsn,
}

/// Maximum number of blocks that wait to be marked.
const WAITING_MAX: usize = 256;

impl Extractor {
    /// Creates an extractor for the records of this range.
    #[must_use]
    pub fn new(range: LsnRange) -> Self {
        let (epoch, waiting) = (Epoch::new(MEMORY_BYTES_MAX), Vec::with_capacity(WAITING_MAX));
        Extractor { range, epoch, waiting, at: Lsn::ORIGIN }
    }

    /// Takes the next record of the log. Records outside the range are ignored.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`]; [`Error::Record`] if the payload cannot be decoded. After an error,
    /// everything counts as changed.
    pub fn push(&mut self, record: &WholeRecord<'_>) -> Result<()> {
        let pushed = self.try_push(record);
        if pushed.is_err() {
            self.epoch.mark_everything();
        }
        pushed
    }

    fn try_push(&mut self, record: &WholeRecord<'_>) -> Result<()> {
        let lsn = record.lsn;
        if lsn < self.at || record.end < lsn {
            return Err(Error::OutOfOrder { lsn, after: self.at });
        }
        self.at = record.end;
        if !self.range.contains(lsn) || !changes_something(record.kind) {
            return Ok(());
        }
        let decoded = Record::decode(record.kind, record.payload);
        match Effect::of(&decoded.map_err(|source| Error::Record { lsn, source })?) {
            Effect::Block(file, size, block) => self.waiting.push((file, size, block)),
            other => self.epoch.apply(other),
        }
        if self.waiting.len() == WAITING_MAX {
            self.mark_waiting();
        }
        Ok(())
    }

    fn mark_waiting(&mut self) {
        self.epoch.mark_all(&self.waiting);
        self.waiting.clear();
    }

    /// Returns the changes, after every record of the range was pushed.
    ///
    /// `read` is the range over which the log was read: from the first position requested of its
    /// reader to the position of the reader at the end.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if `read` does not cover the range.
    pub fn finish(mut self, read: LsnRange) -> Result<Changes> {
        self.mark_waiting();
        if read.covers(&self.range) {
            Ok(Changes { range: self.range, set: self.epoch.to_set() })
        } else {
            Err(Error::Incomplete { range: self.range, read })
        }
    }
}

/// False for kinds that change no block. An unknown kind may change anything: decoding it is an
/// error.
fn changes_something(kind: u8) -> bool {
    use RecordKind::{Abort, Checkpoint, ClockStep, Commit, Data, Note, Watermark};
    let known = RecordKind::from_u8(kind);
    !matches!(known, Some(Data | Commit | Abort | Watermark | ClockStep | Note | Checkpoint))
}

#[cfg(test)]
mod tests;
