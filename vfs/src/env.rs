//! Everything that a crate needs from the machine, in one value.
//!
//! A program passes [`Env::system`]. A test passes an [`Env`] of simulated parts (feature `sim`):
//! every file, time and random number then comes from one seed, and all work runs in the calling
//! thread.

use crate::{Clock, FileSystem, OsFs, Random, Spawn, SystemClock, SystemRandom};
use std::io;
use std::sync::Arc;

/// File system, clock, randomness and threads. Cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Env {
    /// Files and folders.
    pub fs: Arc<dyn FileSystem>,
    /// Time, and waiting for it ([`Clock::sleep`]).
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub random: Arc<dyn Random>,
    /// How work runs: in threads, or in the calling thread.
    pub spawn: Spawn,
}

impl Env {
    /// The environment of the real machine.
    #[must_use]
    pub fn system() -> Self {
        Env {
            fs: Arc::new(OsFs),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            spawn: Spawn::Threads,
        }
    }

    /// A simulated machine with one thread: `fs` and `clock`, and random numbers from `seed`.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn simulated(fs: Arc<dyn FileSystem>, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Env { fs, clock, random: Arc::new(crate::sim::SimRandom::new(seed)), spawn: Spawn::Inline }
    }

    /// Replaces the file system.
    #[must_use]
    pub fn with_fs(self, fs: Arc<dyn FileSystem>) -> Self {
        Env { fs, ..self }
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Env { clock, ..self }
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// The error of the operating system, if it cannot provide random bytes.
    pub fn random_bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{SimClock, SimFs};
    use pitr_format::Timestamp;
    use std::time::Duration;

    fn simulated(seed: u64) -> Env {
        let clock = SimClock::new(Timestamp::from_micros(7));
        Env::simulated(Arc::new(SimFs::new()), Arc::new(clock), seed)
    }

    #[test]
    fn equal_seeds_give_equal_random_numbers() {
        let draw = |seed| {
            let env = simulated(seed);
            [env.random_bytes::<21>().unwrap(), env.random_bytes().unwrap()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
    }

    #[test]
    fn a_simulated_sleep_takes_no_real_time() {
        let env = simulated(1);
        env.clock.sleep(Duration::from_secs(3_600));
        assert_eq!(env.clock.monotonic(), Duration::from_secs(3_600));
        assert_eq!(env.clock.now(), Timestamp::from_micros(3_600_000_007));
    }

    #[test]
    fn the_system_gives_random_bytes() {
        let env = Env::system();
        assert_ne!(env.random_bytes::<32>().unwrap(), env.random_bytes::<32>().unwrap());
    }
}
