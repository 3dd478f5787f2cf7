//! Puts threads to sleep and wakes them around the [`Queue`].
//!
//! A waiting thread that finds no leader leads: it takes all placed records, writes them, and syncs
//! once for all. The others sleep:
//! - Threads whose records the leader makes durable sleep at their round's [`Gate`]. An atomic
//!   number tells them that they are done, so they never take the queue's lock again. A herd of
//!   threads on that lock would limit the rate of a group commit.
//! - The first of the other threads is the heir: it sleeps until the next report, then leads.
//! - Threads that come after the heir sleep at their round's gate, since the heir will make their
//!   records durable.
//!
//! Two more threads lead rounds: the log's own thread, when many bytes wait and no thread waits for
//! them, and a thread that finds no room for its records. These only write, so their rounds make no
//! thread done.
//!
//! # Invariants: no lost wake-up
//! - While there is a leader, each thread at a gate is made durable by that leader, or there is an
//!   heir. Waiting threads register under the lock, and a thread that finds neither becomes the
//!   heir.
//! - A report wakes the heir and clears that role. The woken thread takes the lock: it leads, or it
//!   finds a leader that came first and registers with it. That leader took, or will take, all
//!   records placed before the report.
//! - A report of durable rounds wakes all threads at their gates; the report of a failure wakes
//!   every thread. A gate counts as occupied until the latest round that a thread awaits there is
//!   durable.
//! - A thread that waits for room, for a write or for a durable point waits for reports, as the
//!   heir does.
//! - The log's own thread states under the lock that it sleeps. A thread wakes it after placing
//!   enough bytes while there is no leader, and after a report that leaves enough bytes.
//!
//! Models in this module let loom try every order of up to three preemptions (
//! `cargo xtask models`).

use super::gate::Gate;
use super::queue::{Queue, Round, Turn, Work};
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_vfs::Clock;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut, Range};
use std::task::Waker;
use std::time::Duration;

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::thread::{self, Thread};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
use loom::thread::{self, Thread};

/// Bytes that justify a round although no thread waits for them.
const FLUSH_BYTES: usize = if cfg!(loom) { 20 } else { 1 << 20 };
/// Number of gates. Threads wait for more rounds than that only while rounds are written without a
/// sync; then sharing a gate costs a needless check. In the models all rounds share one gate.
const GATES: usize = if cfg!(loom) { 1 } else { 4 };

/// The queue, locked.
pub(crate) type Locked<'a> = MutexGuard<'a, Waited>;

/// The queue with its lock, and the state that threads read without the lock.
#[derive(Debug)]
pub(crate) struct Rounds {
    queue: Mutex<Waited>,
    /// Rounds below this one are durable.
    done: AtomicU64,
    /// True once no further round can become durable.
    failed: AtomicBool,
    /// Reports so far.
    reports: AtomicU64,
    /// Opened by the report that makes a round durable. A round uses the gate of its number modulo
    /// [`GATES`].
    gates: [Gate; GATES],
    /// Opened by any report.
    reported: Gate,
}

/// The queue, and the threads that sleep until it changes.
#[derive(Debug)]
pub(crate) struct Waited {
    queue: Queue,
    /// For each gate the latest round that a thread awaits there, or is about to.
    at_gate: [Option<Round>; GATES],
    /// True if a thread waits for the next report: the heir or another one.
    at_report: bool,
    /// True if there is an heir, which leads after the next report.
    heir: bool,
    /// Polled tickets, by number.
    polled: HashMap<u64, (Round, Waker)>,
    /// Numbers assigned to polled tickets so far.
    #[cfg(any(feature = "future", loom))]
    numbers: u64,
    helper: Helper,
}

/// State of the log's own thread.
#[derive(Debug, Default)]
struct Helper {
    /// Set while the log's own thread sleeps.
    asleep: Option<Thread>,
    /// Requests since that thread last checked.
    asked: Asked,
}

/// Requests to the log's own thread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A synced round, for polled tickets that aren't durable.
    pub(crate) sync: bool,
    /// A file for the next segment.
    pub(crate) spare: bool,
    /// The thread should end.
    pub(crate) stop: bool,
}

impl Asked {
    fn anything(self) -> bool {
        self.sync || self.spare || self.stop
    }
}

impl Waited {
    /// True if enough bytes wait for a round and the log has not failed.
    fn has_plenty(&self) -> bool {
        self.queue.waiting_bytes() >= FLUSH_BYTES && self.queue.check().is_ok()
    }

    /// Wakes the log's own thread if it sleeps.
    fn wake_helper(&mut self) {
        if let Some(thread) = self.helper.asleep.take() {
            thread.unpark();
        }
    }

    /// Called after records were placed that their caller doesn't wait for.
    pub(crate) fn placed(&mut self) {
        if self.has_plenty() && !self.queue.is_led() {
            self.wake_helper();
        }
    }

    /// Sends a request to the log's own thread.
    pub(crate) fn ask(&mut self, what: impl FnOnce(&mut Asked)) {
        what(&mut self.helper.asked);
        self.wake_helper();
    }

    /// A number for a polled ticket.
    #[cfg(any(feature = "future", loom))]
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Registers `waker` to be woken once `round` is durable or the log has failed. Replaces an
    /// earlier waker of this number.
    #[cfg(any(feature = "future", loom))]
    pub(crate) fn poll(&mut self, number: u64, round: Round, waker: Waker) {
        self.polled.insert(number, (round, waker));
        self.ask(|asked| asked.sync = true);
    }

    /// Removes the waker that [`Waited::poll`] registered.
    #[cfg(feature = "future")]
    pub(crate) fn forget(&mut self, number: u64) {
        self.polled.remove(&number);
    }

    /// The gates of these rounds that have sleepers.
    fn open(&mut self, rounds: Range<Round>) -> impl Iterator<Item = usize> + use<> {
        let mut opened = [false; GATES];
        for round in (rounds.start.0..rounds.end.0).take(GATES) {
            let latest = &mut self.at_gate[gate_of(round)];
            opened[gate_of(round)] |= latest.is_some();
            // A thread that awaits a later round at a shared gate continues to sleep.
            *latest = latest.filter(|latest| *latest >= rounds.end);
        }
        (0..GATES).filter(move |gate| opened[*gate])
    }

    /// The wakers of durable tickets; after a failure, of all tickets.
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
            at_gate: [None; GATES],
            at_report: false,
            heir: false,
            polled: HashMap::new(),
            #[cfg(any(feature = "future", loom))]
            numbers: 0,
            helper: Helper::default(),
        };
        Rounds {
            queue: Mutex::new(queue),
            done,
            failed: AtomicBool::new(false),
            reports: AtomicU64::new(0),
            gates: std::array::from_fn(|_| Gate::default()),
            reported: Gate::default(),
        }
    }

    pub(crate) fn queue(&self) -> Locked<'_> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// True once `round` is durable.
    pub(crate) fn is_done(&self, round: Round) -> bool {
        round.0 < self.done.load(Ordering::Acquire)
    }

    /// Returns when `round` is durable. If this thread has to lead, it calls `gather`, during which
    /// others may join, and `write`, which writes, syncs, and returns the new durable point.
    pub(crate) fn wait<'a>(
        &'a self,
        mut queue: Locked<'a>,
        round: Round,
        gather: Option<&dyn Fn()>,
        write: impl Fn(Work) -> Result<Lsn>,
    ) -> Result<()> {
        loop {
            match queue.turn(round)? {
                Turn::Done => return Ok(()),
                Turn::Lead => self.lead(queue, gather, &write),
                Turn::Wait if !queue.heir => {
                    queue.heir = true;
                    self.await_report(queue, None);
                }
                Turn::Wait | Turn::Covered => {
                    let gate = gate_of(round.0);
                    queue.at_gate[gate] = queue.at_gate[gate].max(Some(round));
                    drop(queue);
                    self.gates[gate]
                        .wait(None, || self.is_done(round) || self.failed.load(Ordering::Acquire));
                }
            }
            if self.is_done(round) {
                return Ok(());
            }
            queue = self.queue();
        }
    }

    /// Sleeps until the next report, or until `timeout` has passed. True if there was a report.
    fn await_report(&self, mut queue: Locked<'_>, timeout: Option<Duration>) -> bool {
        queue.at_report = true;
        let seen = self.reports.load(Ordering::Relaxed);
        drop(queue);
        let is_reported = || self.reports.load(Ordering::Acquire) != seen;
        self.reported.wait(timeout, is_reported);
        is_reported()
    }

    /// Returns the durable point once it is above `lsn`, or after `timeout`. Never leads.
    pub(crate) fn wait_past(&self, lsn: Lsn, timeout: Duration, clock: &dyn Clock) -> Result<Lsn> {
        let begun = clock.monotonic();
        let mut is_over = false;
        loop {
            let queue = self.queue();
            let durable = queue.durable();
            if durable > lsn {
                return Ok(durable);
            }
            queue.check()?;
            let left = timeout.saturating_sub(clock.monotonic().saturating_sub(begun));
            if is_over || left.is_zero() {
                return Ok(durable);
            }
            // The wait bounds the time even if the clock stands still.
            is_over = !self.await_report(queue, Some(left));
        }
    }

    /// Writes the waiting records by `write`, which need not sync, unless there is a leader;
    /// without `all` only if enough bytes wait.
    pub(crate) fn flush(&self, all: bool, write: impl Fn(Work) -> Result<Lsn>) {
        let mut queue = self.queue();
        if (all || queue.has_plenty()) && queue.flush() {
            self.lead(queue, None, &write);
        }
    }

    /// Returns when all records placed so far are written, by `write`, which need not sync, or by
    /// another thread.
    pub(crate) fn write_out(&self, write: impl Fn(Work) -> Result<Lsn>) -> Result<()> {
        let round = self.queue().newest();
        self.write_until(|queue| queue.is_written(round), write).map(drop)
    }

    /// The queue, once fewer bytes than `waiting_max` wait in it. Writes by `write` if there is no
    /// leader.
    pub(crate) fn queue_with_room(
        &self,
        waiting_max: usize,
        write: impl Fn(Work) -> Result<Lsn>,
    ) -> Result<Locked<'_>> {
        self.write_until(|queue| queue.waiting_bytes() < waiting_max, write)
    }

    /// The queue, once `enough` returns true. Until then this thread or the leader writes the
    /// waiting records.
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
                self.lead(queue, None, &write);
            } else {
                self.await_report(queue, None);
            }
        }
    }

    /// Leads a round. The caller was given the lead.
    fn lead<'a>(
        &'a self,
        queue: Locked<'a>,
        gather: Option<&dyn Fn()>,
        write: &impl Fn(Work) -> Result<Lsn>,
    ) {
        let mut report = Report { rounds: self, outcome: Err(Error::Panicked) };
        let mut queue = queue; // dropped before the report, which takes the lock
        if let Some(gather) = gather {
            drop(queue);
            gather();
            queue = self.queue();
        }
        let work = queue.take();
        drop(queue);
        report.outcome = write(work);
    }

    /// Takes the requests to the log's own thread.
    pub(crate) fn take_asked(&self) -> Asked {
        std::mem::take(&mut self.queue().helper.asked)
    }

    /// Sleeps until there is work for the log's own thread, or `timeout` has passed. Returns the
    /// requests.
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

/// Reports a leader's outcome when it goes out of scope, also if the leader panics: otherwise all
/// threads would wait forever.
struct Report<'a> {
    rounds: &'a Rounds,
    outcome: Result<Lsn>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(Error::Panicked));
        let (rounds, failed) = (self.rounds, outcome.is_err());
        let mut queue = rounds.queue();
        let before = queue.done();
        queue.finish(outcome.map_err(std::sync::Arc::new));
        let done = queue.done();
        rounds.done.store(done.0, Ordering::Release);
        rounds.failed.fetch_or(failed, Ordering::Release);
        rounds.reports.fetch_add(1, Ordering::Release);
        queue.heir = false;
        let reported = std::mem::take(&mut queue.at_report);
        let opened = queue.open(before..if failed { Round(before.0 + GATES as u64) } else { done });
        let polled = queue.polled(failed);
        if queue.has_plenty() {
            queue.wake_helper();
        }
        drop(queue);
        // Wake the next leader first.
        if reported {
            rounds.reported.open();
        }
        opened.for_each(|gate| rounds.gates[gate].open());
        polled.into_iter().for_each(Waker::wake);
    }
}

/// The gate of a round.
fn gate_of(round: u64) -> usize {
    (round % GATES as u64) as usize
}

#[cfg(all(loom, test))]
#[path = "rounds/models.rs"]
mod models;
