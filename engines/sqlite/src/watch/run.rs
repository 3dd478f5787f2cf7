//! The threads of a watch, and its life from first contact to the drained stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pitr_archive::{Archive, ForkReason, Writer};
use pitr_format::record::GapReason;
use pitr_format::{Lsn, TxId};
use pitr_snapshot::Manifest;

use super::attach::{Attached, Attaching};
use super::begin::{Fork, fork, open_log};
use super::control::{Asker, Control, Request};
use super::shared::{Log, Shared};
use super::snapshots::PendingBase;
use super::state::State;
use super::{Event, Events, Subject, Surroundings, WatchOptions};
use crate::error::{Error, Result};

/// Threads look this often whether they are to end.
const ATTENTION: Duration = Duration::from_millis(20);
/// The database's place is checked this often.
const PLACE_EVERY: Duration = Duration::from_millis(100);
/// While no database stands under the name, look this often.
const ABSENT_EVERY: Duration = Duration::from_millis(200);
/// A base that could not be stored is tried again after this long.
const BASE_AGAIN: Duration = Duration::from_secs(5);
/// Requests that may wait for the snapshot thread.
const JOBS_MAX: usize = 16;
/// A file is settled for a stamp after this long (see `Source::file_stamp`).
const SETTLE: Duration = Duration::from_millis(150);

/// A watched database.
pub struct Watch {
    shared: Shared,
    state: State,
    attached: Option<Box<Attached>>,
    summary: Summary,
}

/// What a watch did, for its closing line.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Transactions captured.
    pub commits: u64,
    /// Pages in them.
    pub pages: u64,
    /// How long the database's write lock was held, each time.
    pub write_lock: Vec<Duration>,
    /// Everything below is archived.
    pub archived: Lsn,
    /// The last transaction archived.
    pub last_tx: Option<TxId>,
}

enum Job {
    Base(Box<PendingBase>, Option<Asker>),
    Increment(Option<Asker>),
}

/// What the threads of one attachment tell each other.
struct Threads<'a> {
    shared: &'a Shared,
    jobs: Sender<Job>,
    /// A base is being read: no hand-over.
    base_pending: AtomicBool,
    /// The archive needs a base and has none: the last try failed, or nothing leads on to now.
    base_wanted: AtomicBool,
    fatal: Mutex<Option<Error>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl Watch {
    /// Establishes capture: from the return on every commit is captured, once [`Watch::run`] or
    /// [`Watch::snapshot_once`] follows.
    pub fn begin(
        around: Surroundings,
        subject: Subject,
        options: WatchOptions,
        events: Events,
    ) -> Result<Watch> {
        let state = State::open(around.fs.clone(), &subject.state, around.repository, &subject.source)?;
        // A source that can't be watched must not cost an epoch or a timeline.
        drop(crate::source::Source::open(around.fs.as_ref(), &subject.database)?);
        let archive = Archive::new(around.objects.clone(), subject.source.clone());
        let writer = Writer::claim(&archive, around.clock.now())?;
        let log = open_log(&around, &state, &archive, &writer, &events)?;
        let shared = Shared::new(around, subject, options, events, archive, writer, log);
        let mut watch = Watch { shared, state, attached: None, summary: Summary::default() };
        watch.attach(None)?;
        Ok(watch)
    }

    fn attach(&mut self, broken: Option<GapReason>) -> Result<()> {
        loop {
            match self.shared.attach(&self.state, broken)? {
                Attaching::Attached(attached) => {
                    self.shared.captured(
                        attached.capture.complete_until(),
                        attached.capture.keep_from(),
                        true,
                    );
                    self.attached = Some(attached);
                    return Ok(());
                }
                Attaching::Forked(log) => self.shared.log = *log,
            }
        }
    }

    /// Watches until `stop`, then drains: everything that was committed before is archived on return.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Summary> {
        let control = Control::listen(self.state.dir())
            .map_err(|source| Error::Open { path: super::state::control_path(self.state.dir()), source })?;
        (self.shared.events)(Event::Watching);
        while !stop.load(Ordering::Relaxed) {
            match self.run_attached(stop, &control) {
                Ok(()) => break,
                Err(e) if e.is_break() => self.attach_again(&e, stop)?,
                Err(Error::ClockSetBack { .. }) => self.fork_for_clock()?,
                Err(e) => return Err(e),
            }
        }
        self.drain()?;
        Ok(self.summary.clone())
    }

    /// Takes one snapshot now and drains: what `backup` does when nobody watches. The snapshot is a base if one is
    /// due, or with `full`.
    pub fn snapshot_once(&mut self, full: bool) -> Result<Manifest> {
        let attached = self.attached.as_mut().ok_or(Error::Died)?;
        let looked = attached.capture.look(&attached.source)?;
        self.summary.commits += looked.commits;
        self.summary.pages += looked.pages;
        self.shared.captured(attached.capture.complete_until(), attached.capture.keep_from(), true);
        let due = attached.base.take();
        let manifest = match due {
            Some(base) => self.shared.take_base(&PendingBase { full, ..base })?,
            None if full => {
                let base = self.shared.base_here(&attached.source, &attached.capture, true)?;
                self.shared.take_base(&base)?
            }
            None => match self.shared.take_increment()? {
                Some(manifest) => manifest,
                None => {
                    let base = self.shared.base_here(&attached.source, &attached.capture, false)?;
                    self.shared.take_base(&base)?
                }
            },
        };
        self.drain()?;
        Ok(manifest)
    }

    /// The current attachment, until `stop` or an error.
    fn run_attached(&mut self, stop: &AtomicBool, control: &Control) -> Result<()> {
        let Some(attached) = self.attached.as_mut() else { return Err(Error::Died) };
        let (jobs, waiting) = bounded(JOBS_MAX);
        let threads = Threads {
            shared: &self.shared,
            jobs,
            base_pending: AtomicBool::new(false),
            base_wanted: AtomicBool::new(false),
            fatal: Mutex::new(None),
        };
        self.shared.end.store(false, Ordering::Relaxed);
        let summary = &mut self.summary;
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| threads.ship());
            scope.spawn(|| threads.snapshots(&waiting));
            let _end = EndOnDrop(&self.shared.end);
            threads.capture(attached, stop, control, summary)
        });
        let held = attached.keeper.write_lock_held();
        summary.write_lock.extend_from_slice(held);
        let fatal = threads.fatal.into_inner().unwrap_or_else(PoisonError::into_inner);
        match fatal {
            Some(fatal) => Err(fatal),
            None => outcome,
        }
    }

    /// The source is no longer the one that was watched.
    fn attach_again(&mut self, why: &Error, stop: &AtomicBool) -> Result<()> {
        // Connections and descriptors of the old source close before any of the new one open.
        self.attached = None;
        let reason = if matches!(why, Error::Replaced { .. }) {
            GapReason::SourceReplaced
        } else {
            GapReason::LogRestarted
        };
        (self.shared.events)(Event::SourceGone(why.to_string()));
        while !stop.load(Ordering::Relaxed) {
            match self.attach(Some(reason)) {
                Ok(()) => {
                    (self.shared.events)(Event::Watching);
                    return Ok(());
                }
                // Not there yet, or not yet a database in WAL mode: it is still being made.
                Err(
                    Error::Open { .. }
                    | Error::NotADatabase { .. }
                    | Error::NotWalMode { .. }
                    | Error::Exclusive { .. },
                ) => {
                    std::thread::sleep(ABSENT_EVERY);
                }
                Err(e) if e.is_busy() => std::thread::sleep(ABSENT_EVERY),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn fork_for_clock(&mut self) -> Result<()> {
        self.attached = None;
        self.shared.ship(true)?;
        let parent = Some(self.shared.log.timeline);
        let (at, time) = (self.shared.log.wal.durable(), self.shared.log.wal.last_time());
        let reason = ForkReason::ClockSetBack;
        let from = Fork { parent, at, reason, time, gap: false };
        let log: Log = fork(&self.shared.around, &self.state, &self.shared.writer, &from)?;
        self.shared.carry_position_to(&log)?;
        (self.shared.events)(Event::Forked { timeline: log.timeline, reason });
        self.shared.log = log;
        self.attach(None)
    }

    /// Captures and ships what is there. If the database file then holds everything, that is noted too: as long as it
    /// is not written, whatever happens to its log until we come back is no gap.
    fn drain(&mut self) -> Result<()> {
        if let Some(attached) = self.attached.as_mut() {
            let Attached { source, capture, keeper, .. } = attached.as_mut();
            match capture.look(source) {
                Ok(looked) => {
                    self.summary.commits += looked.commits;
                    self.summary.pages += looked.pages;
                    keeper.settle(source, capture)?;
                    self.shared.captured(capture.complete_until(), capture.keep_from(), true);
                    self.shared.note_file(source, capture, SETTLE)?;
                }
                Err(e) if e.is_break() => {}
                Err(e) => return Err(e),
            }
            self.summary.last_tx = Some(capture.last_tx()).filter(|tx| *tx != TxId::NONE);
        }
        self.summary.archived = self.shared.ship(true)?;
        Ok(())
    }
}

/// Tells the other threads to end, also when this one panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Threads<'_> {
    fn ended(&self) -> bool {
        self.shared.end.load(Ordering::Relaxed)
    }

    fn die(&self, error: Error) {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.shared.end.store(true, Ordering::Relaxed);
    }

    /// Sleeps, but not longer than the watch lives.
    fn rest(&self, time: Duration) {
        let until = self.shared.around.clock.monotonic() + time;
        while !self.ended() {
            let left = until.saturating_sub(self.shared.around.clock.monotonic());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(ATTENTION));
        }
    }

    fn capture(
        &self,
        attached: &mut Attached,
        stop: &AtomicBool,
        control: &Control,
        summary: &mut Summary,
    ) -> Result<()> {
        let clock = &self.shared.around.clock;
        let mut place_checked = clock.monotonic();
        if let Some(base) = attached.base.take() {
            self.read_base(base, None);
        }
        while !stop.load(Ordering::Relaxed) && !self.ended() {
            let Attached { source, capture, keeper, .. } = attached;
            let looked = capture.look(source)?;
            summary.commits += looked.commits;
            summary.pages += looked.pages;
            self.shared.captured(capture.complete_until(), capture.keep_from(), looked.commits > 0);
            if !self.base_pending.load(Ordering::Acquire) {
                keeper.tend(source, capture, &looked)?;
                self.requests(control, source, capture)?;
                if self.base_wanted.swap(false, Ordering::Relaxed) {
                    capture.look(source)?;
                    let base = self.shared.base_here(source, capture, false)?;
                    self.read_base(base, None);
                }
            }
            let now = clock.monotonic();
            if now.saturating_sub(place_checked) >= PLACE_EVERY {
                source.check_in_place()?;
                place_checked = now;
            }
            std::thread::sleep(self.shared.options.look_every);
        }
        Ok(())
    }

    fn requests(
        &self,
        control: &Control,
        source: &crate::source::Source,
        capture: &mut crate::capture::Capture,
    ) -> Result<()> {
        match control.poll() {
            None => {}
            Some((Request::Snapshot, asker)) => self.submit(Job::Increment(Some(asker))),
            Some((Request::FullSnapshot, asker)) => {
                capture.look(source)?;
                let base = self.shared.base_here(source, capture, true)?;
                self.read_base(base, Some(asker));
            }
        }
        Ok(())
    }

    fn read_base(&self, base: PendingBase, asker: Option<Asker>) {
        self.base_pending.store(true, Ordering::Release);
        self.submit(Job::Base(Box::new(base), asker));
    }

    fn submit(&self, job: Job) {
        if let Err(refused) = self.jobs.try_send(job) {
            match refused.into_inner() {
                Job::Base(_, Some(asker)) | Job::Increment(Some(asker)) => {
                    asker.answer(Err("too many snapshots wait already; try again later"));
                }
                _ => {}
            }
        }
    }

    fn ship(&self) {
        let mut failing = false;
        while !self.ended() {
            match self.shared.ship(false) {
                Ok(_) if failing => {
                    failing = false;
                    (self.shared.events)(Event::ShipRecovered);
                }
                Ok(_) => {}
                Err(e) if e.is_retryable() => {
                    if !failing {
                        (self.shared.events)(Event::ShipFailed(e.to_string()));
                    }
                    failing = true;
                }
                Err(e) => return self.die(e),
            }
            self.rest(self.shared.options.ship_every);
        }
    }

    fn snapshots(&self, waiting: &Receiver<Job>) {
        let clock = &self.shared.around.clock;
        let mut last = clock.monotonic();
        while !self.ended() {
            let job = match waiting.recv_timeout(ATTENTION) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    let every = self.shared.options.snapshot_every;
                    if every.is_none_or(|every| clock.monotonic().saturating_sub(last) < every) {
                        continue;
                    }
                    Job::Increment(None)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            last = clock.monotonic();
            self.snapshot(job);
        }
    }

    fn snapshot(&self, job: Job) {
        let begun = self.shared.around.clock.monotonic();
        let is_base = matches!(job, Job::Base(..));
        let (taken, asker) = match job {
            Job::Base(base, asker) => {
                let taken = self.shared.take_base(&base);
                // The view, and with it its descriptor, is gone before the source may be.
                drop(base);
                self.base_pending.store(false, Ordering::Release);
                (taken.map(Some), asker)
            }
            Job::Increment(asker) => (self.shared.take_increment(), asker),
        };
        let took = self.shared.around.clock.monotonic().saturating_sub(begun);
        match taken {
            Ok(Some(manifest)) => {
                if let Some(asker) = asker {
                    asker.answer(Ok(&format!("{} {}", manifest.path(), took.as_secs_f64())));
                }
                (self.shared.events)(Event::Snapshot { manifest: Box::new(manifest), took });
            }
            Ok(None) => {
                self.base_wanted.store(true, Ordering::Relaxed);
                if let Some(asker) = asker {
                    asker.answer(Err("the base of this watch is not finished yet; try again later"));
                }
            }
            Err(e) => {
                if let Some(asker) = asker {
                    asker.answer(Err(&e.to_string()));
                }
                (self.shared.events)(Event::SnapshotFailed(e.to_string()));
                if is_base {
                    self.rest(BASE_AGAIN);
                    self.base_wanted.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
