//! The epochs that a pass marks, and the wait for open passes.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Condvar, Mutex};
use pitr_format::Lsn;
use std::sync::PoisonError;

/// State that all passes of a tracker share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Highest LSN that an ended pass logged.
    done_to: AtomicU64,
    /// True once a pass was dropped without an end: it is unknown what it logged.
    blind: AtomicBool,
}

impl Shared {
    pub(crate) fn new(done_to: Lsn) -> Self {
        Shared { done_to: AtomicU64::new(done_to.get()), blind: AtomicBool::new(false) }
    }

    pub(crate) fn done(&self, end: Lsn) {
        if self.done_to.load(Relaxed) < end.get() {
            self.done_to.fetch_max(end.get(), Relaxed);
        }
    }

    pub(crate) fn done_to(&self) -> Lsn {
        Lsn::new(self.done_to.load(Relaxed))
    }

    pub(crate) fn set_blind(&self) {
        self.blind.store(true, Relaxed);
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind.load(Relaxed)
    }
}

/// A period in which all new passes mark the same epochs. Every pass of the phase holds it.
#[derive(Debug)]
pub(crate) struct Phase<E> {
    pub(crate) epoch: Arc<E>,
    /// The following epoch, while a freeze determines the position between the two.
    pub(crate) next: Option<Arc<E>>,
    pub(crate) shared: Arc<Shared>,
    completion: Arc<Completion>,
}

impl<E> Phase<E> {
    pub(crate) fn new(epoch: Arc<E>, next: Option<Arc<E>>, shared: Arc<Shared>) -> (Arc<Self>, Drain) {
        let completion = Arc::new(Completion { is_over: Mutex::new(false), ended: Condvar::new() });
        (Arc::new(Phase { epoch, next, shared, completion: Arc::clone(&completion) }), Drain(completion))
    }
}

impl<E> Drop for Phase<E> {
    /// The last holder was dropped, so the phase is over.
    fn drop(&mut self) {
        *self.completion.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.completion.ended.notify_all();
    }
}

#[derive(Debug)]
struct Completion {
    is_over: Mutex<bool>,
    ended: Condvar,
}

/// Reports when the last pass of a phase has ended. What that pass did happens before the report.
#[derive(Debug)]
pub(crate) struct Drain(Arc<Completion>);

impl Drain {
    pub(crate) fn is_over(&self) -> bool {
        *self.0.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait(&self) {
        let mut is_over = self.0.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_over {
            is_over = self.0.ended.wait(is_over).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
