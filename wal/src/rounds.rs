//! Who sleeps and who is woken: threads around the [`Queue`].
//!
//! Whoever finds nobody leading leads: it takes all that is placed, writes it and syncs once for everyone.
//! The others sleep, each on its own. At the end of a round the leader first wakes one waiter of the next round,
//! which leads it while the leader wakes those whose records it made durable. These see by one atomic number that
//! they are done and never come back for the lock: a herd that does is what caps a group commit.
//!
//! # Invariant: no lost wake-up
//! Whoever sleeps is listed under its round, and was listed under the lock while somebody led. That leader takes the
//! lock once more when it reports, and wakes all of its own round and one of the next. The one it wakes either leads
//! the next round or finds someone who does, and then lists itself again. After a failure all are woken. Models in
//! this module let loom try every order of up to three preemptions (`cargo xtask models`).

use crate::queue::{Queue, Round, Turn, Work};
use crate::{Error, Result};
use pitr_format::Lsn;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::thread::{self, Thread};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
use loom::thread::{self, Thread};

/// The queue, locked.
pub(crate) type Locked<'a> = MutexGuard<'a, Waited>;

/// The queue with its lock, and what those need to know who don't hold it.
#[derive(Debug)]
pub(crate) struct Rounds {
    queue: Mutex<Waited>,
    /// Rounds below this are durable.
    done: AtomicU64,
}

/// The queue, and who sleeps until something in it changes. The waiters of a round are either those of the one that
/// is being written or those of the one that fills: even and odd.
#[derive(Debug)]
pub(crate) struct Waited {
    queue: Queue,
    sleeping: [Vec<Thread>; 2],
}

impl Waited {
    fn sleepers_of(&mut self, round: Round) -> &mut Vec<Thread> {
        &mut self.sleeping[usize::from(round.0 % 2 == 1)]
    }
}

impl Deref for Waited {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl DerefMut for Waited {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

impl Rounds {
    pub(crate) fn new(queue: Queue) -> Self {
        let queue = Waited { queue, sleeping: [Vec::new(), Vec::new()] };
        Rounds { queue: Mutex::new(queue), done: AtomicU64::new(0) }
    }

    pub(crate) fn queue(&self) -> Locked<'_> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// True once `round` is durable.
    pub(crate) fn is_done(&self, round: Round) -> bool {
        round.0 < self.done.load(Ordering::Acquire)
    }

    /// Returns when `round` is durable. If this thread has to lead, it does so by `write`, which returns the new durable
    /// point.
    pub(crate) fn wait<'a>(
        &'a self,
        mut queue: Locked<'a>,
        round: Round,
        write: impl Fn(Work) -> Result<Lsn>,
    ) -> Result<()> {
        loop {
            match queue.turn(round)? {
                Turn::Done => return Ok(()),
                Turn::Lead(work) => {
                    drop(queue);
                    let mut report =
                        Report { rounds: self, round: work.round, outcome: Err(Error::Panicked) };
                    report.outcome = write(work);
                }
                Turn::Wait => {
                    queue.sleepers_of(round).push(thread::current());
                    drop(queue);
                    thread::park();
                    if self.is_done(round) {
                        return Ok(());
                    }
                }
            }
            queue = self.queue();
        }
    }
}

/// Reports a leader's outcome when it goes out of scope: also if the leader panics, or everyone would wait
/// for ever.
struct Report<'a> {
    rounds: &'a Rounds,
    round: Round,
    outcome: Result<Lsn>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(Error::Panicked));
        let failed = outcome.is_err();
        let next = Round(self.round.0 + 1);
        let mut queue = self.rounds.queue();
        queue.finish(outcome.map_err(std::sync::Arc::new));
        if !failed {
            self.rounds.done.store(next.0, Ordering::Release);
        }
        let done = std::mem::take(queue.sleepers_of(self.round));
        let following = if failed { usize::MAX } else { 1 };
        let sleepers = queue.sleepers_of(next);
        let first = sleepers.len().saturating_sub(following);
        let following = sleepers.split_off(first);
        drop(queue);
        following.iter().chain(&done).for_each(Thread::unpark);
    }
}

#[cfg(all(loom, test))]
#[path = "rounds/models.rs"]
mod models;
