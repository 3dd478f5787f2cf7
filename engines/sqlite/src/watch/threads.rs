//! The threads of an attachment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Event;
use super::attach::Attached;
use super::control::{Asker, Control, Request};
use super::shared::Shared;
use super::snapshots::PendingBase;
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::source::Source;

/// Threads look this often whether they are to end.
const ATTENTION: Duration = Duration::from_millis(20);
/// What was captured is made durable this often: what a kill of ours can cost.
const SYNC_EVERY: Duration = Duration::from_millis(25);
/// The database's place is checked this often.
const PLACE_EVERY: Duration = Duration::from_millis(100);
/// A base that could not be stored is tried again after this long.
const BASE_AGAIN: Duration = Duration::from_secs(5);
/// Requests that may wait for the snapshot thread.
const JOBS_MAX: usize = 16;

/// How far the threads that can wait stand back (see nice(2)).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lowers the priority of the calling thread: the application, and capture after it, come before compressing and
/// storing. For a watching program's pools of threads too. Where it is refused everything works, only less politely;
/// elsewhere than on Linux a priority is the whole process's, and stays.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
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

/// Runs the threads until `stop`, a break of the source, or a failure that none of them can get over.
pub(super) fn run(
    shared: &Shared,
    attached: &mut Attached,
    stop: &AtomicBool,
    control: &Control,
) -> Result<()> {
    let (jobs, waiting) = bounded(JOBS_MAX);
    let threads = Threads {
        shared,
        jobs,
        base_pending: AtomicBool::new(false),
        base_wanted: AtomicBool::new(false),
        fatal: Mutex::new(None),
    };
    shared.end.store(false, Ordering::Relaxed);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| threads.sync());
        scope.spawn(|| {
            give_way();
            threads.ship();
        });
        scope.spawn(|| {
            give_way();
            threads.snapshots(&waiting);
        });
        let _end = EndOnDrop(&shared.end);
        threads.capture(attached, stop, control)
    });
    match threads.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fatal) => Err(fatal),
        None => outcome,
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

    fn capture(&self, attached: &mut Attached, stop: &AtomicBool, control: &Control) -> Result<()> {
        let clock = &self.shared.around.clock;
        let mut place_checked = clock.monotonic();
        if let Some(base) = attached.base.take() {
            self.read_base(base, None);
        }
        while !stop.load(Ordering::Relaxed) && !self.ended() {
            let round = self.round(attached, control);
            let now = clock.monotonic();
            if round.is_err() || now.saturating_sub(place_checked) >= PLACE_EVERY {
                // SQLite has many words for a file that is gone; this one says what to do.
                self.shared.subject.place().check()?;
                attached.source.check_in_place()?;
                place_checked = now;
            }
            round?;
            std::thread::sleep(self.shared.options.look_every);
        }
        Ok(())
    }

    /// One look, and what follows from it.
    fn round(&self, attached: &mut Attached, control: &Control) -> Result<()> {
        let Attached { source, capture, keeper, .. } = attached;
        let published = capture.look(source)?;
        self.shared.captured(capture);
        if !self.base_pending.load(Ordering::Acquire) {
            if let Some(published) = published {
                keeper.tend(source, capture, published)?;
                self.shared.captured(capture);
            }
            self.requests(control, source, capture)?;
            if self.base_wanted.swap(false, Ordering::Relaxed) {
                capture.look(source)?;
                let base = self.shared.base_here(source, capture, false)?;
                self.read_base(base, None);
            }
        }
        Ok(())
    }

    fn requests(&self, control: &Control, source: &Source, capture: &mut Capture) -> Result<()> {
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

    fn sync(&self) {
        while !self.ended() {
            if let Err(e) = self.shared.make_durable() {
                return self.die(e);
            }
            std::thread::sleep(SYNC_EVERY);
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
        // Without its base nothing that was captured behind a gap could ever be restored.
        while let Ok(job) = waiting.try_recv() {
            if matches!(job, Job::Base(..)) {
                self.snapshot(job);
            }
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
            Ok(Some(snapshot)) => {
                if let Some(asker) = asker {
                    asker.answer(Ok(&format!(
                        "{} {}",
                        snapshot.path(&self.shared.around.objects),
                        took.as_secs_f64()
                    )));
                }
                (self.shared.events)(Event::Snapshot { snapshot: Box::new(snapshot), took });
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

/// Tells the other threads to end, also when this one panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
