//! A database of a fleet, and the thread that holds it.
//!
//! ```text
//!             begins                 a look fails: the source was replaced or changed
//! Waiting ------------> Away ------> Captured ------> Away (attach again) ----> Captured
//!    ^                   |               |                   |
//!    |                   v               v                   v  no database there yet
//!    +---------------- failed        Away (drain)         Detached ----> Away ...
//!                                        |
//!                                        v
//!                                      Over
//! ```

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pitr_engine::{Event, Events, LiveSource, Summary};
use pitr_format::record::GapReason;
use pitr_format::{SourceName, Timestamp};
use pitr_vfs::Clock;

use super::super::attach::Attached;
use super::super::control::{Control, Request, Requester};
use super::super::run::{Watch, reason};
use super::super::shared::Shared;
use super::super::snapshots::PendingBase;
use super::pace::Pace;
use super::wake::{FileWatches, Wake};
use super::workers::{Action, Job, Outcome, Workers};
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::place;
use crate::source::Source;

/// The first pause after a failure, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause while only the database is missing or incomplete.
const ABSENT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Time for which a database from a folder must be missing before it leaves the fleet. It covers
/// two searches, so that a later search finds the database again if it comes back.
const MISSING_MAX: Duration = Duration::from_secs(2 * super::SEARCH_EVERY.as_secs() + 1);
/// Interval between notes of the time up to which nothing was committed.
const MARK_EVERY: Duration = Duration::from_millis(20);
/// With many databases, the interval is this number times the number of databases.
const MARK_EACH: Duration = Duration::from_millis(20);
/// Maximum number of waiting snapshots of one database.
const JOBS_MAX: usize = 16;

/// Looks for a request: an application that commits all the time changes the wal-index during many
/// a look.
const LOOKS_FOR_A_REQUEST: u32 = 100;
/// Pause between two of them.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Looks until the wal-index can be read. False if it could not be read in any look.
fn look_again(capture: &mut Capture, source: &Source, clock: &dyn Clock) -> Result<bool> {
    for _ in 0..LOOKS_FOR_A_REQUEST {
        if capture.look(source)?.is_some() {
            return Ok(true);
        }
        clock.sleep(LOOK_AGAIN);
    }
    Ok(false)
}

/// The resources that a step of a member uses.
pub(super) struct Context<'a> {
    pub(super) workers: &'a Workers,
    pub(super) wake: &'a mut Wake,
    pub(super) number: usize,
}

/// A database of the fleet.
pub(super) struct Member {
    watched: LiveSource,
    events: Events,
    /// True if the database was found in a folder: it leaves the fleet when it no longer exists.
    found: bool,
    phase: Phase,
    /// Totals of the database's earlier watches.
    summary: Summary,
    /// The last reported reason why nothing is captured.
    reported: Option<String>,
    pause: Duration,
    /// Time since which a database from a folder is missing.
    missing_since: Option<Duration>,
}

enum Phase {
    /// The watch begins at this monotonic time.
    Waiting(Duration),
    /// The database was captured before and no longer exists. The next attempt is at this time.
    Detached(Box<Watch>, GapReason, Duration),
    /// An attaching thread holds the database.
    Away,
    Captured(Box<Captured>),
    Over(Result<Summary>),
}

/// A member that the capturing thread holds.
struct Captured {
    watch: Box<Watch>,
    control: Control,
    /// Snapshots that were requested and not begun yet.
    asked: VecDeque<(Request, Requester)>,
    followed: Option<FileWatches>,
    pace: Pace,
    due: Duration,
    snapshot_due: Option<Duration>,
    /// Time of the next check of the watcher's folder.
    place_due: Duration,
    /// Time of the next note of the time up to which nothing was committed.
    mark_due: Duration,
}

impl Member {
    /// A database to watch as soon as possible.
    pub(super) fn waiting(watched: LiveSource, events: Events, found: bool) -> Self {
        let (phase, summary) = (Phase::Waiting(Duration::ZERO), Summary::default());
        Member {
            watched,
            events,
            found,
            phase,
            summary,
            reported: None,
            pause: PAUSE_FIRST,
            missing_since: None,
        }
    }

    /// A database whose capture is established.
    pub(super) fn begun(watch: Box<Watch>) -> Self {
        let (watched, events) = (watch.shared.watched.clone(), Arc::clone(&watch.shared.events));
        let phase = Phase::Detached(watch, GapReason::LogRestarted, Duration::ZERO);
        Member { phase, ..Member::waiting(watched, events, false) }
    }

    pub(super) fn database(&self) -> &Path {
        &self.watched.place.resolved
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// True if this member's failure must end the whole fleet: the others must not continue as if
    /// every database were protected.
    pub(super) fn ends_all(&self) -> bool {
        !self.found && matches!(self.phase, Phase::Over(Err(_)))
    }

    pub(super) fn outcome(self) -> (SourceName, Result<Summary>) {
        let outcome = match self.phase {
            Phase::Over(outcome) => outcome,
            _ => Err(Error::Died),
        };
        (self.watched.source, outcome)
    }

    /// Time of the member's next step; `None` while another thread holds the member.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting(due) | Phase::Detached(_, _, due) => Some(*due),
            Phase::Captured(captured) => Some(captured.due),
            Phase::Away | Phase::Over(_) => None,
        }
    }

    /// Records a change of the database's files.
    pub(super) fn touch(&mut self, now: Duration) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.pace.touch(now);
            captured.due = now;
        }
    }

    /// Records that a request has arrived.
    pub(super) fn asked(&mut self, now: Duration) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.due = now;
        }
    }

    /// Records that no event arrived up to `until`. The fleet has `members` members.
    pub(super) fn note_quiet(&mut self, until: Timestamp, monotonic: Duration, members: usize) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.note_quiet(until, monotonic, members);
        }
    }

    /// Runs the due step. The fleet has `members` members.
    pub(super) fn step(&mut self, context: &mut Context<'_>, members: usize) {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Waiting(_) => {
                let (watched, events) = (self.watched.clone(), Arc::clone(&self.events));
                context.workers.assign(context.number, Action::Begin(watched, events));
            }
            Phase::Detached(watch, _, _) if watch.attached.is_some() => self.capture(watch, context),
            Phase::Detached(watch, why, _) => {
                if self.is_removed(context) {
                    context.workers.assign(context.number, Action::Drain(watch));
                } else {
                    context.workers.assign(context.number, Action::Attach(watch, why));
                }
            }
            Phase::Captured(mut captured) => match captured.round(context, members) {
                Ok(()) => self.phase = Phase::Captured(captured),
                Err(e) => self.handle_failure(*captured, e, context),
            },
            other => self.phase = other,
        }
    }

    /// True for a database from a folder that has been missing long enough for a search to notice.
    fn is_removed(&mut self, context: &Context<'_>) -> bool {
        if !self.found || self.database().exists() {
            self.missing_since = None;
            return false;
        }
        let now = context.workers.clock().monotonic();
        now.saturating_sub(*self.missing_since.get_or_insert(now)) >= MISSING_MAX
    }

    /// Starts to capture an attached watch.
    fn capture(&mut self, watch: Box<Watch>, context: &mut Context<'_>) {
        match Captured::new(watch, context) {
            Ok(mut captured) => {
                self.pause = PAUSE_FIRST;
                self.reported = None;
                (self.events)(Event::Watching);
                captured.begin(context.workers);
                self.phase = Phase::Captured(Box::new(captured));
            }
            Err((watch, source)) => {
                let path = super::super::state::control_path(watch.state.dir());
                self.abandon(watch, &Error::Open { path, source }, context);
            }
        }
    }

    /// Handles the error of a round.
    fn handle_failure(&mut self, captured: Captured, error: Error, context: &mut Context<'_>) {
        let watch = captured.release(context);
        if error.is_break() {
            let why = reason(&error);
            self.report(&error);
            context.workers.assign(context.number, Action::Attach(watch, why));
        } else if matches!(error, Error::ClockSetBack { .. }) {
            context.workers.assign(context.number, Action::Fork(watch));
        } else if error.is_final() {
            self.phase = Phase::Over(Err(error));
        } else {
            self.abandon(watch, &error, context);
        }
    }

    /// Closes everything; the watch begins again after a pause.
    fn abandon(&mut self, watch: Box<Watch>, error: &Error, context: &mut Context<'_>) {
        self.report(error);
        context.workers.assign(context.number, Action::Abandon(watch));
    }

    fn report(&mut self, error: &Error) {
        let text = error.to_string();
        if self.reported.as_ref() != Some(&text) {
            (self.events)(Event::Waiting(text.clone()));
            self.reported = Some(text);
        }
    }

    /// Time of the next attempt.
    fn next_try(&mut self, max: Duration, context: &Context<'_>) -> Duration {
        let pause = self.pause.min(max);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        context.workers.clock().monotonic() + pause
    }

    /// Takes the member back from an attaching thread.
    pub(super) fn returned(
        &mut self,
        watch: Option<Box<Watch>>,
        outcome: Outcome,
        context: &mut Context<'_>,
    ) {
        match (outcome, watch) {
            (Outcome::Attached, Some(watch)) => self.capture(watch, context),
            (Outcome::Failed(e), _) if e.is_final() => self.phase = Phase::Over(Err(e)),
            (Outcome::Failed(e), Some(watch)) if e.is_absent() || e.is_busy() || e.is_break() => {
                self.report(&e);
                let why = if e.is_break() { reason(&e) } else { GapReason::SourceReplaced };
                // After a break, each attempt uses up a segment of the log.
                let max = if e.is_break() { PAUSE_MAX } else { ABSENT_PAUSE_MAX };
                let due = self.next_try(max, context);
                self.phase = Phase::Detached(watch, why, due);
            }
            (Outcome::Failed(e), Some(watch)) => self.abandon(watch, &e, context),
            (Outcome::Failed(e), None) => self.failed_to_begin(&e, context),
            (Outcome::Abandoned(summary), _) => {
                self.summary.add(&summary);
                self.phase = Phase::Waiting(self.next_try(PAUSE_MAX, context));
            }
            (Outcome::Drained(outcome), _) => self.finish(outcome),
            (Outcome::Attached, None) => self.phase = Phase::Over(Err(Error::Died)),
        }
    }

    fn failed_to_begin(&mut self, error: &Error, context: &Context<'_>) {
        if self.is_removed(context) {
            (self.events)(Event::Removed);
            self.phase = Phase::Over(Ok(std::mem::take(&mut self.summary)));
            return;
        }
        self.report(error);
        let max = if error.is_absent() { ABSENT_PAUSE_MAX } else { PAUSE_MAX };
        self.phase = Phase::Waiting(self.next_try(max, context));
    }

    fn finish(&mut self, outcome: Result<Summary>) {
        if self.found && !self.database().exists() {
            (self.events)(Event::Removed);
        }
        let mut all = std::mem::take(&mut self.summary);
        self.phase = Phase::Over(outcome.map(|last| {
            all.add(&last);
            all
        }));
    }

    /// Captures the current state, before the end.
    pub(super) fn look_once_more(&mut self) {
        if let Phase::Captured(captured) = &mut self.phase
            && let Some(Attached { source, capture, .. }) = captured.watch.attached.as_deref_mut()
            && capture.look(source).is_ok()
        {
            // The drain meets the same error and reports it.
            captured.watch.shared.note_progress(capture);
        }
    }

    /// Asks the member to end. Call it until [`is_over`](Self::is_over).
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Captured(captured) => {
                let watch = captured.release(context);
                context.workers.assign(context.number, Action::Drain(watch));
            }
            Phase::Detached(watch, ..) => context.workers.assign(context.number, Action::Drain(watch)),
            Phase::Waiting(_) => self.phase = Phase::Over(Ok(std::mem::take(&mut self.summary))),
            other => self.phase = other,
        }
    }
}

impl Captured {
    fn new(watch: Box<Watch>, context: &mut Context<'_>) -> Result<Self, (Box<Watch>, io::Error)> {
        let dir = watch.state.dir().to_owned();
        let listened = Control::listen(&dir).and_then(|control| {
            context.wake.listen(context.number, control.listener())?;
            Ok(control)
        });
        let control = match listened {
            Ok(control) => control,
            Err(error) => return Err((watch, error)),
        };
        let now = context.workers.clock().monotonic();
        // Without events, for example when the system has no inotify watch left, the database is
        // looked at often.
        let followed = context.wake.follow(context.number, &watch.shared.watched.place.resolved).ok();
        let pace = Pace::new(now, followed.is_some());
        let snapshot_due = context.workers.options().snapshot_every.map(|every| now + every);
        let asked = VecDeque::new();
        Ok(Captured {
            watch,
            control,
            asked,
            followed,
            pace,
            due: now,
            snapshot_due,
            place_due: now,
            mark_due: now,
        })
    }

    /// Makes the other threads work for this member.
    fn begin(&mut self, workers: &Workers) {
        workers.activate(&self.watch.shared);
        if let Some(base) = self.watch.attached.as_mut().and_then(|attached| attached.base.take()) {
            read_base(&self.watch.shared, workers, base, None);
        }
    }

    /// Returns the watch. No thread starts new work for it.
    fn release(self, context: &mut Context<'_>) -> Box<Watch> {
        if let Some(followed) = self.followed {
            context.wake.unfollow(followed);
        }
        context.workers.deactivate(&self.watch.shared);
        self.watch
    }

    /// Records that nothing was committed up to `until`, if the events are reliable.
    fn note_quiet(&mut self, until: Timestamp, monotonic: Duration, members: usize) {
        let shared = &self.watch.shared;
        let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else { return };
        if !self.pace.proves_quiet() {
            return;
        }
        let marks = monotonic >= self.mark_due;
        if marks && (source.check_in_place().is_err() || place::check(&shared.watched.place).is_err()) {
            self.due = monotonic; // the next look reports the fault
            return;
        }
        capture.note_quiet(until, monotonic, marks);
        if marks {
            shared.note_progress(capture);
            self.mark_due =
                monotonic + MARK_EVERY.max(MARK_EACH * u32::try_from(members).unwrap_or(u32::MAX));
        }
    }

    /// Performs a look, and the actions that follow from it.
    fn round(&mut self, context: &Context<'_>, members: usize) -> Result<()> {
        let workers = context.workers;
        let now = workers.clock().monotonic();
        let shared = Arc::clone(&self.watch.shared);
        if let Some(failure) = shared.take_failure() {
            return Err(failure);
        }
        if now >= self.place_due {
            self.watch.state.check_in_place()?;
            self.place_due = now + crate::watch::fleet::PLACE_EVERY;
        }
        let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else {
            return Err(Error::Died);
        };
        if shared.snapshots.compare.swap(false, Ordering::Relaxed) {
            capture.compare_all();
        }
        let before = capture.last_tx();
        let published = capture.look(source)?;
        // Check before publishing the time up to which the log is complete.
        place::check(&shared.watched.place)?;
        let found = capture.last_tx() != before;
        // A look that could not read the wal-index changes nothing.
        if published.is_some() {
            let unsettled = !found && capture.is_unsettled(source)?;
            self.pace.looked(now, found, unsettled);
        }
        shared.note_progress(capture);
        self.take_requests(workers, &shared)?;
        let Some(Attached { source, capture, keeper, .. }) = self.watch.attached.as_deref_mut() else {
            return Err(Error::Died);
        };
        if !shared.snapshots.base_pending.load(Ordering::Acquire) {
            if let Some(published) = published {
                keeper.maintain(source, capture, published)?;
                shared.note_progress(capture);
            }
            self.requests(workers, &shared, now)?;
        }
        if shared.has_news() {
            workers.signal_news();
        }
        self.due = now + self.pace.pause(now, members);
        Ok(())
    }

    /// Takes the requests that arrived. What is to be archived is captured now; snapshots wait.
    fn take_requests(&mut self, workers: &Workers, shared: &Shared) -> Result<()> {
        while let Some((request, requester)) = self.control.poll() {
            let waiting = self.asked.len() + shared.snapshots.jobs.load(Ordering::Relaxed);
            match request {
                Request::Archive => {
                    let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else {
                        return Err(Error::Died);
                    };
                    // The commits to archive may be later than the last look.
                    if !look_again(capture, source, workers.clock())? {
                        requester.answer(Err("the database is busy; try again"));
                        continue;
                    }
                    place::check(&shared.watched.place)?;
                    shared.note_progress(capture);
                    shared.ship_for(requester);
                }
                _ if waiting >= JOBS_MAX => {
                    requester.answer(Err("too many snapshots are waiting; try again later"));
                }
                _ => self.asked.push_back((request, requester)),
            }
        }
        Ok(())
    }

    /// Starts snapshots that are requested, due, or needed.
    fn requests(&mut self, workers: &Workers, shared: &Arc<Shared>, now: Duration) -> Result<()> {
        let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else {
            return Ok(());
        };
        let mut base = |full| {
            capture.look(source)?;
            shared.base_here(source, capture, full)
        };
        let state = &shared.snapshots;
        match self.asked.pop_front() {
            Some((Request::FullSnapshot, requester)) => {
                let base = base(true)?;
                read_base(shared, workers, base, Some(requester));
                return Ok(());
            }
            Some((_, requester)) => {
                workers.submit(Job { shared: Arc::clone(shared), base: None, requester: Some(requester) });
            }
            None => {}
        }
        let base_due = state.base_due_ms.load(Ordering::Relaxed);
        if base_due > 0 && now.as_millis() >= u128::from(base_due) {
            state.base_due_ms.store(0, Ordering::Relaxed);
            let base = base(false)?;
            read_base(shared, workers, base, None);
            return Ok(());
        }
        if self.snapshot_due.is_some_and(|due| now >= due) && state.jobs.load(Ordering::Relaxed) == 0 {
            self.snapshot_due = workers.options().snapshot_every.map(|every| now + every);
            workers.submit(Job { shared: Arc::clone(shared), base: None, requester: None });
        }
        Ok(())
    }
}

fn read_base(shared: &Arc<Shared>, workers: &Workers, base: PendingBase, requester: Option<Requester>) {
    shared.snapshots.base_pending.store(true, Ordering::Release);
    workers.submit(Job { shared: Arc::clone(shared), base: Some(Box::new(base)), requester });
}
