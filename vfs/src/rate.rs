//! Work that keeps to a rate.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A rate that several threads keep together: each amount has its own time, after that of all
/// amounts before it.
#[derive(Debug)]
pub struct Rate {
    per_second: NonZeroU64,
    /// End of the time of the amounts so far, on the monotonic clock.
    busy_until: Mutex<Duration>,
}

impl Rate {
    /// A number of bytes, or other units, a second.
    #[must_use]
    pub const fn new(per_second: NonZeroU64) -> Self {
        Rate { per_second, busy_until: Mutex::new(Duration::ZERO) }
    }

    /// Reserves the next time for an amount and returns it; it does not begin before `now`. Times
    /// are those of a monotonic clock.
    pub fn reserve(&self, now: Duration, amount: u64) -> Range<Duration> {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*busy_until).max(now);
        *busy_until = begin.saturating_add(takes);
        begin..*busy_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Amounts have times one after the other, as long as the rate demands.
        #[test]
        fn times_follow_each_other(
            per_second in 1..u64::MAX, amounts in prop::collection::vec((any::<u32>(), any::<u64>()), 1..20),
        ) {
            let rate = Rate::new(NonZeroU64::new(per_second).unwrap());
            let mut before = Duration::ZERO;
            for (now, amount) in amounts {
                let now = Duration::from_millis(now.into());
                let time = rate.reserve(now, amount);
                prop_assert!(time.start >= now && time.start >= before && time.end >= time.start);
                let takes = (time.end - time.start).as_secs_f64();
                let expected = (amount as f64 / per_second as f64).min(u64::MAX as f64 / 1e9);
                prop_assert!((takes - expected).abs() <= 1e-6 * expected + 1e-8, "{takes} {expected}");
                before = time.end;
            }
        }
    }
}
