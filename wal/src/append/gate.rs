//! A place where threads sleep until a condition holds.

use std::time::Duration;

#[cfg(not(loom))]
use std::sync::{Condvar, Mutex};
#[cfg(not(loom))]
use std::thread;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex};
#[cfg(loom)]
use loom::thread;

/// Number of times that a thread yields before it sleeps. While other threads run, yielding is
/// cheaper than sleeping and waking; on an idle machine it takes a few microseconds
/// (`docs/choices.md`).
const YIELDS: u32 = if cfg!(loom) { 0 } else { 5 };

/// A place to sleep. Atomics hold the condition; a thread changes them before it opens the gate.
///
/// # Invariant: no lost wake-up
/// A sleeper checks the condition with the lock held, and releases the lock only by falling asleep.
/// The thread that opens the gate takes the lock once between changing the condition and waking. So
/// the sleeper either sees the change or is already asleep.
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
        // The lock guards no data, so poisoning does not matter.
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

    /// Wakes all sleepers.
    pub(crate) fn open(&self) {
        drop(self.lock.lock());
        self.opened.notify_all();
    }
}
