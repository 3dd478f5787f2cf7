//! Letting the database's log restart, so that it doesn't grow for ever under our read transaction.
//!
//! An application's own checkpoint is not hindered for long: our read transaction moves on every
//! [`HAND_OVER_EVERY`] while there is news, and at once when everything is backfilled, so that RESTART and TRUNCATE
//! get what they wait for.
//!
//! The log restarts at the next write once everything is backfilled and no reader stands on it. A hand-over
//! while everything is backfilled brings our read transaction to read lock 0, which allows just that (see
//! [`crate::source`]). Two ways lead there:
//!
//! 1. **Without the write lock**, when the log has passed [`KeeperOptions::soft_bytes`]: hand over, passive checkpoint,
//!    hand over. It fails, harmlessly, if a commit comes in between.
//! 2. **With the write lock**, when the log has passed [`KeeperOptions::hard_bytes`] and less than
//!    [`LEFT_BYTES_MAX`] remains to backfill: the same under `BEGIN IMMEDIATE`, so that no commit can come in
//!    between. Nothing is written; the lock is given back by `ROLLBACK`. How long it was held is recorded.
//!
//! Our own checkpoint is one of a library that has the WAL-reset fault of SQLite 3.7.0 to 3.51.2 mended.
//! If an application's old reader stands in the way, both ways end without effect and are tried again later.

use std::sync::Arc;
use std::time::Duration;

use pitr_vfs::Clock;
use pitr_wal::Wal;

use crate::capture::Capture;
use crate::conn::Published;
use crate::error::Result;
use crate::source::Source;

/// The write lock is taken only if no more than this remains to backfill, bytes: it bounds how long it is held.
pub const LEFT_BYTES_MAX: u64 = 1 << 20;
/// After an attempt that did not lead to a restart, wait this long.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds of backfilling before the write lock is taken.
const ROUNDS: u32 = 4;
/// How often and how fast the write lock is asked for, at each attempt.
const LOCK_TRIES: u32 = 40;
const LOCK_TRY_EVERY: Duration = Duration::from_micros(250);
/// Hand over at most this often: each one syncs our log.
pub const HAND_OVER_EVERY: Duration = Duration::from_millis(25);

/// When the log is to restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperOptions {
    /// From this size on the log is brought to restart without taking the write lock, bytes.
    pub soft_bytes: u64,
    /// From this size on the write lock is taken for it, bytes.
    pub hard_bytes: u64,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        KeeperOptions { soft_bytes: 4 << 20, hard_bytes: 16 << 20 }
    }
}

/// Keeps the log's size in bounds.
#[derive(Debug)]
pub struct Keeper {
    options: KeeperOptions,
    wal: Wal,
    clock: Arc<dyn Clock>,
    handed_over: Option<Duration>,
    handed_over_frame: u32,
    attempted: Option<Duration>,
    write_lock: Vec<Duration>,
}

impl Keeper {
    /// A keeper for the source whose transactions go to `wal`.
    #[must_use]
    pub fn new(wal: Wal, clock: Arc<dyn Clock>, options: KeeperOptions) -> Self {
        Keeper {
            options,
            wal,
            clock,
            handed_over: None,
            handed_over_frame: 0,
            attempted: None,
            write_lock: Vec::new(),
        }
    }

    /// How long the write lock was held, each time.
    #[must_use]
    pub fn write_lock_held(&self) -> &[Duration] {
        &self.write_lock
    }

    /// To be called after each look, with what it saw published. Moves our read transaction on, and lets the log restart
    /// when it is time.
    pub fn tend(&mut self, source: &mut Source, capture: &mut Capture, published: Published) -> Result<()> {
        let now = self.clock.monotonic();
        let frame = capture.position().frame;
        let due = |since: Option<Duration>, pause| since.is_none_or(|t| now.saturating_sub(t) >= pause);
        let all_backfilled = published.frames == published.backfilled && !source.may_restart();
        let news = frame != self.handed_over_frame && due(self.handed_over, HAND_OVER_EVERY);
        if all_backfilled || news {
            self.hand_over(source, capture)?;
            self.handed_over = Some(now);
            self.handed_over_frame = frame;
        }
        let page_bytes = u64::from(capture.position().page_bytes);
        let log_bytes = u64::from(frame) * page_bytes;
        let next_write_restarts = published.frames == published.backfilled && source.may_restart();
        if log_bytes < self.options.soft_bytes || next_write_restarts || !due(self.attempted, PAUSE) {
            return Ok(());
        }
        self.attempt(source, capture)?;
        if log_bytes >= self.options.hard_bytes && !self.is_ready(source)? {
            self.attempt_locked(source, capture, page_bytes)?;
        }
        self.attempted = if self.is_ready(source)? { None } else { Some(now) };
        Ok(())
    }

    /// Tries once to have everything backfilled, before the watch ends.
    pub fn settle(&self, source: &mut Source, capture: &mut Capture) -> Result<()> {
        self.attempt(source, capture)
    }

    fn is_ready(&self, source: &Source) -> Result<bool> {
        Ok(source
            .observe()?
            .is_some_and(|o| o.published.frames == o.published.backfilled && source.may_restart()))
    }

    /// A hand-over with what [`Source::hand_over`] asks for: a look under the standing transaction, made durable.
    fn hand_over(&self, source: &mut Source, capture: &mut Capture) -> Result<bool> {
        capture.look(source)?;
        self.wal.sync()?;
        source.hand_over(capture.position().frame)
    }

    fn attempt(&self, source: &mut Source, capture: &mut Capture) -> Result<()> {
        if self.hand_over(source, capture)? && source.checkpoint()?.is_some() {
            self.hand_over(source, capture)?;
        }
        Ok(())
    }

    /// A busy writer leaves the lock free only now and then, and we never wait in a queue: ask for a while.
    fn lock_writes(&self, source: &Source) -> Result<bool> {
        for _ in 0..LOCK_TRIES {
            if source.lock_writes()? {
                return Ok(true);
            }
            std::thread::sleep(LOCK_TRY_EVERY);
        }
        Ok(false)
    }

    fn attempt_locked(&mut self, source: &mut Source, capture: &mut Capture, page_bytes: u64) -> Result<()> {
        // Most of what has to be backfilled and synced is done before the lock is taken.
        let mut little_left = false;
        for _ in 0..ROUNDS {
            let Some(observed) = source.observe()? else { return Ok(()) };
            let left = observed.published.frames.saturating_sub(observed.published.backfilled);
            little_left = u64::from(left) * page_bytes < LEFT_BYTES_MAX;
            if little_left || !self.hand_over(source, capture)? || source.checkpoint()?.is_none() {
                break;
            }
        }
        if !little_left {
            return Ok(());
        }
        capture.look(source)?;
        self.wal.sync()?;
        if !self.lock_writes(source)? {
            return Ok(());
        }
        let taken = self.clock.monotonic();
        let outcome = self.attempt(source, capture);
        source.unlock_writes()?;
        self.write_lock.push(self.clock.monotonic().saturating_sub(taken));
        outcome
    }
}
