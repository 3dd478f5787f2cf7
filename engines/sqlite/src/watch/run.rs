//! The life of a watch, from the first access to the database until the watch is drained.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pitr_archive::{Archive, ForkReason};
use pitr_engine::{CaptureOptions, EngineContext, Event, Events, LiveSource, Summary};
use pitr_format::TxId;
use pitr_format::record::GapReason;
use pitr_snapshot::Snapshot;

use super::attach::{AttachOutcome, Attached};
use super::begin::{Fork, fork, open_log};
use super::binding::join;
use super::shared::{Log, Shared};
use super::snapshots::PendingBase;
use super::snapshots::newest_of;
use super::state::State;
use super::{ENGINE, Fleet};
use crate::capture::SET_BACK_MICROS_MAX;
use crate::error::{Error, Result};
use crate::place;

/// Retry limit of attaching to a database that is busy, or whose `-wal` file restarts during it.
const ATTACH_RETRY_MAX: Duration = Duration::from_secs(5);
/// Pause between these retries.
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Lag of the clock behind the log from which it is reported, microseconds.
const CLOCK_BEHIND_MICROS_MIN: u64 = 1_000_000;
/// Time after which a file is settled for a stamp (see `Source::file_stamp`).
const SETTLE: Duration = Duration::from_millis(150);

/// A watched database. It does nothing by itself: [`Watch::run`] or a [`Fleet`](super::Fleet)
/// drives it.
pub struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
    pub(super) attached: Option<Box<Attached>>,
    summary: Summary,
}

/// Adds the totals of an attachment that ends.
fn count(summary: &mut Summary, attached: &Attached) {
    let totals = attached.capture.totals();
    summary.commits += totals.commits;
    summary.pages += totals.pages;
    summary.write_lock.extend_from_slice(attached.keeper.write_lock_held());
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl Watch {
    /// Establishes capture. Every commit after the return is captured, provided that [`Watch::run`]
    /// or [`Watch::snapshot_once`] follows.
    pub fn begin(
        context: EngineContext,
        mut watched: LiveSource,
        options: CaptureOptions,
        events: Events,
    ) -> Result<Watch> {
        watched.place = place::resolve(&watched.place.given)?;
        // FAILURES 59: check before creating anything beside a file that is no database.
        pitr_vfs::check_regular(&watched.place.resolved)
            .map_err(|source| Error::Open { path: watched.place.resolved.clone(), source })?;
        if !options.allow_hard_links {
            place::refuse_hard_links(&watched.place)?;
        }
        let archive = Archive::new(context.objects.clone(), watched.source.clone());
        // Check before creating the state folder: the database may not be the named source.
        let (join, origin) = join(&context, &watched, options.adopt, &archive)?;
        let state =
            State::open(context.env().fs.clone(), &watched.state, context.repository, &watched.source)?;
        // A source that can't be watched must not cost an epoch or a timeline.
        drop(crate::source::Source::open(
            context.env().fs.as_ref(),
            Arc::clone(&context.env().clock),
            &watched.place.resolved,
        )?);
        state.restrict_mode_to(&watched.place.resolved)?;
        let before = newest_of(&context.objects, &watched.source)?.map(|snapshot| snapshot.meta.engine);
        if let Some(engine) = before.filter(|engine| engine != ENGINE) {
            return Err(Error::OtherEngine { name: watched.source.to_string(), engine });
        }
        let writer = join.claim(&archive, context.env().clock.now())?;
        writer.state_origin(&origin)?;
        let log = open_log(&context, &state, &archive, &writer, options, &watched.place.resolved, &events)?;
        let shared = Arc::new(Shared::new(context, watched, options, events, archive, writer, log)?);
        shared.log_alive_mark()?;
        let mut watch = Watch { shared, state, attached: None, summary: Summary::default() };
        watch.check_clock()?;
        watch.attach_with_retries()?;
        Ok(watch)
    }

    /// Handles a clock that was ahead and is right again (FAILURES 56): it must not prevent
    /// protection. If the log is far ahead of the clock, a new timeline begins.
    fn check_clock(&mut self) -> Result<()> {
        let until = self.shared.log.wal.last_time();
        match until.since(self.shared.clock().now()) {
            ..CLOCK_BEHIND_MICROS_MIN => {}
            CLOCK_BEHIND_MICROS_MIN..=SET_BACK_MICROS_MAX => {
                (self.shared.events)(Event::ClockBehind { until });
            }
            _ => self.fork_for_clock()?,
        }
        Ok(())
    }

    /// Attaches, with retries: an application that writes at the same time may disturb a look.
    pub(super) fn attach_with_retries(&mut self) -> Result<()> {
        let (begun, mut broken) = (self.shared.clock().monotonic(), None);
        loop {
            let attached = self.attach(broken);
            let clock = self.shared.clock();
            let may_retry = clock.monotonic().saturating_sub(begun) <= ATTACH_RETRY_MAX;
            match attached {
                Err(e) if (e.is_break() || e.is_busy()) && may_retry => {
                    broken = if e.is_break() { Some(reason(&e)) } else { broken };
                    // After a break, each attempt uses up a segment of the log.
                    clock.sleep(RETRY_EVERY);
                }
                Err(Error::ClockSetBack { .. }) => {
                    self.fork_for_clock()?;
                    broken = None;
                }
                other => return other,
            }
        }
    }

    fn attach(&mut self, mut broken: Option<GapReason>) -> Result<()> {
        loop {
            match self.shared.attach(&self.state, broken)? {
                AttachOutcome::Attached(attached) => {
                    self.shared.note_progress(&attached.capture);
                    self.attached = Some(attached);
                    return Ok(());
                }
                AttachOutcome::Forked(log) => {
                    // The new timeline begins with the content after the break.
                    broken = None;
                    self.shared = Arc::new(self.shared.with_log(*log)?);
                }
            }
        }
    }

    /// Watches until `stop`, then drains: on return everything committed before is archived.
    ///
    /// # Errors
    /// [`Error::Archive`] if another writer took over. Every other fault is reported as an
    /// [`Event`] and retried.
    pub fn run(self, stop: &AtomicBool) -> Result<Summary> {
        let (context, options) = (self.shared.context.clone(), self.shared.options);
        let mut fleet = Fleet::new(context, options)?;
        fleet.add(self);
        fleet.run(stop, None)?.pop().map_or(Err(Error::Died), |(_, outcome)| outcome)
    }

    /// Takes one snapshot now and drains: `backup` does this when no watcher runs. The snapshot is
    /// a base if one is due, or with `full`.
    pub fn snapshot_once(&mut self, full: bool) -> Result<Snapshot> {
        self.look()?;
        let attached = self.attached.as_mut().ok_or(Error::Died)?;
        let due = attached.base.take();
        let snapshot = match due {
            Some(base) => self.shared.take_base(&PendingBase { full, ..base })?,
            None if full => {
                let base = self.shared.base_here(&attached.source, &attached.capture, true)?;
                self.shared.take_base(&base)?
            }
            None => match self.shared.take_increment()? {
                Some(snapshot) => snapshot,
                None => {
                    let base = self.shared.base_here(&attached.source, &attached.capture, false)?;
                    self.shared.take_base(&base)?
                }
            },
        };
        self.drain()?;
        Ok(snapshot)
    }

    /// Captures the current state, even if the clock was set back since the last look.
    fn look(&mut self) -> Result<()> {
        let Some(attached) = self.attached.as_mut() else { return Ok(()) };
        match attached.capture.look(&attached.source) {
            Err(Error::ClockSetBack { .. }) => {
                self.fork_for_clock()?;
                self.attach_with_retries()
            }
            looked => {
                looked?;
                self.shared.note_progress(&attached.capture);
                Ok(())
            }
        }
    }

    /// Closes the connections and descriptors of the source. No other thread may use this watch any
    /// more.
    fn detach(&mut self) {
        if let Some(attached) = self.attached.take() {
            count(&mut self.summary, &attached);
        }
    }

    /// Attaches again after the source was replaced or changed, to the file at the given path now.
    pub(super) fn attach_again(&mut self, why: GapReason) -> Result<()> {
        // Connections and descriptors of the old source close before any of the new one open.
        self.detach();
        // No other thread uses it now: see `Workers::deactivate`.
        let shared = Arc::get_mut(&mut self.shared).ok_or(Error::Died)?;
        shared.watched.place = place::resolve(&shared.watched.place.given)?;
        if !shared.options.allow_hard_links {
            place::refuse_hard_links(&shared.watched.place)?;
        }
        self.attach(Some(why))
    }

    /// Continues on a new timeline after the clock was set back, detached from the source.
    pub(super) fn fork_for_clock(&mut self) -> Result<()> {
        self.detach();
        self.shared.ship(true)?;
        let parent = Some(self.shared.log.timeline);
        let (at, time) = (self.shared.log.wal.durable(), self.shared.log.wal.last_time());
        let reason = ForkReason::ClockSetBack;
        let options = self.shared.options;
        let from = Fork { parent, at, reason, root: None, time, gap: false };
        let log: Log = fork(&self.shared.context, &self.state, &self.shared.writer, &from, options)?;
        self.shared.carry_position_to(&log)?;
        (self.shared.events)(Event::Forked { timeline: log.timeline, reason });
        self.shared = Arc::new(self.shared.with_log(log)?);
        Ok(())
    }

    /// Totals of the watch so far.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        if let Some(attached) = &self.attached {
            count(&mut summary, attached);
        }
        summary
    }

    /// Captures and ships the current state. If the database file then holds everything, its stamp
    /// is noted: as long as the file is not written, no change of its `-wal` file before the next
    /// watch is a gap.
    ///
    /// # Errors
    /// Those of reading the database and of writing to the repository.
    pub fn drain(&mut self) -> Result<Summary> {
        match self.look() {
            Err(e) if e.is_break() => {}
            other => other?,
        }
        if let Some(attached) = self.attached.as_mut() {
            // Stopped before the watch began: without this base nothing after a gap could ever be
            // restored.
            if let Some(base) = attached.base.take() {
                self.shared.take_base(&base)?;
            }
            match settle(&self.shared, attached) {
                // The next watch finds the same fault, and begins with a gap.
                Err(e) if e.is_break() => {}
                other => other?,
            }
            self.summary.last_tx = Some(attached.capture.last_tx()).filter(|tx| *tx != TxId::NONE);
        }
        self.detach();
        self.summary.archived = self.shared.ship(true)?;
        self.shared.writer.close()?;
        Ok(self.summary.clone())
    }
}

/// Captures the current state, lets the `-wal` file restart, and notes the stamp of the database
/// file if the file holds everything.
fn settle(shared: &Shared, attached: &mut Attached) -> Result<()> {
    let Attached { source, capture, keeper, .. } = attached;
    capture.look(source)?;
    keeper.settle(source, capture)?;
    shared.note_progress(capture);
    shared.save_sample(capture);
    shared.note_file(source, capture, SETTLE)
}

/// The reason of the gap after a break.
pub(super) fn reason(why: &Error) -> GapReason {
    match why {
        Error::Replaced { .. } | Error::Overwritten { .. } | Error::LinkMoved { .. } => {
            GapReason::SourceReplaced
        }
        _ => GapReason::LogRestarted,
    }
}
