//! The steps of a freeze, for any type of epoch. The crate documentation has the correctness
//! argument. Models in this module let loom check the orders of its steps and those of passes
//! (`cargo xtask models`).

use crate::phase::{Drain, Phase, Shared};
use crate::sync::{Arc, Mutex, MutexGuard, RwLock};
use crate::{Error, LsnRange, Result};
use pitr_format::Lsn;
use std::sync::PoisonError;

/// The current phase, in which passes begin, and the lock of the one freeze that may change it.
#[derive(Debug)]
pub(crate) struct Phases<E> {
    present: RwLock<Arc<Phase<E>>>,
    turn: Mutex<Turn>,
    pub(crate) shared: Arc<Shared>,
}

/// State that one freeze leaves to the next.
#[derive(Debug)]
struct Turn {
    /// Start of the live epoch.
    from: Lsn,
    /// Reports when the current phase is over.
    current: Drain,
    /// Earlier phases that may still have open passes.
    earlier: Vec<Drain>,
}

impl Turn {
    fn is_drained(&self) -> bool {
        self.earlier.iter().all(Drain::is_over)
    }

    fn wait(&mut self) {
        self.earlier.drain(..).for_each(|drain| drain.wait());
    }
}

impl<E> Phases<E> {
    pub(crate) fn new(from: Lsn, epoch: E) -> Self {
        let shared = Arc::new(Shared::new(from));
        let (phase, current) = Phase::new(Arc::new(epoch), None, Arc::clone(&shared));
        let turn = Mutex::new(Turn { from, current, earlier: Vec::new() });
        Phases { present: RwLock::new(phase), turn, shared }
    }

    /// The phase of a pass that begins now. The lock is held only for one clone.
    pub(crate) fn present(&self) -> Arc<Phase<E>> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs all steps of a freeze: ends the epoch and begins the next one, created by `make`.
    pub(crate) fn freeze(&self, make: impl FnOnce() -> E, durable: impl FnOnce() -> Lsn) -> Result<Ended<E>> {
        let mut doubled = self.double(make);
        doubled.wait();
        let mut divided = doubled.divide(durable)?;
        divided.wait();
        Ok(divided.end())
    }

    /// Step 1: from here on new passes mark two epochs.
    pub(crate) fn double(&self, make: impl FnOnce() -> E) -> Doubled<'_, E> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.present();
        let epoch = Arc::clone(&present.epoch);
        // A freeze that failed after this step left the required phase in place.
        let next = present.next.clone().unwrap_or_else(|| {
            let next = Arc::new(make());
            self.publish(&mut turn, Arc::clone(&epoch), Some(Arc::clone(&next)));
            next
        });
        Doubled { phases: self, turn, epoch, next }
    }

    fn publish(&self, turn: &mut Turn, epoch: Arc<E>, next: Option<Arc<E>>) {
        let (phase, drain) = Phase::new(epoch, next, Arc::clone(&self.shared));
        let replaced = {
            let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *present, phase)
        };
        drop(replaced);
        turn.earlier.push(std::mem::replace(&mut turn.current, drain));
    }
}

/// A freeze in the state in which passes mark the old epoch and the next.
pub(crate) struct Doubled<'t, E> {
    phases: &'t Phases<E>,
    turn: MutexGuard<'t, Turn>,
    epoch: Arc<E>,
    next: Arc<E>,
}

impl<'t, E> Doubled<'t, E> {
    /// True if no open pass marks only the old epoch.
    pub(crate) fn is_drained(&self) -> bool {
        self.turn.is_drained()
    }

    /// Step 2: waits until [drained](Self::is_drained).
    pub(crate) fn wait(&mut self) {
        self.turn.wait();
    }

    /// Steps 3 and 4, once [drained](Self::is_drained): from here on passes mark only the next
    /// epoch.
    pub(crate) fn divide(mut self, durable: impl FnOnce() -> Lsn) -> Result<Divided<'t, E>> {
        debug_assert!(self.is_drained(), "an open pass marks only the old epoch");
        let tracked = self.phases.shared.done_to().max(self.turn.from);
        let to = durable();
        if to < tracked {
            return Err(Error::Behind { to, tracked });
        }
        let range = LsnRange::new(self.turn.from, to)?;
        self.turn.from = to;
        self.phases.publish(&mut self.turn, self.next, None);
        Ok(Divided { phases: self.phases, turn: self.turn, epoch: self.epoch, range })
    }
}

/// A freeze that knows the end of the old epoch.
pub(crate) struct Divided<'t, E> {
    phases: &'t Phases<E>,
    turn: MutexGuard<'t, Turn>,
    epoch: Arc<E>,
    range: LsnRange,
}

impl<E> Divided<'_, E> {
    /// True if no open pass marks the old epoch.
    pub(crate) fn is_drained(&self) -> bool {
        self.turn.is_drained()
    }

    /// Step 5: waits until [drained](Self::is_drained).
    pub(crate) fn wait(&mut self) {
        self.turn.wait();
    }

    /// Step 6, once [drained](Self::is_drained).
    pub(crate) fn end(self) -> Ended<E> {
        debug_assert!(self.is_drained(), "an open pass marks the old epoch");
        Ended { range: self.range, epoch: (!self.phases.shared.is_blind()).then_some(self.epoch) }
    }
}

/// An epoch that no pass marks any more.
pub(crate) struct Ended<E> {
    pub(crate) range: LsnRange,
    /// `None` if the changes of the epoch are unknown.
    pub(crate) epoch: Option<Arc<E>>,
}

#[cfg(all(test, loom))]
mod models;
