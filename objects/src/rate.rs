//! A limit of the rate at which objects are read.

use crate::Objects;
use pitr_vfs::{Clock, Rate};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Lets each reader wait until its bytes, and all before them, have had their time.
#[derive(Debug)]
pub(crate) struct RateLimit(Rate);

impl RateLimit {
    pub(crate) fn wait(&self, clock: &dyn Clock, bytes: u64) {
        let now = clock.monotonic();
        let time = self.0.reserve(now, bytes);
        clock.sleep(time.end.saturating_sub(now));
    }
}

impl Objects {
    /// A handle that reads at most this many bytes a second, together with its clones. Footers and
    /// listings count as well as contents; puts are not limited.
    #[must_use]
    pub fn at_rate(&self, bytes_per_second: NonZeroU64) -> Objects {
        let limit = RateLimit(Rate::new(bytes_per_second));
        Objects { limit: Some(Arc::new(limit)), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::Timestamp;
    use pitr_vfs::Env;
    use pitr_vfs::sim::{SimClock, SimFs};

    #[test]
    fn reads_take_their_time_and_other_handles_do_not() {
        let clock = SimClock::new(Timestamp::MIN);
        let env = Env::simulated(Arc::new(SimFs::new()), Arc::new(clock), 1);
        let store = Arc::new(object_store::memory::InMemory::new());
        let objects = Objects::over(store, &env).unwrap();
        objects.put_new("a", vec![7; 5000]).unwrap();
        let seconds = |objects: &Objects| {
            let begun = env.clock.monotonic();
            objects.get("a").unwrap();
            objects.get_range("a", 0..1000).unwrap();
            (env.clock.monotonic() - begun).as_secs_f64()
        };
        let slow = objects.at_rate(NonZeroU64::new(1000).unwrap());
        assert!((5.9..6.5).contains(&seconds(&slow)));
        assert!((5.9..6.5).contains(&seconds(&slow.clone())));
        assert!(seconds(&objects) < 0.5);
    }
}
