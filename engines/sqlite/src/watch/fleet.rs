//! Any number of watched databases, driven by a fixed number of threads.
//!
//! ```text
//! capturing   1   looks, appends, hands over; the only thread that uses the connections to
//!                 captured databases; sleeps until a file changes
//! syncing     1   makes captured transactions durable, every 25 ms while there is news
//! shipping    2   watermark, sync, ship: every RPO interval while there is news
//! compacting  1   merges small log objects
//! snapshots   1   bases and increments, one at a time
//! attaching   2   starts and ends of watches, which wait for the repository
//! searching   1   finds databases in folders, on request
//! ```
//! The capturing thread never waits for another thread. A slow repository delays the archiving of
//! commits, not their detection, so it does not widen the uncertainty of their times.
//!
//! A member is handed from thread to thread as a whole (`fleet/member.rs` shows which thread has
//! it). While the capturing thread has it, the other threads see the shared state (`shared.rs`).

mod member;
mod pace;
mod wake;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use pitr_engine::{CaptureOptions, EngineContext, Events, Found, LiveSource, Outcomes, Search};

use super::run::Watch;
use crate::error::{Error, Result};
use member::{Context, Member};
use wake::{Wake, Woken};
use workers::{Message, Workers};

/// Maximum interval between wake-ups of the capturing thread. At each wake-up the thread extends
/// the time up to which nothing was committed, and checks `stop`.
const TICK: Duration = Duration::from_millis(10);
/// With many databases, the interval is this number times the number of databases.
const TICK_EACH: Duration = Duration::from_micros(100);
/// Interval between searches of folders for databases.
const SEARCH_EVERY: Duration = Duration::from_secs(4);
/// Interval between checks that a watcher's folder is still in place.
pub(crate) const PLACE_EVERY: Duration = Duration::from_secs(1);
const SHIPPING_THREADS: usize = 2;
const ATTACHING_THREADS: usize = 2;

/// Watched databases. See the module documentation.
pub struct Fleet {
    workers: Workers,
    work: Work,
    wake: Wake,
    members: Vec<Member>,
}

/// The receiving ends of the workers' channels.
struct Work {
    jobs: Receiver<workers::Job>,
    tasks: Receiver<workers::Task>,
    news: Receiver<()>,
    inbox: Receiver<Message>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// A fleet without members.
    ///
    /// # Errors
    /// [`Error::Threads`] if the limit of descriptors is reached.
    pub fn new(context: EngineContext, options: CaptureOptions) -> Result<Self> {
        let wake = Wake::new().map_err(Error::Threads)?;
        // Each member has at most one task and a few jobs at a time, which bounds these channels.
        let ((send_job, jobs), (send_task, tasks)) = (unbounded(), unbounded());
        let ((send_message, inbox), (send_news, news)) = (unbounded(), crossbeam_channel::bounded(1));
        let workers =
            Workers::new(context, options, wake.waker(), (send_job, send_task, send_message, send_news));
        Ok(Fleet { workers, work: Work { jobs, tasks, news, inbox }, wake, members: Vec::new() })
    }

    /// Adds a database whose capture is established.
    pub fn add(&mut self, watch: Watch) {
        self.members.push(Member::begun(Box::new(watch)));
    }

    /// Adds a database that may not exist yet. It is watched as soon as it exists.
    pub fn add_waiting(&mut self, watched: LiveSource, events: Events) {
        self.members.push(Member::waiting(watched, events, false));
    }

    /// Adds a database from a watched folder. It leaves the fleet when it no longer exists.
    pub fn add_found(&mut self, found: Found) {
        self.members.push(Member::waiting(found.live, found.events, true));
    }

    /// Watches until `stop`, then drains. `search` finds more databases, which leave the fleet when
    /// they no longer exist.
    ///
    /// # Errors
    /// [`Error::Died`] if a thread panicked, [`Error::Threads`] if one could not be started. The
    /// error of a single source is in its entry of the outcomes.
    pub fn run(self, stop: &AtomicBool, search: Option<Search<'_>>) -> Result<Outcomes<Error>> {
        let Fleet { workers, work, wake, members } = self;
        let (workers, work) = (&workers, &work);
        std::thread::scope(|scope| {
            let _end = workers.end_on_drop();
            spawn(scope, workers, "sync", || workers.sync(&work.news))?;
            for _ in 0..SHIPPING_THREADS {
                spawn(scope, workers, "ship", || workers.ship())?;
            }
            spawn(scope, workers, "compact", || workers.compact())?;
            spawn(scope, workers, "snapshot", || workers.snapshots(&work.jobs))?;
            for _ in 0..ATTACHING_THREADS {
                spawn(scope, workers, "attach", || workers.attach(&work.tasks))?;
            }
            if let Some(search) = search {
                spawn(scope, workers, "search", || workers.search(search, SEARCH_EVERY))?;
            }
            CaptureLoop { workers, inbox: &work.inbox, wake, members }.run(stop)
        })
    }
}

/// Starts a worker thread. A panic in it ends all of them.
fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    workers: &'scope Workers,
    name: &str,
    task: impl FnOnce() + Send + 'scope,
) -> Result<()> {
    let end = workers.end_on_drop();
    let run = move || {
        task();
        end.defuse();
    };
    let thread = std::thread::Builder::new().name(format!("pitr-{name}"));
    thread.spawn_scoped(scope, run).map(drop).map_err(Error::Threads)
}

/// State of the capturing thread.
struct CaptureLoop<'a> {
    workers: &'a Workers,
    inbox: &'a Receiver<Message>,
    wake: Wake,
    members: Vec<Member>,
}

impl CaptureLoop<'_> {
    fn run(mut self, stop: &AtomicBool) -> Result<Outcomes<Error>> {
        while !stop.load(Ordering::Relaxed) {
            if self.workers.has_ended() {
                return Err(Error::Died);
            }
            let quiet_at = self.workers.clock().now();
            let woken = self.wake.wait(self.pause()).map_err(Error::Threads)?;
            self.deliver();
            self.tick(&woken, quiet_at);
            if self.members.iter().any(Member::ends_all) {
                break;
            }
        }
        self.drain()
    }

    fn pause(&self) -> Duration {
        let now = self.workers.clock().monotonic();
        let due = self.members.iter().filter_map(Member::due).min().unwrap_or(Duration::MAX);
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        due.saturating_sub(now).min(TICK.max(TICK_EACH.saturating_mul(members)))
    }

    /// Handles the messages of other threads.
    fn deliver(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Done { member, watch, outcome } => {
                    let mut context = Context { workers: self.workers, wake: &mut self.wake, number: member };
                    self.members[member].returned(watch, outcome, &mut context);
                }
                Message::Found(found) => self.admit(found),
            }
        }
    }

    fn admit(&mut self, found: Found) {
        let same = |member: &&mut Member| member.database() == found.live.place.resolved.as_path();
        match self.members.iter_mut().find(same) {
            Some(known) if !known.is_over() => {}
            Some(over) => *over = Member::waiting(found.live, found.events, true),
            None => self.members.push(Member::waiting(found.live, found.events, true)),
        }
    }

    /// `quiet_at` is a time before the events of `woken` were read. Nothing is known about later
    /// times.
    fn tick(&mut self, woken: &Woken, quiet_at: pitr_format::Timestamp) {
        let monotonic = self.workers.clock().monotonic();
        for number in &woken.changed {
            self.members[*number].touch(monotonic);
        }
        if woken.overflow {
            self.members.iter_mut().for_each(|member| member.touch(monotonic));
        }
        for number in &woken.asked {
            self.members[*number].asked(monotonic);
        }
        let count = self.members.len();
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.due().is_some_and(|due| due <= monotonic) {
                let mut context = Context { workers: self.workers, wake: &mut self.wake, number };
                member.step(&mut context, count);
            } else {
                member.note_quiet(quiet_at, monotonic, count);
            }
        }
    }

    /// Ends all members, and waits until their captured transactions are archived.
    fn drain(mut self) -> Result<Outcomes<Error>> {
        // Everything committed until now gets its time first. Only then does any source state the
        // time up to which it is complete. So the latest moment that all sources have in common
        // includes all of it.
        self.members.iter_mut().for_each(Member::look_once_more);
        loop {
            self.deliver();
            for (number, member) in self.members.iter_mut().enumerate() {
                member.end(&mut Context { workers: self.workers, wake: &mut self.wake, number });
            }
            if self.members.iter().all(Member::is_over) {
                return Ok(self.members.into_iter().map(Member::outcome).collect());
            }
            if self.workers.has_ended() {
                return Err(Error::Died);
            }
            self.wake.wait(TICK).map_err(Error::Threads)?;
        }
    }
}
