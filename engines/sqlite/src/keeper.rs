//! Lets the `-wal` file restart, so that it doesn't grow without bound under our read transaction.
//!
//! An application's own checkpoint is not blocked for long. Our read transaction moves on when a
//! look finds nothing new, and at once when everything is backfilled, so RESTART and TRUNCATE,
//! which block writers, do not wait for it. Under a writer that never pauses, it moves on every
//! [`HAND_OVER_EVERY`], but only while the `-wal` file is small: after each move the application's
//! next automatic checkpoint has work to do, and syncs twice for it. A `-wal` file past
//! [`KeeperOptions::soft_bytes`] is backfilled by this engine, in one go.
//!
//! The `-wal` file restarts at the next write once everything is backfilled and no reader uses it.
//! A hand-over while everything is backfilled moves our read transaction to read lock 0, which
//! allows the restart (see [`crate::source`]). There are two ways to reach that state:
//!
//! 1. **Without the write lock**, when the `-wal` file has passed [`KeeperOptions::soft_bytes`] and
//!    a look finds nothing new: hand over, passive checkpoint, hand over. It fails, harmlessly, if
//!    a commit comes in between.
//! 2. **With the write lock**, when the `-wal` file has passed [`KeeperOptions::hard_bytes`] and
//!    less than 512 KiB remains to backfill: the same under `BEGIN IMMEDIATE`, so that no commit
//!    can come in between. Nothing is written; `ROLLBACK` releases the lock. The time for which it
//!    was held is recorded.
//!
//! Our own checkpoint uses a library without the WAL-reset fault of SQLite 3.7.0 to 3.51.2. If an
//! application's old reader blocks the restart, both ways end without effect and are tried again
//! later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pitr_format::TxId;
use pitr_vfs::Clock;
use pitr_wal::Wal;

use crate::capture::Capture;
use crate::conn::Published;
use crate::error::{Error, Result};
use crate::source::{Observed, Source};

/// The write lock is taken only if no more than this remains to backfill, bytes. It bounds how long
/// the lock is held.
const LEFT_BYTES_MAX: u64 = 512 << 10;
/// Pause after an attempt that did not lead to a restart.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds of backfilling before the write lock is taken.
const ROUNDS: u32 = 8;
/// The write lock is not taken while the disk is so slow that a round takes longer than this: a
/// writer would wait as long, and gives up after its busy timeout, which is often 5 s. Up to a size
/// of the `-wal` file, as a multiple of [`KeeperOptions::hard_bytes`]; a larger file allows longer
/// rounds, but never such that a commit of the application might fail.
const ROUND_MAX: [(u64, Duration); 3] =
    [(4, Duration::from_millis(8)), (16, Duration::from_millis(50)), (u64::MAX, Duration::from_millis(250))];
/// Attempts per round to get the write lock or the right to checkpoint while another process holds
/// it.
const TRIES: u32 = 40;
const TRY_EVERY: Duration = Duration::from_micros(250);
/// Minimum interval between hand-overs. After each, the application's next checkpoint has work to
/// do, and syncs twice for it.
pub(crate) const HAND_OVER_EVERY: Duration = Duration::from_millis(25);

/// When the `-wal` file should restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperOptions {
    /// Size of the `-wal` file from which it is made to restart without the write lock, bytes.
    pub soft_bytes: u64,
    /// Size of the `-wal` file from which the write lock is taken to make it restart, bytes.
    pub hard_bytes: u64,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        KeeperOptions { soft_bytes: 4 << 20, hard_bytes: 64 << 20 }
    }
}

/// Asks the other threads of a watch to leave the disk alone: while the write lock is held, every
/// sync makes writers wait.
#[derive(Debug, Clone, Default)]
pub struct Quiet(Arc<AtomicBool>);

impl Quiet {
    /// Returns once no thread asks for quiet.
    pub fn wait(&self, clock: &dyn Clock) {
        while self.0.load(Ordering::Relaxed) {
            clock.sleep(TRY_EVERY);
        }
    }

    /// Asks for quiet until the returned guard is dropped.
    fn ask(&self) -> impl Drop + '_ {
        struct Asked<'a>(&'a AtomicBool);
        impl Drop for Asked<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        self.0.store(true, Ordering::Relaxed);
        Asked(&self.0)
    }
}

/// Bounds the size of the `-wal` file.
#[derive(Debug)]
pub struct Keeper {
    options: KeeperOptions,
    quiet: Quiet,
    wal: Wal,
    clock: Arc<dyn Clock>,
    handed_over: Option<Duration>,
    /// The last transaction captured at the last hand-over, and at the last look.
    handed_over_tx: TxId,
    looked_tx: TxId,
    attempted: Option<Duration>,
    write_lock: Vec<Duration>,
}

impl Keeper {
    /// A keeper for the source whose transactions go to `wal`.
    #[must_use]
    pub fn new(wal: Wal, clock: Arc<dyn Clock>, options: KeeperOptions, quiet: Quiet) -> Self {
        Keeper {
            options,
            quiet,
            wal,
            clock,
            handed_over: None,
            handed_over_tx: TxId::NONE,
            looked_tx: TxId::NONE,
            attempted: None,
            write_lock: Vec::new(),
        }
    }

    /// The durations for which the write lock was held.
    #[must_use]
    pub fn write_lock_held(&self) -> &[Duration] {
        &self.write_lock
    }

    /// Call this after each look, with the state that the look saw published. Moves the read
    /// transaction on, and lets the `-wal` file restart if it has become too large.
    pub fn maintain(
        &mut self,
        source: &mut Source,
        capture: &mut Capture,
        published: Published,
    ) -> Result<()> {
        let now = self.clock.monotonic();
        let tx = capture.last_tx();
        let page_bytes = u64::from(capture.position().page_bytes);
        let log_bytes = u64::from(capture.position().frame) * page_bytes;
        let due = |since: Option<Duration>, pause| since.is_none_or(|t| now.saturating_sub(t) >= pause);
        let quiet = std::mem::replace(&mut self.looked_tx, tx) == tx;
        let all_backfilled = published.frames == published.backfilled;
        // Leave read lock 0 as soon as there is a new commit. While the lock is held, an automatic
        // checkpoint sorts all frames at each commit, in vain.
        let due_news = source.may_restart()
            || quiet
            || log_bytes < self.options.soft_bytes && due(self.handed_over, HAND_OVER_EVERY);
        // The first read transaction may hold frames that were backfilled since it began, and keep
        // a TRUNCATE waiting.
        let holds = !source.may_restart() || self.handed_over.is_none();
        if all_backfilled && holds || due_news && tx != self.handed_over_tx {
            self.hand_over(source, capture)?;
            self.handed_over = Some(now);
            self.handed_over_tx = tx;
        }
        let next_write_restarts = all_backfilled && source.may_restart();
        let large = log_bytes >= self.options.hard_bytes;
        let restart = large || quiet && log_bytes >= self.options.soft_bytes;
        if next_write_restarts || !restart || !due(self.attempted, PAUSE) {
            return Ok(());
        }
        self.attempt(source, capture)?;
        if large && !self.is_ready(source)? {
            self.attempt_locked(source, capture, page_bytes)?;
        }
        self.attempted = if self.is_ready(source)? { None } else { Some(now) };
        Ok(())
    }

    /// Tries once to backfill everything, before the watch ends.
    pub fn settle(&self, source: &mut Source, capture: &mut Capture) -> Result<()> {
        self.attempt(source, capture)
    }

    fn is_ready(&self, source: &Source) -> Result<bool> {
        Ok(source
            .observe()?
            .is_some_and(|o| o.published.frames == o.published.backfilled && source.may_restart()))
    }

    /// Makes a hand-over after a look under the open transaction, as [`Source::hand_over`]
    /// requires.
    fn hand_over(&self, source: &mut Source, capture: &mut Capture) -> Result<bool> {
        capture.look(source)?;
        source.hand_over(capture.position(), || self.sync())
    }

    fn sync(&self) -> Result<()> {
        self.wal.sync()?;
        Ok(())
    }

    fn attempt(&self, source: &mut Source, capture: &mut Capture) -> Result<()> {
        if self.backfill(source, capture)? {
            self.hand_over(source, capture)?;
        }
        Ok(())
    }

    /// Makes a hand-over, and then prepares read lock 0 for the next one: captured frames are
    /// synced in the local log, and all frames are in the database file. False if another process
    /// blocked it.
    fn backfill(&self, source: &mut Source, capture: &mut Capture) -> Result<bool> {
        if !self.hand_over(source, capture)? {
            return Ok(false);
        }
        let (synced, backfilled) = std::thread::scope(|scope| {
            let synced = scope.spawn(|| self.sync());
            let backfilled = checkpoint(source, self.clock.as_ref());
            (synced.join(), backfilled)
        });
        synced.map_err(|_| Error::Died)??;
        Ok(backfilled?.is_some())
    }

    fn attempt_locked(&mut self, source: &mut Source, capture: &mut Capture, page_bytes: u64) -> Result<()> {
        let quiet = self.quiet.clone();
        let _asked = quiet.ask();
        for _ in 0..ROUNDS {
            // Nearly everything is backfilled and synced before the lock is taken. The duration of
            // the last of these rounds shows how long the lock will be held.
            let begun = self.clock.monotonic();
            let backfilled = self.backfill(source, capture)?;
            let log_bytes = u64::from(capture.position().frame) * page_bytes;
            let slow = self.clock.monotonic().saturating_sub(begun) > round_max(log_bytes, self.options);
            if !backfilled || slow || !is_nearly_backfilled(source, page_bytes)? {
                continue;
            }
            if lock_writes(source, self.clock.as_ref())? {
                let taken = self.clock.monotonic();
                let outcome = self.attempt(source, capture);
                source.unlock_writes()?;
                self.write_lock.push(self.clock.monotonic().saturating_sub(taken));
                return outcome;
            }
        }
        Ok(())
    }
}

/// The longest round after which the write lock may be taken.
fn round_max(log_bytes: u64, options: KeeperOptions) -> Duration {
    let allows = |(factor, _): &&(u64, Duration)| log_bytes < options.hard_bytes.saturating_mul(*factor);
    ROUND_MAX.iter().find(allows).or(ROUND_MAX.last()).map_or(Duration::ZERO, |(_, most)| *most)
}

/// Runs a passive checkpoint. An application's checkpoint may run at the same time; what it
/// backfills counts too.
fn checkpoint(source: &Source, clock: &dyn Clock) -> Result<Option<Published>> {
    for _ in 0..TRIES {
        if let Some(done) = source.checkpoint()? {
            return Ok(Some(done));
        }
        clock.sleep(TRY_EVERY);
    }
    Ok(None)
}

/// Takes the write lock. A busy writer rarely releases the lock, and this engine never waits in
/// SQLite's queue. So it tries repeatedly.
fn lock_writes(source: &Source, clock: &dyn Clock) -> Result<bool> {
    for _ in 0..TRIES {
        if source.lock_writes()? {
            return Ok(true);
        }
        clock.sleep(TRY_EVERY);
    }
    Ok(false)
}

fn is_nearly_backfilled(source: &Source, page_bytes: u64) -> Result<bool> {
    let left =
        |o: Observed| u64::from(o.published.frames.saturating_sub(o.published.backfilled)) * page_bytes;
    Ok(source.observe()?.is_some_and(|o| left(o) < LEFT_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_log_allows_a_slower_disk_but_never_one_that_makes_commits_fail() {
        let options = KeeperOptions::default();
        let most = |factor: u64| round_max(options.hard_bytes * factor, options).as_millis();
        assert_eq!([1, 3, 4, 15, 16, 100_000].map(most), [8, 8, 50, 50, 250, 250]);
        let always = KeeperOptions { hard_bytes: u64::MAX, ..options };
        assert_eq!(round_max(u64::MAX, always).as_millis(), 250);
    }
}
