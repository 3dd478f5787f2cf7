//! One database of a fleet, and the thread that holds it.
//!
//! ```text
//!             begins                 a look fails: the source is not what it was
//! Waiting ------------> Away ------> Captured ------> Away (attach again) ----> Captured
//!    ^                   |               |                   |
//!    |                   v               v                   v  no database there yet
//!    +---------------- failed        Away (drain)         Detached ----> Away ...
//!                                        |
//!                                        v
//!                                      Over
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pitr_format::record::GapReason;
use pitr_format::{SourceName, Timestamp};

use super::super::attach::Attached;
use super::super::control::{Asker, Control, Request};
use super::super::run::{Watch, reason};
use super::super::shared::Shared;
use super::super::snapshots::PendingBase;
use super::super::{Event, Events, Subject, Summary};
use super::crew::{Crew, Job, Outcome, What};
use super::pace::Pace;
use super::wake::{Followed, Wake};
use crate::error::{Error, Result};

/// The first pause after a failure, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// While only the database is missing, or still being made, this is the longest pause.
const ABSENT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A database that was found in a folder is let go when it is missing for this long: two searches have seen it, and find
/// it again should it come back.
const MISSING_MAX: Duration = Duration::from_secs(2 * super::SEARCH_EVERY.as_secs() + 1);
/// While nothing is committed, it is noted this often until when.
const MARK_EVERY: Duration = Duration::from_millis(20);
/// With many databases the pause is this long for each.
const MARK_EACH: Duration = Duration::from_millis(20);
/// Snapshots of one database that may wait.
const JOBS_MAX: usize = 16;

/// What a member's step works with.
pub(super) struct Context<'a> {
    pub(super) crew: &'a Crew,
    pub(super) wake: &'a mut Wake,
    pub(super) number: usize,
}

/// One database.
pub(super) struct Member {
    subject: Subject,
    events: Events,
    /// It was found in a folder: when it is gone it is let go.
    found: bool,
    phase: Phase,
    /// What its earlier watches did.
    summary: Summary,
    /// What was said last about why nothing is captured.
    said: Option<String>,
    pause: Duration,
    /// A database that was found is missing since then.
    missing_since: Option<Duration>,
}

enum Phase {
    /// To be begun at this time of the monotonic clock.
    Waiting(Duration),
    /// There was a database, and is to be one again; tried at this time.
    Detached(Box<Watch>, GapReason, Duration),
    /// An attaching thread has it.
    Away,
    Captured(Box<Captured>),
    Over(Result<Summary>),
}

/// A member that the capturing thread has.
struct Captured {
    watch: Box<Watch>,
    control: Control,
    followed: Option<Followed>,
    pace: Pace,
    due: Duration,
    snapshot_due: Option<Duration>,
    /// When the watcher's folder is looked at next.
    place_due: Duration,
    /// When it is noted next until when nothing was committed.
    mark_due: Duration,
}

impl Member {
    /// A database that is to be watched as soon as it can be.
    pub(super) fn waiting(subject: Subject, events: Events, found: bool) -> Self {
        let (phase, summary) = (Phase::Waiting(Duration::ZERO), Summary::default());
        Member { subject, events, found, phase, summary, said: None, pause: PAUSE_FIRST, missing_since: None }
    }

    /// A database that is captured already.
    pub(super) fn begun(watch: Box<Watch>) -> Self {
        let (subject, events) = (watch.shared.subject.clone(), Arc::clone(&watch.shared.events));
        let phase = Phase::Detached(watch, GapReason::LogRestarted, Duration::ZERO);
        Member { phase, ..Member::waiting(subject, events, false) }
    }

    pub(super) fn database(&self) -> &Path {
        &self.subject.database
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// True if it ended so that the others must not go on as if all were protected.
    pub(super) fn ends_all(&self) -> bool {
        !self.found && matches!(self.phase, Phase::Over(Err(_)))
    }

    pub(super) fn outcome(self) -> (SourceName, Result<Summary>) {
        let outcome = match self.phase {
            Phase::Over(outcome) => outcome,
            _ => Err(Error::Died),
        };
        (self.subject.source, outcome)
    }

    /// When it has something to do; `None` while another thread has it.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting(due) | Phase::Detached(_, _, due) => Some(*due),
            Phase::Captured(captured) => Some(captured.due),
            Phase::Away | Phase::Over(_) => None,
        }
    }

    /// Its files changed.
    pub(super) fn touch(&mut self, now: Duration) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.pace.touch(now);
            captured.due = now;
        }
    }

    /// Something is requested of it.
    pub(super) fn asked(&mut self, now: Duration) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.due = now;
        }
    }

    /// Nothing came until `until`. Of a fleet of `members`.
    pub(super) fn vouch(&mut self, until: Timestamp, monotonic: Duration, members: usize) {
        if let Phase::Captured(captured) = &mut self.phase {
            captured.vouch(until, monotonic, members);
        }
    }

    /// Does what is due, of a fleet of `members`.
    pub(super) fn step(&mut self, context: &mut Context<'_>, members: usize) {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Waiting(_) => {
                let (subject, events) = (self.subject.clone(), Arc::clone(&self.events));
                context.crew.hand_out(context.number, What::Begin(subject, events));
            }
            Phase::Detached(watch, _, _) if watch.attached.is_some() => self.capture(watch, context),
            Phase::Detached(watch, why, _) => {
                if self.is_lost(context) {
                    context.crew.hand_out(context.number, What::Drain(watch));
                } else {
                    context.crew.hand_out(context.number, What::Attach(watch, why));
                }
            }
            Phase::Captured(mut captured) => match captured.round(context, members) {
                Ok(()) => self.phase = Phase::Captured(captured),
                Err(e) => self.broke(*captured, e, context),
            },
            other => self.phase = other,
        }
    }

    /// True if it was found in a folder and has been missing for so long that a search must have noticed.
    fn is_lost(&mut self, context: &Context<'_>) -> bool {
        if !self.found || self.database().exists() {
            self.missing_since = None;
            return false;
        }
        let now = context.crew.clock().monotonic();
        now.saturating_sub(*self.missing_since.get_or_insert(now)) >= MISSING_MAX
    }

    /// Takes a watch that is attached.
    fn capture(&mut self, watch: Box<Watch>, context: &mut Context<'_>) {
        match Captured::new(watch, context) {
            Ok(mut captured) => {
                self.pause = PAUSE_FIRST;
                self.said = None;
                (self.events)(Event::Watching);
                captured.begin(context.crew);
                self.phase = Phase::Captured(Box::new(captured));
            }
            Err((watch, source)) => {
                let path = super::super::state::control_path(watch.state.dir());
                self.abandon(watch, &Error::Open { path, source }, context);
            }
        }
    }

    /// A round ended with an error.
    fn broke(&mut self, captured: Captured, error: Error, context: &mut Context<'_>) {
        let watch = captured.release(context);
        if error.is_break() {
            let why = reason(&error);
            self.say(&error);
            context.crew.hand_out(context.number, What::Attach(watch, why));
        } else if matches!(error, Error::ClockSetBack { .. }) {
            context.crew.hand_out(context.number, What::Fork(watch));
        } else if error.is_final() {
            self.phase = Phase::Over(Err(error));
        } else {
            self.abandon(watch, &error, context);
        }
    }

    /// Closes everything; the watch begins again after a pause.
    fn abandon(&mut self, watch: Box<Watch>, error: &Error, context: &mut Context<'_>) {
        self.say(error);
        context.crew.hand_out(context.number, What::Abandon(watch));
    }

    fn say(&mut self, error: &Error) {
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            (self.events)(Event::Waiting(text.clone()));
            self.said = Some(text);
        }
    }

    /// When to try again.
    fn next_try(&mut self, max: Duration, context: &Context<'_>) -> Duration {
        let pause = self.pause.min(max);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        context.crew.clock().monotonic() + pause
    }

    /// An attaching thread is done with it.
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
                self.say(&e);
                let why = if e.is_break() { reason(&e) } else { GapReason::SourceReplaced };
                // Each try after a break costs a segment of the log.
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
        if self.is_lost(context) {
            (self.events)(Event::LetGo);
            self.phase = Phase::Over(Ok(std::mem::take(&mut self.summary)));
            return;
        }
        self.say(error);
        let max = if error.is_absent() { ABSENT_PAUSE_MAX } else { PAUSE_MAX };
        self.phase = Phase::Waiting(self.next_try(max, context));
    }

    fn finish(&mut self, outcome: Result<Summary>) {
        if self.found && !self.database().exists() {
            (self.events)(Event::LetGo);
        }
        let mut all = std::mem::take(&mut self.summary);
        self.phase = Phase::Over(outcome.map(|last| {
            all.add(&last);
            all
        }));
    }

    /// Captures what is there, before the end.
    pub(super) fn look_once_more(&mut self) {
        if let Phase::Captured(captured) = &mut self.phase
            && let Some(Attached { source, capture, .. }) = captured.watch.attached.as_deref_mut()
            && capture.look(source).is_ok()
        {
            // What went wrong the drain finds too.
            captured.watch.shared.captured(capture);
        }
    }

    /// Asks for the end; to be called until [`is_over`](Self::is_over).
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Captured(captured) => {
                let watch = captured.release(context);
                context.crew.hand_out(context.number, What::Drain(watch));
            }
            Phase::Detached(watch, ..) => context.crew.hand_out(context.number, What::Drain(watch)),
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
        let now = context.crew.clock().monotonic();
        // Without events, as when the machine has no watch left, the database is looked at often.
        let followed = context.wake.follow(context.number, &watch.shared.subject.database).ok();
        let pace = Pace::new(now, followed.is_some());
        let snapshot_due = context.crew.options().snapshot_every.map(|every| now + every);
        Ok(Captured { watch, control, followed, pace, due: now, snapshot_due, place_due: now, mark_due: now })
    }

    /// From here on the other threads work for it.
    fn begin(&mut self, crew: &Crew) {
        crew.activate(&self.watch.shared);
        if let Some(base) = self.watch.attached.as_mut().and_then(|attached| attached.base.take()) {
            read_base(&self.watch.shared, crew, base, None);
        }
    }

    /// Gives the watch back; nothing is begun for it any more.
    fn release(self, context: &mut Context<'_>) -> Box<Watch> {
        if let Some(followed) = self.followed {
            context.wake.unfollow(followed);
        }
        context.crew.deactivate(&self.watch.shared);
        self.watch
    }

    /// Notes that nothing came until `until`, if that can be relied on.
    fn vouch(&mut self, until: Timestamp, monotonic: Duration, members: usize) {
        let shared = &self.watch.shared;
        let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else { return };
        if !self.pace.vouches() {
            return;
        }
        let marks = monotonic >= self.mark_due;
        if marks && (source.check_in_place().is_err() || shared.subject.place().check().is_err()) {
            self.due = monotonic; // the next look says what is wrong
            return;
        }
        capture.vouch(until, monotonic, marks);
        if marks {
            shared.captured(capture);
            self.mark_due =
                monotonic + MARK_EVERY.max(MARK_EACH * u32::try_from(members).unwrap_or(u32::MAX));
        }
    }

    /// One look, and what follows from it.
    fn round(&mut self, context: &Context<'_>, members: usize) -> Result<()> {
        let crew = context.crew;
        let now = crew.clock().monotonic();
        let shared = Arc::clone(&self.watch.shared);
        if let Some(failure) = shared.take_failure() {
            return Err(failure);
        }
        if now >= self.place_due {
            self.watch.state.check_in_place()?;
            self.place_due = now + crate::watch::fleet::PLACE_EVERY;
        }
        let Some(Attached { source, capture, keeper, .. }) = self.watch.attached.as_deref_mut() else {
            return Err(Error::Died);
        };
        if shared.snapshots.compare.swap(false, Ordering::Relaxed) {
            capture.compare_all();
        }
        let before = capture.last_tx();
        let published = capture.look(source)?;
        // Before anybody is told until when the log is complete.
        shared.subject.place().check()?;
        let found = capture.last_tx() != before;
        // A look that could not see anything settles nothing.
        if published.is_some() {
            let unsettled = !found && capture.is_unsettled(source)?;
            self.pace.looked(now, found, unsettled);
        }
        shared.captured(capture);
        if !shared.snapshots.base_pending.load(Ordering::Acquire) {
            if let Some(published) = published {
                keeper.tend(source, capture, published)?;
                shared.captured(capture);
            }
            self.requests(crew, &shared, now)?;
        }
        if shared.has_news() {
            crew.tell_news();
        }
        self.due = now + self.pace.pause(now, crew.options().look_every, members);
        Ok(())
    }

    /// Snapshots that are asked for, due, or needed.
    fn requests(&mut self, crew: &Crew, shared: &Arc<Shared>, now: Duration) -> Result<()> {
        let Some(Attached { source, capture, .. }) = self.watch.attached.as_deref_mut() else {
            return Ok(());
        };
        let mut base = |full| {
            capture.look(source)?;
            shared.base_here(source, capture, full)
        };
        let state = &shared.snapshots;
        match self.control.poll() {
            None => {}
            Some((_, asker)) if state.jobs.load(Ordering::Relaxed) >= JOBS_MAX => {
                asker.answer(Err("too many snapshots wait already; try again later"));
            }
            Some((Request::Snapshot, asker)) => {
                crew.submit(Job { shared: Arc::clone(shared), base: None, asker: Some(asker) });
            }
            Some((Request::FullSnapshot, asker)) => {
                let base = base(true)?;
                read_base(shared, crew, base, Some(asker));
                return Ok(());
            }
        }
        let base_due = state.base_due_ms.load(Ordering::Relaxed);
        if base_due > 0 && now.as_millis() >= u128::from(base_due) {
            state.base_due_ms.store(0, Ordering::Relaxed);
            let base = base(false)?;
            read_base(shared, crew, base, None);
            return Ok(());
        }
        if self.snapshot_due.is_some_and(|due| now >= due) && state.jobs.load(Ordering::Relaxed) == 0 {
            self.snapshot_due = crew.options().snapshot_every.map(|every| now + every);
            crew.submit(Job { shared: Arc::clone(shared), base: None, asker: None });
        }
        Ok(())
    }
}

fn read_base(shared: &Arc<Shared>, crew: &Crew, base: PendingBase, asker: Option<Asker>) {
    shared.snapshots.base_pending.store(true, Ordering::Release);
    crew.submit(Job { shared: Arc::clone(shared), base: Some(Box::new(base)), asker });
}
