//! A clock that a test sets.

use crate::Clock;
use pitr_format::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A clock that moves only when a test moves it.
#[derive(Debug)]
pub struct SimClock {
    wall_micros: AtomicI64,
    monotonic_micros: AtomicU64,
}

impl SimClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        SimClock { wall_micros: AtomicI64::new(now.micros()), monotonic_micros: AtomicU64::new(0) }
    }

    /// Sets the wall clock, forward or back. The monotonic clock does not change.
    pub fn set(&self, now: Timestamp) {
        self.wall_micros.store(now.micros(), Ordering::SeqCst);
    }

    /// Advances both clocks.
    pub fn pass(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.wall_micros.fetch_add(i64::try_from(micros).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic_micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall_micros.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_micros.load(Ordering::SeqCst))
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_does_not_change_the_monotonic_clock() {
        let clock = SimClock::new(Timestamp::from_micros(1_000));
        clock.pass(Duration::from_micros(5));
        clock.set(Timestamp::from_micros(7));
        assert_eq!((clock.now().micros(), clock.monotonic()), (7, Duration::from_micros(5)));
    }
}
