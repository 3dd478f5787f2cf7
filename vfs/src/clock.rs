//! The source of time (law 10: a single one).

use pitr_format::Timestamp;
use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock, and a monotonic clock that never goes back.
pub trait Clock: Send + Sync + Debug {
    /// Reads the wall clock. It may be set, forward or back, at any time.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment of this process. It never decreases.
    fn monotonic(&self) -> Duration;

    /// Returns after `time` has passed on the monotonic clock. On a simulated clock it passes at
    /// once.
    fn sleep(&self, time: Duration) {
        #[allow(clippy::disallowed_methods, reason = "the only place that sleeps")]
        std::thread::sleep(time);
    }
}

/// The clocks of the machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    begin: Instant,
}

impl SystemClock {
    /// Creates a clock. Its monotonic time starts at 0.
    #[must_use]
    pub fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "the only place that reads the monotonic clock")]
        let begin = Instant::now();
        SystemClock { begin }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = match since {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Timestamp::from_micros(micros)
    }

    fn monotonic(&self) -> Duration {
        self.begin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2026_and_goes_forward() {
        let clock = SystemClock::new();
        assert!(clock.now() > Timestamp::from_micros(1_767_225_600_000_000));
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
