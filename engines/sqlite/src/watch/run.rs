//! The life of a watch, from first contact to the drained stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pitr_archive::{Archive, ForkReason, Writer};
use pitr_format::record::GapReason;
use pitr_format::{Lsn, TxId};
use pitr_snapshot::Snapshot;

use super::attach::{Attached, Attaching};
use super::begin::{Fork, fork, open_log};
use super::binding::admit;
use super::control::Control;
use super::shared::{Log, Shared};
use super::snapshots::PendingBase;
use super::snapshots::newest_of;
use super::state::State;
use super::{ENGINE, Event, Events, Subject, Surroundings, WatchOptions, threads};
use crate::capture::SET_BACK_MICROS_MAX;
use crate::error::{Error, Result};

/// While no database stands under the name, look this often.
const ABSENT_EVERY: Duration = Duration::from_millis(200);
/// At first contact a database that is busy, or whose log restarts below us, is tried again for this long.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often.
const BUSY_EVERY: Duration = Duration::from_millis(20);
/// A clock that is behind the log by less is not worth a word, microseconds.
const CLOCK_BEHIND_MICROS_MIN: u64 = 1_000_000;
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

impl Summary {
    /// Adds what an attachment did, at its end.
    fn count(&mut self, attached: &Attached) {
        let totals = attached.capture.totals();
        self.commits += totals.commits;
        self.pages += totals.pages;
        self.write_lock.extend_from_slice(attached.keeper.write_lock_held());
    }
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
        mut subject: Subject,
        options: WatchOptions,
        events: Events,
    ) -> Result<Watch> {
        subject.follow_links()?;
        if !options.allow_hard_links {
            subject.place().refuse_hard_links()?;
        }
        let archive = Archive::new(around.objects.clone(), subject.source.clone());
        // Before the state folder is made: it would belong to a source that this database is not.
        let origin = admit(&around, &subject, options.adopt, &archive)?;
        let state = State::open(around.fs.clone(), &subject.state, around.repository, &subject.source)?;
        // A source that can't be watched must not cost an epoch or a timeline.
        drop(crate::source::Source::open(around.fs.as_ref(), &subject.database)?);
        let before = newest_of(&around.objects, &subject.source)?.map(|snapshot| snapshot.meta.engine);
        if let Some(engine) = before.filter(|engine| engine != ENGINE) {
            return Err(Error::OtherEngine { name: subject.source.to_string(), engine });
        }
        let writer = Writer::claim(&archive, around.clock.now())?;
        writer.state_origin(&origin)?;
        let log = open_log(&around, &state, &archive, &writer, &subject.database, &events)?;
        let shared = Shared::new(around, subject, options, events, archive, writer, log)?;
        shared.recall_mark()?;
        let mut watch = Watch { shared, state, attached: None, summary: Summary::default() };
        watch.catch_up_with_clock()?;
        watch.attach_patiently()?;
        Ok(watch)
    }

    /// A clock that was ahead and is right again must not keep anything from being protected (FAILURES 56): a log that is
    /// far ahead of it is left for a new timeline.
    fn catch_up_with_clock(&mut self) -> Result<()> {
        let until = self.shared.log.wal.last_time();
        match until.since(self.shared.around.clock.now()) {
            ..CLOCK_BEHIND_MICROS_MIN => {}
            CLOCK_BEHIND_MICROS_MIN..=SET_BACK_MICROS_MAX => {
                (self.shared.events)(Event::ClockBehind { until });
            }
            _ => self.fork_for_clock()?,
        }
        Ok(())
    }

    /// An application that writes while we come can be in the way of a look; that ends nothing.
    fn attach_patiently(&mut self) -> Result<()> {
        let (begun, mut broken) = (Instant::now(), None);
        loop {
            match self.attach(broken) {
                Err(e) if (e.is_break() || e.is_busy()) && begun.elapsed() <= BEGIN_PATIENCE => {
                    broken = if e.is_break() { Some(reason(&e)) } else { broken };
                    // Behind a break each try costs a segment of the log.
                    std::thread::sleep(BUSY_EVERY);
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
                Attaching::Attached(attached) => {
                    self.shared.captured(&attached.capture);
                    self.attached = Some(attached);
                    return Ok(());
                }
                Attaching::Forked(log) => {
                    // The new timeline begins with what the break led to.
                    broken = None;
                    self.shared.go_on_with(*log);
                }
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
                Err(Error::ClockSetBack { .. }) => {
                    self.fork_for_clock()?;
                    self.attach_patiently()?;
                }
                Err(e) => return Err(e),
            }
        }
        self.drain()?;
        Ok(self.summary.clone())
    }

    /// Takes one snapshot now and drains: what `backup` does when nobody watches. The snapshot is a base if one is
    /// due, or with `full`.
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

    /// Captures what is there, over a clock that was set back since the last look.
    fn look(&mut self) -> Result<()> {
        let Some(attached) = self.attached.as_mut() else { return Ok(()) };
        match attached.capture.look(&attached.source) {
            Err(Error::ClockSetBack { .. }) => {
                self.fork_for_clock()?;
                self.attach_patiently()
            }
            looked => {
                looked?;
                self.shared.captured(&attached.capture);
                Ok(())
            }
        }
    }

    /// The current attachment, until `stop` or an error.
    fn run_attached(&mut self, stop: &AtomicBool, control: &Control) -> Result<()> {
        let Some(attached) = self.attached.as_mut() else { return Err(Error::Died) };
        threads::run(&self.shared, attached, stop, control)
    }

    /// Connections and descriptors of the source close.
    fn detach(&mut self) {
        if let Some(attached) = self.attached.take() {
            self.summary.count(&attached);
        }
    }

    /// Attaches to what is at the given path now.
    fn attach_there(&mut self, reason: GapReason) -> Result<()> {
        self.shared.subject.follow_links()?;
        if !self.shared.options.allow_hard_links {
            self.shared.subject.place().refuse_hard_links()?;
        }
        self.attach(Some(reason))
    }

    /// The source is no longer the one that was watched.
    fn attach_again(&mut self, why: &Error, stop: &AtomicBool) -> Result<()> {
        // Connections and descriptors of the old source close before any of the new one open.
        self.detach();
        let reason = reason(why);
        let mut told = false;
        (self.shared.events)(Event::SourceGone(why.to_string()));
        while !stop.load(Ordering::Relaxed) {
            match self.attach_there(reason) {
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
                // Perhaps it is given its name by a link that is followed by an unlink.
                Err(e @ Error::HardLinked { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        (self.shared.events)(Event::SourceGone(e.to_string()));
                    }
                    std::thread::sleep(ABSENT_EVERY);
                }
                Err(e) if e.is_busy() => std::thread::sleep(ABSENT_EVERY),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn fork_for_clock(&mut self) -> Result<()> {
        self.detach();
        self.shared.ship(true)?;
        let parent = Some(self.shared.log.timeline);
        let (at, time) = (self.shared.log.wal.durable(), self.shared.log.wal.last_time());
        let reason = ForkReason::ClockSetBack;
        let from = Fork { parent, at, reason, root: None, time, gap: false };
        let log: Log = fork(&self.shared.around, &self.state, &self.shared.writer, &from)?;
        self.shared.carry_position_to(&log)?;
        (self.shared.events)(Event::Forked { timeline: log.timeline, reason });
        self.shared.go_on_with(log);
        Ok(())
    }

    /// Captures and ships what is there. If the database file then holds everything, that is noted too: as long as it
    /// is not written, whatever happens to its log until we come back is no gap.
    fn drain(&mut self) -> Result<()> {
        match self.look() {
            Err(e) if e.is_break() => {}
            other => other?,
        }
        if let Some(attached) = self.attached.as_mut() {
            // Asked to end before the watch had begun: without its base nothing behind a gap could ever be restored.
            if let Some(base) = attached.base.take() {
                self.shared.take_base(&base)?;
            }
            let Attached { source, capture, keeper, .. } = attached.as_mut();
            match capture.look(source) {
                Ok(_) => {
                    keeper.settle(source, capture)?;
                    self.shared.captured(capture);
                    self.shared.note_file(source, capture, SETTLE)?;
                }
                Err(e) if e.is_break() => {}
                Err(e) => return Err(e),
            }
            self.summary.last_tx = Some(capture.last_tx()).filter(|tx| *tx != TxId::NONE);
        }
        self.detach();
        self.summary.archived = self.shared.ship(true)?;
        Ok(())
    }
}

/// Why there is a gap behind a break.
fn reason(why: &Error) -> GapReason {
    match why {
        Error::Replaced { .. } | Error::LinkMoved { .. } => GapReason::SourceReplaced,
        _ => GapReason::LogRestarted,
    }
}
