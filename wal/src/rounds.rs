//! Who sleeps and who is woken: threads around the [`Queue`].
//!
//! Whoever waits and finds nobody leading leads: it takes all that is placed, writes it and syncs once for everyone.
//! The others sleep, each on its own. At the end of a round the leader first wakes one waiter of the next round,
//! which leads it while the leader wakes those whose records it made durable. These see by one atomic number that
//! they are done and never come back for the lock: a herd that does is what caps a group commit.
//!
//! The log's own thread leads rounds too, when much is waiting that nobody waits for; and whoever finds no room for
//! more. They only write. One of those who sleep is woken then, to lead the sync.
//!
//! # Invariant: no lost wake-up
//! Whoever sleeps is listed, and was listed under the lock while somebody led. That leader takes the lock once more when
//! it reports, and then wakes: all that are done and one that isn't; or, if it only wrote, one; after a failure
//! everyone. The one it wakes either leads the next round or finds someone who does, and then lists itself again. All
//! who wait for room, or for something to be written, are woken by every report. The log's own thread says under the lock that it sleeps; whoever
//! places enough while nobody leads, or reports and leaves enough, wakes it. Models in this module let loom try every
//! order of up to three preemptions (`cargo xtask models`).

use crate::news::News;
use crate::queue::{Queue, Round, Turn, Work};
use crate::{Error, Result};
use pitr_format::Lsn;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::task::Waker;
use std::time::Duration;

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

/// Bytes that may wait for a leader before appending waits too. As many may be on their way to the disk. With one
/// builder for each appending thread this bounds what the log holds in memory.
const WAITING_BYTES_MAX: usize = if cfg!(loom) { 50 } else { 8 << 20 };
/// Bytes that are worth a round though nobody waits for them.
const FLUSH_BYTES: usize = if cfg!(loom) { 20 } else { 1 << 20 };

/// The queue, locked.
pub(crate) type Locked<'a> = MutexGuard<'a, Waited>;

/// The queue with its lock, and what those need to know who don't hold it.
#[derive(Debug)]
pub(crate) struct Rounds {
    queue: Mutex<Waited>,
    /// Rounds below this are durable.
    done: AtomicU64,
    /// Who follows the log.
    pub(crate) news: News,
}

/// The queue, and who sleeps until something in it changes.
#[derive(Debug)]
pub(crate) struct Waited {
    queue: Queue,
    /// Waiters of rounds that a leader took.
    taken: Vec<Thread>,
    /// Waiters of the round that fills.
    filling: Vec<Thread>,
    /// Those that look again after any report: for room to place more, or whether something is written.
    looking: Vec<Thread>,
    /// Tickets that are polled, by number.
    polled: HashMap<u64, (Round, Waker)>,
    /// Numbers given to polled tickets so far.
    #[cfg(any(feature = "future", loom))]
    numbers: u64,
    helper: Helper,
}

/// What the log's own thread is about.
#[derive(Debug, Default)]
struct Helper {
    /// Set while it sleeps.
    asleep: Option<Thread>,
    /// What it was asked for since it looked last.
    asked: Asked,
}

/// What the log's own thread can be asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A synced round: tickets are polled that aren't durable.
    pub(crate) sync: bool,
    /// A file for the next segment.
    pub(crate) spare: bool,
    /// To end.
    pub(crate) stop: bool,
}

impl Asked {
    fn anything(self) -> bool {
        self.sync || self.spare || self.stop
    }
}

impl Waited {
    /// True if what waits is worth a round, and can have one.
    fn has_plenty(&self) -> bool {
        self.queue.waiting_bytes() >= FLUSH_BYTES && self.queue.check().is_ok()
    }

    /// Wakes the log's own thread if it sleeps.
    fn wake_helper(&mut self) {
        if let Some(thread) = self.helper.asleep.take() {
            thread.unpark();
        }
    }

    /// After something was placed that its caller doesn't wait for.
    pub(crate) fn placed(&mut self) {
        if self.has_plenty() && !self.queue.is_led() {
            self.wake_helper();
        }
    }

    /// Asks the log's own thread for something.
    pub(crate) fn ask(&mut self, what: impl FnOnce(&mut Asked)) {
        what(&mut self.helper.asked);
        self.wake_helper();
    }

    /// A number for a ticket that is polled.
    #[cfg(any(feature = "future", loom))]
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Has `waker` woken once `round` is durable or the log has failed, in place of what was kept under this number.
    #[cfg(any(feature = "future", loom))]
    pub(crate) fn poll(&mut self, number: u64, round: Round, waker: Waker) {
        self.polled.insert(number, (round, waker));
        self.ask(|asked| asked.sync = true);
    }

    /// Forgets what [`Waited::poll`] kept.
    #[cfg(feature = "future")]
    pub(crate) fn forget(&mut self, number: u64) {
        self.polled.remove(&number);
    }

    /// Lists the calling thread under its round.
    fn list(&mut self, round: Round) {
        let taken = self.queue.is_taken(round);
        let list = if taken { &mut self.taken } else { &mut self.filling };
        list.push(thread::current());
    }

    /// The leader takes: who waits for the round that filled waits for one that is taken now.
    fn take(&mut self) -> Work {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut self.filling);
        } else {
            self.taken.append(&mut self.filling);
        }
        self.queue.take()
    }

    /// Whom a report wakes, in this order.
    fn woken(&mut self, failed: bool, synced: bool) -> Vec<Thread> {
        let mut woken = Vec::new();
        if failed {
            woken.append(&mut self.filling);
            woken.append(&mut self.taken);
        } else if synced {
            woken.extend(self.filling.pop());
            woken.append(&mut self.taken);
        } else {
            woken.extend(self.taken.pop().or_else(|| self.filling.pop()));
        }
        woken.append(&mut self.looking);
        woken
    }

    /// The wakers of tickets that are durable, or of all after a failure.
    fn polled(&mut self, failed: bool) -> Vec<Waker> {
        if self.polled.is_empty() {
            return Vec::new();
        }
        let done = self.queue.done();
        self.polled.extract_if(|_, (round, _)| failed || *round < done).map(|(_, (_, waker))| waker).collect()
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
        let done = AtomicU64::new(queue.done().0);
        let queue = Waited {
            queue,
            taken: Vec::new(),
            filling: Vec::new(),
            looking: Vec::new(),
            polled: HashMap::new(),
            #[cfg(any(feature = "future", loom))]
            numbers: 0,
            helper: Helper::default(),
        };
        Rounds { queue: Mutex::new(queue), done, news: News::default() }
    }

    pub(crate) fn queue(&self) -> Locked<'_> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// True once `round` is durable.
    pub(crate) fn is_done(&self, round: Round) -> bool {
        round.0 < self.done.load(Ordering::Acquire)
    }

    /// Returns when `round` is durable. If this thread has to lead, it does so by `write`, which writes, syncs, and
    /// returns the new durable point; before, it gives others `delay` to join.
    pub(crate) fn wait<'a>(
        &'a self,
        mut queue: Locked<'a>,
        round: Round,
        delay: Duration,
        write: impl Fn(Work) -> Result<Lsn>,
    ) -> Result<()> {
        loop {
            match queue.turn(round)? {
                Turn::Done => return Ok(()),
                Turn::Lead => self.lead(queue, delay, &write),
                Turn::Wait => {
                    queue.list(round);
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

    /// Writes what waits by `write`, which need not sync, if nobody leads and it is worth a round. With `all`, anything
    /// is.
    pub(crate) fn flush(&self, all: bool, write: impl Fn(Work) -> Result<Lsn>) {
        let mut queue = self.queue();
        if (all || queue.has_plenty()) && queue.flush() {
            self.lead(queue, Duration::ZERO, &write);
        }
    }

    /// Returns when everything placed so far is written, by `write`, which need not sync, or by someone else.
    pub(crate) fn write_out(&self, write: impl Fn(Work) -> Result<Lsn>) -> Result<()> {
        let round = self.queue().newest();
        self.write_until(|queue| queue.is_written(round), write).map(drop)
    }

    /// The queue, once it has room for more. Writes by `write` if nobody else does.
    pub(crate) fn queue_with_room(&self, write: impl Fn(Work) -> Result<Lsn>) -> Result<Locked<'_>> {
        self.write_until(|queue| queue.waiting_bytes() < WAITING_BYTES_MAX, write)
    }

    /// The queue, once it is as `enough` wants it. Until then what waits is written, here or by whoever leads.
    fn write_until(
        &self,
        enough: impl Fn(&Queue) -> bool,
        write: impl Fn(Work) -> Result<Lsn>,
    ) -> Result<Locked<'_>> {
        loop {
            let mut queue = self.queue();
            queue.check()?;
            if enough(&queue) {
                return Ok(queue);
            }
            if queue.flush() {
                self.lead(queue, Duration::ZERO, &write);
            } else {
                queue.looking.push(thread::current());
                drop(queue);
                thread::park();
            }
        }
    }

    /// The caller has the lead.
    fn lead<'a>(&'a self, queue: Locked<'a>, delay: Duration, write: &impl Fn(Work) -> Result<Lsn>) {
        let mut report = Report { rounds: self, outcome: Err(Error::Panicked) };
        let mut queue = queue; // dropped before the report, which takes it
        if !delay.is_zero() {
            drop(queue);
            #[cfg(not(loom))]
            thread::sleep(delay);
            queue = self.queue();
        }
        let work = queue.take();
        drop(queue);
        report.outcome = write(work);
    }

    /// Sleeps until there is something for the log's own thread, or `timeout` has passed. Returns what was asked for.
    pub(crate) fn idle(&self, timeout: Option<Duration>) -> Asked {
        let mut queue = self.queue();
        let busy = queue.helper.asked.anything() || (queue.has_plenty() && !queue.is_led());
        if !busy {
            queue.helper.asleep = Some(thread::current());
            drop(queue);
            match timeout {
                #[cfg(not(loom))]
                Some(timeout) => thread::park_timeout(timeout),
                _ => thread::park(),
            }
            queue = self.queue();
            queue.helper.asleep = None;
        }
        std::mem::take(&mut queue.helper.asked)
    }
}

/// Reports a leader's outcome when it goes out of scope: also if the leader panics, or everyone would wait
/// for ever.
struct Report<'a> {
    rounds: &'a Rounds,
    outcome: Result<Lsn>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(Error::Panicked));
        let failed = outcome.is_err();
        let mut queue = self.rounds.queue();
        let before = queue.done();
        queue.finish(outcome.map_err(std::sync::Arc::new));
        let synced = queue.done() > before;
        if synced {
            self.rounds.done.store(queue.done().0, Ordering::Release);
        }
        let (woken, polled) = (queue.woken(failed, synced), queue.polled(failed));
        if queue.has_plenty() {
            queue.wake_helper();
        }
        drop(queue);
        woken.iter().for_each(Thread::unpark);
        polled.into_iter().for_each(Waker::wake);
        self.rounds.news.tell();
    }
}

#[cfg(all(loom, test))]
#[path = "rounds/models.rs"]
mod models;
