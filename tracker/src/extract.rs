//! The delta extractor: what changed, computed from the log.
//!
//! It reads no log itself: whoever has one hands its records over in order. A record belongs to the range
//! that holds its LSN, whatever became of its transaction: images of one that was aborted count too.

use crate::effect::Effect;
use crate::epoch::Epoch;
use crate::{BlockSize, Changes, Error, LsnRange, MEMORY_BYTES_MAX, Result};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{FileId, Lsn};

/// Collects what the records of a range change.
#[derive(Debug)]
pub struct Extractor {
    range: LsnRange,
    /// The same bitmap that a tracker's passes mark.
    epoch: Epoch,
    /// Blocks that are not marked in it yet. A log that streams through the caches drives the bitmap out of them:
    /// blocks that are marked together wait for memory together.
    waiting: Vec<(FileId, BlockSize, u64)>,
    /// End of the last record.
    at: Lsn,
}

/// Blocks that wait at most.
const WAITING_MAX: usize = 256;

impl Extractor {
    /// For the records of this range.
    #[must_use]
    pub fn new(range: LsnRange) -> Self {
        let (epoch, waiting) = (Epoch::new(MEMORY_BYTES_MAX), Vec::with_capacity(WAITING_MAX));
        Extractor { range, epoch, waiting, at: Lsn::ORIGIN }
    }

    /// Takes the next record of the log. Those outside of the range are passed over.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`]; [`Error::Record`] for a payload that can't be read. Whoever goes on after an
    /// error learns that everything changed.
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

    /// What changed, once every record of the range was pushed. `read` says from where to where the log was
    /// read: the first position asked of its reader, and where that stood at the end.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when that is less than the range.
    pub fn finish(mut self, read: LsnRange) -> Result<Changes> {
        self.mark_waiting();
        if read.covers(&self.range) {
            Ok(Changes { range: self.range, set: self.epoch.to_set() })
        } else {
            Err(Error::Incomplete { range: self.range, read })
        }
    }
}

/// False for kinds that change no block. A kind that is not known may change anything: decoding it is an
/// error.
fn changes_something(kind: u8) -> bool {
    use RecordKind::{Abort, ClockStep, Commit, Data, Note, Watermark};
    !matches!(RecordKind::from_u8(kind), Some(Data | Commit | Abort | Watermark | ClockStep | Note))
}

#[cfg(test)]
mod tests;
