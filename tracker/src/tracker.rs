//! The live bitmap and its freeze. The crate documentation has the correctness argument.

use crate::epoch::Epoch;
use crate::pass::Pass;
use crate::phases::{Ended, Phases};
use crate::{ChangeSet, Changes, MEMORY_BYTES_MAX, Result};
use pitr_format::Lsn;

/// Tracks which blocks change, from one LSN on. Share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct Tracker {
    phases: Phases<Epoch>,
    memory_bytes: u64,
}

impl Tracker {
    /// Creates a tracker for changes from `from` on: the durable end of the log, read while no pass
    /// is open.
    #[must_use]
    pub fn new(from: Lsn) -> Self {
        Tracker::with_memory(from, MEMORY_BYTES_MAX)
    }

    /// Like [`Tracker::new`], with a memory limit per epoch. The limit is at most
    /// [`MEMORY_BYTES_MAX`].
    #[must_use]
    pub fn with_memory(from: Lsn, bytes: u64) -> Self {
        let memory_bytes = bytes.min(MEMORY_BYTES_MAX);
        Tracker { phases: Phases::new(from, Epoch::new(memory_bytes)), memory_bytes }
    }

    /// Creates a tracker whose live epoch starts with known changes.
    ///
    /// After a crash, these are the changes that an [`Extractor`](crate::Extractor) found between
    /// the last frozen epoch and the end of the log. The first freeze then covers everything from
    /// the start of that range.
    #[must_use]
    pub fn resume(known: &Changes) -> Self {
        let tracker = Tracker::new(known.range.from());
        tracker.phases.shared.done(known.range.to());
        tracker.phases.present().epoch.mark_known(&known.set);
        tracker
    }

    /// Begins a pass. Call it before its records are appended to the log.
    pub fn enter(&self) -> Pass {
        Pass::new(self.phases.present())
    }

    /// Ends the epoch and begins the next. Returns the changes from the end of the previous epoch
    /// up to the LSN that `durable` returns. It calls `durable` at the right moment, to read the
    /// log's durable LSN.
    ///
    /// Waits for open passes; passes never wait for it. The result is only in memory: see
    /// [`Store::put`](crate::Store::put).
    ///
    /// # Errors
    /// [`Error::Behind`](crate::Error::Behind) if `durable` returned less than what was tracked.
    /// The epoch then continues.
    pub fn freeze(&self, durable: impl FnOnce() -> Lsn) -> Result<Changes> {
        Ok(self.phases.freeze(|| self.new_epoch(), durable)?.into())
    }

    fn new_epoch(&self) -> Epoch {
        Epoch::new(self.memory_bytes)
    }
}

impl From<Ended<Epoch>> for Changes {
    fn from(Ended { range, epoch }: Ended<Epoch>) -> Self {
        Changes { range, set: epoch.map_or_else(ChangeSet::whole, |epoch| epoch.to_set()) }
    }
}

#[cfg(test)]
mod tests;
