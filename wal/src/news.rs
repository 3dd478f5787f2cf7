//! Waiting until a log has become longer: for those who follow it and sync nothing themselves.
//!
//! # Invariant: no lost wake-up
//! Whoever waits counts itself before it looks at the log; whoever makes news has changed the log before it looks at the
//! count. Both look at the log under its queue's lock, so one of them sees the other. A teller that sees a waiter takes
//! this lock once, which the waiter holds from its look until it sleeps. With nobody waiting, telling is one load.

use crate::commit::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct News {
    waiting: AtomicUsize,
    asleep: Mutex<()>,
    told: Condvar,
}

impl News {
    /// The log has changed.
    pub(crate) fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.asleep));
            self.told.notify_all();
        }
    }

    /// Returns when `there` says so, or when the time is over. `there` takes the queue's lock to look.
    pub(crate) fn wait(&self, timeout: Duration, there: impl Fn() -> bool) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Poisoned or not, the lock guards no data.
        let _ = self.told.wait_timeout_while(lock(&self.asleep), timeout, |()| !there());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
