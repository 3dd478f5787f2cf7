//! Where threads sleep until something is so.

use std::time::Duration;

#[cfg(not(loom))]
use std::sync::{Condvar, Mutex};
#[cfg(not(loom))]
use std::thread;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex};
#[cfg(loom)]
use loom::thread;

/// How often a thread lets others run before it sleeps. While there are others that is cheaper than sleeping and being
/// woken, and on an idle machine it takes a few microseconds (`docs/choices.md`).
const YIELDS: u32 = if cfg!(loom) { 0 } else { 5 };

/// A place to sleep. What is waited for is told by atomics, which whoever opens the gate has changed before.
///
/// # Invariant: no lost wake-up
/// A sleeper looks with the lock held, and gives it back only by falling asleep. Whoever opens holds the lock once between
/// changing what is looked at and waking: so the sleeper either sees the change or is asleep by then.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    lock: Mutex<()>,
    opened: Condvar,
}

impl Gate {
    /// Returns once it `is_open`, or after `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>, is_open: impl Fn() -> bool) {
        for _ in 0..YIELDS {
            if is_open() {
                return;
            }
            thread::yield_now();
        }
        // Poisoned or not, the lock guards no data.
        let mut held = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match timeout {
            #[cfg(not(loom))]
            Some(timeout) => _ = self.opened.wait_timeout_while(held, timeout, |()| !is_open()),
            _ => {
                while !is_open() {
                    held = self.opened.wait(held).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        }
    }

    /// Wakes all who sleep here.
    pub(crate) fn open(&self) {
        drop(self.lock.lock());
        self.opened.notify_all();
    }
}
