//! The live bitmap and its freeze. The argument stands in the head of the crate.

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
    /// A tracker that knows nothing of what lies before `from`: the durable end of the log, read when no pass
    /// is on its way.
    #[must_use]
    pub fn new(from: Lsn) -> Self {
        Tracker::with_memory(from, MEMORY_BYTES_MAX)
    }

    /// As [`Tracker::new`], with less memory for an epoch than [`MEMORY_BYTES_MAX`]; more is not used.
    #[must_use]
    pub fn with_memory(from: Lsn, bytes: u64) -> Self {
        let memory_bytes = bytes.min(MEMORY_BYTES_MAX);
        Tracker { phases: Phases::new(from, Epoch::new(memory_bytes)), memory_bytes }
    }

    /// A tracker whose live epoch begins with what is known to have changed: after a crash, what an
    /// [`Extractor`](crate::Extractor) found between the last frozen epoch and the end of the log. The first
    /// freeze then speaks for all from the begin of that range on.
    #[must_use]
    pub fn resume(known: &Changes) -> Self {
        let tracker = Tracker::new(known.range.from());
        tracker.phases.shared.done(known.range.to());
        tracker.phases.present().epoch.take_in(&known.set);
        tracker
    }

    /// Begins a pass: before its records are appended to the log.
    pub fn enter(&self) -> Pass {
        Pass::new(self.phases.present())
    }

    /// Ends the epoch and begins the next: what changed from the end of the one before it up to the LSN that
    /// `durable` returns, which is asked at the right moment for the log's durable LSN.
    ///
    /// Waits for passes that are on their way; passes never wait for it. What it returns is in memory only:
    /// see [`Store::put`](crate::Store::put).
    ///
    /// # Errors
    /// [`Error::Behind`](crate::Error::Behind) when `durable` returned less than what was tracked; the epoch goes on then.
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
