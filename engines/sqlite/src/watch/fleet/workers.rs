//! The threads that wait for disks and for the repository, so that the capturing thread does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use pitr_engine::{CaptureOptions, EngineContext, Event, Events, Found, LiveSource, Search, Summary};
use pitr_format::record::GapReason;
use pitr_vfs::{Clock, lower_priority};

use super::super::control::Requester;
use super::super::run::Watch;
use super::super::shared::{Shared, millis};
use super::super::snapshots::PendingBase;
use super::wake::Waker;
use crate::error::{Error, Result};

/// Interval at which threads check whether to end.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Interval between syncs of captured transactions: a kill of this process costs at most this.
const SYNC_EVERY: Duration = Duration::from_millis(25);
/// Pause before a failed base is tried again, milliseconds.
const BASE_AGAIN_MS: u64 = 5_000;
/// The longest pause between two checks whether something must be shipped.
const SHIP_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a failed merge.
const COMPACT_AGAIN: Duration = Duration::from_secs(60);
/// Another database is watched only while at least this many descriptors are free: the watched
/// databases need some of them to store objects and to sync.
const FREE_DESCRIPTORS_MIN: usize = 64;
/// The longest pause between two attempts to ship, milliseconds.
const SHIP_PAUSE_MS_MAX: u64 = 30_000;

/// A snapshot to take.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    /// The base to read; `None` for an increment from the log.
    pub(super) base: Option<Box<PendingBase>>,
    pub(super) requester: Option<Requester>,
}

/// Work of the attaching threads for a member.
pub(super) struct Task {
    pub(super) member: usize,
    pub(super) action: Action,
}

pub(super) enum Action {
    /// Begin to watch.
    Begin(LiveSource, Events),
    /// Attach again to a source that was replaced or changed.
    Attach(Box<Watch>, GapReason),
    /// Continue on a new timeline, because the clock was set back.
    Fork(Box<Watch>),
    /// Capture and archive the current state, and end.
    Drain(Box<Watch>),
    /// Close everything after a failure, to begin again later.
    Abandon(Box<Watch>),
}

/// The result of a task.
pub(super) enum Outcome {
    /// Capture is established.
    Attached,
    /// Capture failed for now. Without the watch, capture must begin again.
    Failed(Error),
    /// The watch is drained.
    Drained(Result<Summary>),
    /// The watch is closed.
    Abandoned(Summary),
}

/// A message to the capturing thread.
pub(super) enum Message {
    Done { member: usize, watch: Option<Box<Watch>>, outcome: Outcome },
    Found(Found),
}

type Senders = (Sender<Job>, Sender<Task>, Sender<Message>, Sender<()>);

/// State that the threads share.
pub(super) struct Workers {
    context: EngineContext,
    options: CaptureOptions,
    waker: Waker,
    jobs: Sender<Job>,
    tasks: Sender<Task>,
    inbox: Sender<Message>,
    news: Sender<()>,
    /// The members that are captured.
    active: Mutex<Vec<Arc<Shared>>>,
    end: AtomicBool,
}

impl Workers {
    pub(super) fn new(context: EngineContext, options: CaptureOptions, waker: Waker, to: Senders) -> Self {
        let (jobs, tasks, inbox, news) = to;
        let (active, end) = (Mutex::default(), AtomicBool::new(false));
        Workers { context, options, waker, jobs, tasks, inbox, news, active, end }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.context.env().clock.as_ref()
    }

    pub(super) fn options(&self) -> &CaptureOptions {
        &self.options
    }

    fn now_ms(&self) -> u64 {
        millis(self.clock().monotonic())
    }

    /// True once the threads should end, or one panicked.
    pub(super) fn has_ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Makes all threads end when the guard is dropped, also by a panic.
    pub(super) fn end_on_drop(&self) -> EndOnDrop<'_> {
        EndOnDrop(Some(self))
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts syncing and shipping this member's log.
    pub(super) fn activate(&self, shared: &Arc<Shared>) {
        self.active().push(Arc::clone(shared));
    }

    /// Stops new work for this member; work in progress continues.
    pub(super) fn deactivate(&self, shared: &Arc<Shared>) {
        self.active().retain(|other| !Arc::ptr_eq(other, shared));
        shared.snapshots.ending.store(true, Ordering::Relaxed);
    }

    /// Tells the syncing thread that there is something to make durable.
    pub(super) fn signal_news(&self) {
        let _ = self.news.try_send(());
    }

    /// Queues a snapshot.
    pub(super) fn submit(&self, job: Job) {
        job.shared.snapshots.jobs.fetch_add(1, Ordering::Relaxed);
        // The send fails only after the threads have ended.
        let _ = self.jobs.send(job);
    }

    /// Queues a task.
    pub(super) fn assign(&self, member: usize, action: Action) {
        let _ = self.tasks.send(Task { member, action });
    }

    fn send(&self, message: Message) {
        let _ = self.inbox.send(message);
        self.waker.wake();
    }

    /// Makes captured transactions durable, as long as there are new ones.
    pub(super) fn sync(&self, news: &Receiver<()>) {
        while !self.has_ended() {
            match news.recv_timeout(POLL_EVERY * 5) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let active = self.active().clone();
            for shared in active.iter().filter(|shared| shared.has_news()) {
                if let Err(e) = shared.make_durable() {
                    shared.fail(e);
                }
            }
            drop(active);
            self.clock().sleep(SYNC_EVERY);
        }
    }

    /// Ships the logs of all members when they are due.
    pub(super) fn ship(&self) {
        lower_priority();
        let every_ms = millis(self.options.ship_every).max(1);
        // If each member were shipped at its own time, hundreds of members would keep the thread
        // busy.
        let pause = (self.options.ship_every / 4).clamp(Duration::from_millis(1), SHIP_PAUSE);
        let pause_ms = millis(pause);
        while !self.has_ended() {
            let now_ms = self.now_ms();
            let is_due = |shared: &&Arc<Shared>| {
                let due = &shared.shipping.due_ms;
                let at = due.load(Ordering::Relaxed);
                let is_awaited = shared.is_awaited();
                if !is_awaited && (at > now_ms || !shared.wants_shipping(now_ms)) {
                    return false;
                }
                // A commit waits for the next check and for the shipment itself too.
                let rest = pause_ms.saturating_add(shared.shipping.took_ms.load(Ordering::Relaxed));
                let next = now_ms.saturating_add(every_ms.saturating_sub(rest).max(every_ms / 2));
                // Several threads may try. Only one wins the exchange, and ships.
                due.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            let due: Vec<_> = self.active().iter().filter(is_due).cloned().collect();
            due.iter().for_each(|shared| self.ship_one(shared));
            drop(due);
            self.clock().sleep(pause);
        }
    }

    fn ship_one(&self, shared: &Shared) {
        let state = &shared.shipping;
        // What they wait for was captured before they began to wait.
        let (waiting, begun) = (shared.take_waiting(), self.now_ms());
        let shipped = shared.ship(!waiting.is_empty());
        state.took_ms.store(self.now_ms().saturating_sub(begun), Ordering::Relaxed);
        for requester in waiting {
            match &shipped {
                Ok(archived) => requester.answer(Ok(&archived.to_string())),
                Err(e) => requester.answer(Err(&e.to_string())),
            }
        }
        match shipped {
            Ok(_) => {
                if state.pause_ms.swap(0, Ordering::Relaxed) > 0 {
                    (shared.events)(Event::ShipRecovered);
                }
            }
            Err(e) if e.is_retryable() => {
                let every = millis(self.options.ship_every);
                let before = state.pause_ms.load(Ordering::Relaxed);
                if before == 0 {
                    (shared.events)(Event::ShipFailed(e.to_string()));
                }
                let pause = before.max(every).max(1).saturating_mul(2).min(SHIP_PAUSE_MS_MAX);
                state.pause_ms.store(pause, Ordering::Relaxed);
                state.due_ms.store(self.now_ms() + pause, Ordering::Relaxed);
            }
            Err(e) => shared.fail(e),
        }
    }

    /// Merges small log objects of all members.
    pub(super) fn compact(&self) {
        lower_priority();
        let mut next = Duration::ZERO;
        while !self.has_ended() {
            self.clock().sleep(POLL_EVERY * 5);
            if self.clock().monotonic() < next {
                continue;
            }
            // A member can end while its objects are merged.
            let of = |shared: &Arc<Shared>| (Arc::clone(&shared.log.compactor), Arc::clone(&shared.events));
            let active: Vec<_> = self.active().iter().map(of).collect();
            for (compactor, events) in active.iter().filter(|(compactor, _)| compactor.is_due()) {
                // Without merges nothing is lost. Shipping reports other writers.
                if let Err(e) = compactor.compact() {
                    events(Event::Warning(format!("small log objects were not merged: {e}")));
                    next = self.clock().monotonic() + COMPACT_AGAIN;
                }
            }
        }
    }

    /// Takes snapshots, one at a time.
    pub(super) fn snapshots(&self, jobs: &Receiver<Job>) {
        lower_priority();
        loop {
            match jobs.recv_timeout(POLL_EVERY * 5) {
                Ok(job) => self.snapshot(job),
                Err(RecvTimeoutError::Timeout) if !self.has_ended() => {}
                Err(_) => return,
            }
        }
    }

    fn snapshot(&self, job: Job) {
        let Job { shared, base, requester } = job;
        let begun = self.clock().monotonic();
        let is_base = base.is_some();
        if !is_base && shared.snapshots.ending.load(Ordering::Relaxed) {
            // A base is still taken: without it nothing captured after a gap could be restored.
            shared.snapshots.jobs.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let taken = match base {
            Some(base) => {
                let taken = shared.check_repository().and_then(|()| shared.take_base(&base));
                // Drop the view, and with it its descriptor, before the source can be dropped.
                drop(base);
                taken.map(Some)
            }
            None => shared.take_increment(),
        };
        let took = self.clock().monotonic().saturating_sub(begun);
        let state = &shared.snapshots;
        let answer = |outcome: Result<&str, &str>| requester.map(|requester| requester.answer(outcome));
        match taken {
            Ok(Some(snapshot)) => {
                let path = snapshot.path(&shared.context.objects);
                answer(Ok(&format!("{path} {}", took.as_secs_f64())));
                state.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                state.compare.store(true, Ordering::Relaxed);
                (shared.events)(Event::Snapshot { snapshot: Box::new(snapshot), took });
            }
            Ok(None) => {
                answer(Err("the first snapshot of this watch is not finished yet; try again later"));
                state.base_due_ms.fetch_max(1, Ordering::Relaxed);
            }
            Err(e) => {
                answer(Err(&e.to_string()));
                if is_base {
                    state.base_due_ms.store(self.now_ms() + BASE_AGAIN_MS, Ordering::Relaxed);
                }
                self.report_failure(&shared, e);
            }
        }
        if is_base {
            state.base_pending.store(false, Ordering::Release);
        }
        state.jobs.fetch_sub(1, Ordering::Relaxed);
    }

    /// Reports why there is no snapshot, once for each reason.
    fn report_failure(&self, shared: &Shared, error: Error) {
        let text = error.to_string();
        if error.is_final() {
            shared.fail(error);
        }
        let mut said = shared.snapshots.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() != Some(&text) {
            (shared.events)(Event::SnapshotFailed(text.clone()));
            *said = Some(text);
        }
    }

    /// Begins, ends and re-attaches members.
    pub(super) fn attach(&self, tasks: &Receiver<Task>) {
        loop {
            match tasks.recv_timeout(POLL_EVERY * 5) {
                Ok(Task { member, action }) => {
                    let (watch, outcome) = self.perform(action);
                    self.send(Message::Done { member, watch, outcome });
                }
                Err(RecvTimeoutError::Timeout) if !self.has_ended() => {}
                Err(_) => return,
            }
        }
    }

    fn check_descriptors(&self) -> Result<()> {
        self.waker.check_descriptors(FREE_DESCRIPTORS_MIN).map_err(Error::Threads)
    }

    fn perform(&self, action: Action) -> (Option<Box<Watch>>, Outcome) {
        let attached = |watch: Box<Watch>, outcome: Result<()>| match outcome {
            Ok(()) => (Some(watch), Outcome::Attached),
            Err(e) => (Some(watch), Outcome::Failed(e)),
        };
        match action {
            Action::Begin(watched, events) => {
                let begun = self
                    .check_descriptors()
                    .and_then(|()| Watch::begin(self.context.clone(), watched, self.options, events));
                match begun {
                    Ok(watch) => (Some(Box::new(watch)), Outcome::Attached),
                    Err(e) => (None, Outcome::Failed(e)),
                }
            }
            Action::Attach(mut watch, why) => {
                wait_until_unshared(&watch);
                let outcome = watch.attach_again(why);
                attached(watch, outcome)
            }
            Action::Fork(mut watch) => {
                wait_until_unshared(&watch);
                let outcome = watch.fork_for_clock().and_then(|()| watch.attach_with_retries());
                attached(watch, outcome)
            }
            Action::Drain(mut watch) => {
                wait_until_unshared(&watch);
                let outcome = watch.drain();
                (None, Outcome::Drained(outcome))
            }
            Action::Abandon(watch) => {
                wait_until_unshared(&watch);
                (None, Outcome::Abandoned(watch.summary()))
            }
        }
    }

    /// Reports new databases.
    pub(super) fn search(&self, mut search: Search<'_>, every: Duration) {
        let mut next = Duration::ZERO;
        while !self.has_ended() {
            if self.clock().monotonic() >= next {
                search().into_iter().for_each(|found| self.send(Message::Found(found)));
                next = self.clock().monotonic() + every;
            }
            self.clock().sleep(POLL_EVERY);
        }
    }
}

/// Waits until no other thread uses this watch. It is not active, so no thread starts to.
fn wait_until_unshared(watch: &Watch) {
    let clock = watch.shared.clock();
    while Arc::strong_count(&watch.shared) > 1 {
        clock.sleep(Duration::from_millis(2));
    }
}

/// See [`Workers::end_on_drop`].
pub(super) struct EndOnDrop<'a>(Option<&'a Workers>);

impl EndOnDrop<'_> {
    /// Disarms the guard: its drop then does nothing.
    pub(super) fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(workers) = self.0 {
            workers.end.store(true, Ordering::Relaxed);
            workers.waker.wake();
        }
    }
}
