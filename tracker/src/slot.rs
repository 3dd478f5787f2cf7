//! Parts of a bitmap that are allocated on first use, never move, and live as long as the bitmap.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A reference to such a part, filled at most once. Reading it takes no lock.
pub(crate) type Slot<T> = OnceLock<Box<T>>;

/// A table of slots.
pub(crate) type Node<T, const FAN: usize> = [Slot<T>; FAN];

/// Creates a table of empty slots.
pub(crate) fn empty_node<T, const FAN: usize>() -> Box<Node<T, FAN>> {
    Box::new([const { OnceLock::new() }; FAN])
}

/// Memory that an epoch may still take, bytes.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Budget(AtomicU64::new(bytes))
    }

    /// Takes `bytes` from the budget. Returns false if too little is left.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }

    /// The content of the slot, created now if the budget allows it. Concurrent callers wait until
    /// it is created.
    pub(crate) fn fill<'s, T>(
        &self,
        slot: &'s Slot<T>,
        cost: u64,
        make: impl FnOnce() -> Box<T>,
    ) -> Option<&'s T> {
        if let Some(made) = slot.get() {
            return Some(made);
        }
        if !self.take(cost) {
            return None;
        }
        let mut mine = false;
        let made = slot.get_or_init(|| {
            mine = true;
            make()
        });
        if !mine {
            self.give_back(cost);
        }
        Some(made)
    }
}
