//! The live bitmap and its freeze. The argument stands in the head of the crate.

use crate::epoch::Epoch;
use crate::pass::Pass;
use crate::phase::{Drain, Phase, Shared};
use crate::{ChangeSet, Changes, Error, LsnRange, MEMORY_BYTES_MAX, Result};
use pitr_format::Lsn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Tracks which blocks change, from one LSN on. Share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct Tracker {
    phase: RwLock<Arc<Phase>>,
    turn: Mutex<Turn>,
    shared: Arc<Shared>,
    memory_bytes: u64,
}

/// What one freeze leaves to the next.
#[derive(Debug)]
struct Turn {
    /// Begin of the live epoch.
    from: Lsn,
    /// Tells when the present phase is over.
    current: Drain,
    /// Tell when earlier phases are over of which a pass may be left.
    earlier: Vec<Drain>,
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
        let (epoch, shared) = (Arc::new(Epoch::new(memory_bytes)), Arc::new(Shared::new(from)));
        let (phase, current) = Phase::new(epoch, None, Arc::clone(&shared));
        let turn = Mutex::new(Turn { from, current, earlier: Vec::new() });
        Tracker { phase: RwLock::new(phase), turn, shared, memory_bytes }
    }

    /// A tracker whose live epoch begins with what is known to have changed: after a crash, what an
    /// [`Extractor`](crate::Extractor) found between the last frozen epoch and the end of the log. The first
    /// freeze then speaks for all from the begin of that range on.
    #[must_use]
    pub fn resume(known: &Changes) -> Self {
        let tracker = Tracker::new(known.range.from());
        tracker.shared.done(known.range.to());
        tracker.present().epoch.take_in(&known.set);
        tracker
    }

    /// Begins a pass: before its records are appended to the log.
    pub fn enter(&self) -> Pass {
        Pass::new(self.present())
    }

    /// Ends the epoch and begins the next: what changed from the end of the one before it up to the LSN that
    /// `durable` returns, which is asked at the right moment for the log's durable LSN.
    ///
    /// Waits for passes that are on their way; passes never wait for it. What it returns is in memory only:
    /// see [`Store::put`](crate::Store::put).
    ///
    /// # Errors
    /// [`Error::Behind`] when `durable` returned less than what was tracked; the epoch goes on then.
    pub fn freeze(&self, durable: impl FnOnce() -> Lsn) -> Result<Changes> {
        let mut doubled = self.double();
        doubled.wait();
        let mut divided = doubled.divide(durable)?;
        divided.wait();
        Ok(divided.read())
    }

    /// Step 1 of a freeze: from here on passes mark two epochs.
    pub(crate) fn double(&self) -> Doubled<'_> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.present();
        let epoch = Arc::clone(&present.epoch);
        // A freeze that failed after this step left the phase as it is now needed.
        let next = present.next.clone().unwrap_or_else(|| {
            let next = Arc::new(Epoch::new(self.memory_bytes));
            self.publish(&mut turn, Arc::clone(&epoch), Some(Arc::clone(&next)));
            next
        });
        Doubled { tracker: self, turn, epoch, next }
    }

    fn present(&self) -> Arc<Phase> {
        Arc::clone(&self.phase.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, turn: &mut Turn, epoch: Arc<Epoch>, next: Option<Arc<Epoch>>) {
        let (phase, drain) = Phase::new(epoch, next, Arc::clone(&self.shared));
        let replaced = {
            let mut present = self.phase.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *present, phase)
        };
        drop(replaced);
        turn.earlier.push(std::mem::replace(&mut turn.current, drain));
    }
}

impl Turn {
    fn is_drained(&self) -> bool {
        self.earlier.iter().all(Drain::is_over)
    }

    fn wait(&mut self) {
        self.earlier.drain(..).for_each(|drain| drain.wait());
    }
}

/// A freeze whose passes mark the old epoch and the next.
pub(crate) struct Doubled<'t> {
    tracker: &'t Tracker,
    turn: MutexGuard<'t, Turn>,
    epoch: Arc<Epoch>,
    next: Arc<Epoch>,
}

impl<'t> Doubled<'t> {
    /// True if no pass is left that marks the old epoch alone.
    pub(crate) fn is_drained(&self) -> bool {
        self.turn.is_drained()
    }

    /// Step 2: waits for that.
    pub(crate) fn wait(&mut self) {
        self.turn.wait();
    }

    /// Steps 3 and 4, once [drained](Self::is_drained): from here on passes mark the next epoch alone.
    pub(crate) fn divide(mut self, durable: impl FnOnce() -> Lsn) -> Result<Divided<'t>> {
        debug_assert!(self.is_drained(), "a pass is left that marks the old epoch alone");
        let tracked = self.tracker.shared.done_to().max(self.turn.from);
        let to = durable();
        if to < tracked {
            return Err(Error::Behind { to, tracked });
        }
        let range = LsnRange::new(self.turn.from, to)?;
        self.turn.from = to;
        self.tracker.publish(&mut self.turn, self.next, None);
        Ok(Divided { tracker: self.tracker, turn: self.turn, epoch: self.epoch, range })
    }
}

/// A freeze that knows where the old epoch ends.
pub(crate) struct Divided<'t> {
    tracker: &'t Tracker,
    turn: MutexGuard<'t, Turn>,
    epoch: Arc<Epoch>,
    range: LsnRange,
}

impl Divided<'_> {
    /// True if no pass is left that marks the old epoch.
    pub(crate) fn is_drained(&self) -> bool {
        self.turn.is_drained()
    }

    /// Step 5: waits for that.
    pub(crate) fn wait(&mut self) {
        self.turn.wait();
    }

    /// Step 6, once [drained](Self::is_drained).
    pub(crate) fn read(self) -> Changes {
        debug_assert!(self.is_drained(), "a pass is left that marks the old epoch");
        let blind = self.tracker.shared.is_blind();
        let set = if blind { ChangeSet::whole() } else { self.epoch.to_set() };
        Changes { range: self.range, set }
    }
}

#[cfg(test)]
mod tests;
