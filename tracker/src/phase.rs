//! Which epochs a pass marks, and the wait for passes that are still on their way.

use crate::epoch::Epoch;
use pitr_format::Lsn;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// What all passes of a tracker share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Highest LSN that an ended pass logged.
    done_to: AtomicU64,
    /// True once a pass was dropped instead of ended: what it logged is not known.
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

    pub(crate) fn lose_sight(&self) {
        self.blind.store(true, Relaxed);
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind.load(Relaxed)
    }
}

/// A stretch of time in which passes that begin mark the same epochs. Every pass of it holds it.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) epoch: Arc<Epoch>,
    /// The epoch after it, while a freeze is looking for the point between the two.
    pub(crate) next: Option<Arc<Epoch>>,
    pub(crate) shared: Arc<Shared>,
    /// Nothing is ever sent: the channel closes with the last holder of the phase.
    _open: Sender<Infallible>,
}

impl Phase {
    pub(crate) fn new(
        epoch: Arc<Epoch>,
        next: Option<Arc<Epoch>>,
        shared: Arc<Shared>,
    ) -> (Arc<Self>, Drain) {
        let (open, closed) = channel();
        (Arc::new(Phase { epoch, next, shared, _open: open }), Drain(closed))
    }
}

/// Tells when the last pass of a phase has ended. What it did happens before that is told.
#[derive(Debug)]
pub(crate) struct Drain(Receiver<Infallible>);

impl Drain {
    pub(crate) fn is_over(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    pub(crate) fn wait(&self) {
        let _closed = self.0.recv();
    }
}
