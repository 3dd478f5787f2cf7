//! Turning commits in the database's log into transactions in ours.
//!
//! A [`Capture`] looks at the published end of the database's log every few milliseconds, reads the frames in
//! between, and appends each transaction as block images, a set-length when the database's length changed, and
//! a commit whose note is the [`Position`] behind it. Position and transaction are thus one record: what is in
//! our log and what is still to be read can't disagree after a crash.
//!
//! # The database file
//! Each look then checks that the files of the database are still those that are open, and if the database file changed,
//! compares a sample of its pages with what was captured ([`crate::sample`]). Only then is the look's time noted: nothing
//! is said to be complete up to a time at which the database may already have been another one (FAILURES 48, 49).
//!
//! # Times
//! A commit is stamped when our log takes it. It happened after the look before the one that found it began:
//! that is its earliest time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr_vfs::Clock;
use pitr_wal::{BatchBuilder, Wal};

use crate::conn::Published;
use crate::decide::{Hold, Step, step};
use crate::error::{Error, Result};
use crate::position::Position;
use crate::sample::{PageSample, SLOTS};
use crate::source::{FileState, Source};
use crate::wal::{Salts, WalHeader};

/// The database's only file and partition.
pub const DATABASE_FILE: FileId = FileId::FIRST;
const PARTITION: PartitionId = PartitionId::FIRST;
/// A batch is handed to the log when it holds this many bytes of pages.
const BATCH_BYTES: usize = 1 << 20;
/// The wall clock was set, not slewed, if it moved by this much against the monotonic one, microseconds.
const CLOCK_STEP_MICROS: u64 = 100_000;
/// Set back further than this, the clock begins a new timeline, microseconds: stamps would stand still too long.
pub const SET_BACK_MICROS_MAX: u64 = 300_000_000;

/// The capturing side of a watched database.
#[derive(Debug)]
pub struct Capture {
    wal: Wal,
    clock: Arc<dyn Clock>,
    position: Position,
    /// Our log is needed from here on: for the notes of this generation of the database's log.
    keep_from: Lsn,
    /// No commit after `position` happened before.
    last_look: Timestamp,
    /// When the last look began, which also found the files of the database in place.
    complete_until: Timestamp,
    /// Everything that was captured so far.
    totals: Totals,
    /// End of our log behind the last transaction.
    news_end: Lsn,
    /// Wall clock and monotonic clock at the last look.
    clocks: (Timestamp, Duration),
    /// A look under the standing read transaction has captured everything that it saw.
    joined: bool,
    /// What the pages of the database file must hold.
    sample: Arc<Mutex<PageSample>>,
    /// The database file when it was compared last, and how much was backfilled.
    file: Option<(FileState, Backfilled)>,
    /// Slots of the sample that are still to be compared.
    to_compare: usize,
}

/// Generation of the database's log, and how many frames of it are backfilled.
type Backfilled = (Option<Salts>, u32);

/// Slots of the sample that are compared when the database file changed as a checkpoint changes it.
const SLOTS_AT_CHECKPOINT: usize = 32;
/// Most slots that one look compares.
const SLOTS_PER_LOOK: usize = 64;

/// Where a [`Capture`] begins.
#[derive(Debug)]
pub struct Begin {
    /// How far the database's log is captured.
    pub position: Position,
    /// No commit after `position` happened before this time.
    pub last_look: Timestamp,
    /// True if nothing was committed between `position` and the begin of the source's read transaction. Otherwise the
    /// first look finds out, or fails.
    pub joined: bool,
    /// What the database's pages are known to hold.
    pub sample: PageSample,
}

/// What was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Transactions appended to our log.
    pub commits: u64,
    /// Pages in them.
    pub pages: u64,
}

impl Capture {
    /// Goes on from a known position. What `wal` holds of the database's log begins with it.
    #[must_use]
    pub fn new(wal: Wal, clock: Arc<dyn Clock>, begin: Begin) -> Self {
        let Begin { position, last_look, joined, mut sample } = begin;
        sample.enter_generation(position.salts);
        let clocks = (clock.now(), clock.monotonic());
        let (keep_from, news_end) = (wal.first(), wal.end());
        Capture {
            wal,
            clock,
            position,
            keep_from,
            last_look,
            complete_until: last_look,
            totals: Totals::default(),
            news_end,
            clocks,
            joined,
            sample: Arc::new(Mutex::new(sample)),
            file: None,
            to_compare: 0,
        }
    }

    /// The sample of pages, to be filled further while a base is read.
    #[must_use]
    pub fn sample(&self) -> Arc<Mutex<PageSample>> {
        Arc::clone(&self.sample)
    }

    /// The whole sample is compared with the database file in the next looks.
    pub fn compare_all(&mut self) {
        self.to_compare = SLOTS;
    }

    /// Where our log begins that coming back needs: the notes of this generation of the database's log.
    #[must_use]
    pub fn keep_from(&self) -> Lsn {
        self.keep_from
    }

    /// Everything that was captured so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// End of our log behind the last transaction: what is to be archived soon.
    #[must_use]
    pub fn news_end(&self) -> Lsn {
        self.news_end
    }

    /// How far the database's log is captured.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The last transaction captured.
    #[must_use]
    pub fn last_tx(&self) -> TxId {
        self.position.tx
    }

    /// Everything that was committed before this time has been appended to our log.
    #[must_use]
    pub fn complete_until(&self) -> Timestamp {
        self.complete_until
    }

    /// Notes that nothing was committed between the last look and `until`, of which the caller is sure. Commits that are
    /// found later happened after that. With `in_place` the caller has checked since that the files of the database are
    /// in place, so that everything before is captured. Ignored if the clock was set since the last look.
    pub fn note_quiet(&mut self, until: Timestamp, monotonic: Duration, in_place: bool) {
        if self.clock_moved(until, monotonic).1 < CLOCK_STEP_MICROS {
            self.last_look = self.last_look.max(until);
            if in_place {
                self.complete_until = self.complete_until.max(until);
            }
        }
    }

    /// True if the log holds frames after our position that are not published: a commit may be about to be.
    ///
    /// # Errors
    /// [`Error::ReadLog`].
    pub fn is_unsettled(&self, source: &Source) -> Result<bool> {
        let Some(header) = source.log().header()? else { return Ok(false) };
        let next = if self.position.salts == Some(header.salts) { self.position.frame + 1 } else { 1 };
        Ok(source.log().stated_checksum(&header, next)?.is_some())
    }

    /// Looks once, and appends what was committed since the last look. Nothing is durable yet. Returns what the
    /// wal-index published; `None` if it could not be read just now.
    ///
    /// # Errors
    /// Those that [`Error::is_break`] names if the source is no longer what it was; those of reading and appending.
    pub fn look(&mut self, source: &Source) -> Result<Option<Published>> {
        let began = self.watch_clock()?;
        let Some(observed) = source.observe()? else { return Ok(None) };
        let salts = observed.header.map(|h| h.salts);
        let published = observed.published;
        let hold = match (self.joined, source.may_restart()) {
            (false, _) => Hold::NotJoined,
            (true, true) => Hold::MayRestart,
            (true, false) => Hold::Frames,
        };
        match (step(&self.position, salts, published, hold), observed.header) {
            (Step::Read, Some(header)) => self.read(source, header, published.frames)?,
            (Step::ReadNewGeneration, Some(header)) => {
                self.enter_generation(header)?;
                self.read(source, header, published.frames)?;
            }
            (Step::Lost, _) => return Err(Error::LockLost),
            _ => {}
        }
        self.joined = true;
        // A log that restarted, and has not been written since, had everything of ours backfilled.
        let restarted = salts != self.position.salts || published.frames < self.position.frame;
        let of_ours = if restarted { u32::MAX - 1 } else { published.backfilled };
        self.check_file(source, (salts, published.backfilled), of_ours)?;
        self.last_look = began.max(self.last_look);
        self.complete_until = began.max(self.complete_until);
        Ok(Some(published))
    }

    /// Checks that the database file is still the one that the log tells of, in which `of_ours` frames of the position's
    /// generation are backfilled. Comes right after a look: see [`crate::sample`].
    fn check_file(&mut self, source: &Source, backfilled: Backfilled, of_ours: u32) -> Result<()> {
        let now = (source.check_in_place()?, backfilled);
        let before = self.file.replace(now);
        let changed = before.is_none_or(|before| before.0 != now.0);
        let explained = before.is_some_and(|before| before.1 != now.1);
        if changed {
            self.to_compare = self.to_compare.max(if explained { SLOTS_AT_CHECKPOINT } else { SLOTS });
        }
        // The first look compares everything before capture counts as established.
        let most = if before.is_none() { SLOTS } else { SLOTS_PER_LOOK };
        let slots = self.to_compare.min(most);
        if slots == 0 {
            return Ok(());
        }
        self.to_compare -= slots;
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        sample.compare(source.path(), source.file().as_ref(), self.position.page_bytes, of_ours, slots)
    }

    /// The time, after a step of the wall clock against the monotonic one has been logged.
    fn watch_clock(&mut self) -> Result<Timestamp> {
        let (now, ticks) = (self.clock.now(), self.clock.monotonic());
        let (from, moved) = self.clock_moved(now, ticks);
        self.clocks = (now, ticks);
        if moved >= CLOCK_STEP_MICROS {
            let mut batch = BatchBuilder::new();
            batch.push(PARTITION, TxId::NONE, &Record::ClockStep { from, to: now })?;
            self.wal.append(batch)?;
        }
        if self.last_look.since(now) > SET_BACK_MICROS_MAX {
            return Err(Error::ClockSetBack { from: self.last_look, to: now });
        }
        Ok(now)
    }

    /// What the wall clock should show by the monotonic one, and by how much it differs, microseconds.
    fn clock_moved(&self, now: Timestamp, ticks: Duration) -> (Timestamp, u64) {
        let (wall, mono) = self.clocks;
        let elapsed = i64::try_from(ticks.saturating_sub(mono).as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(wall.micros().saturating_add(elapsed));
        (from, now.since(from).max(from.since(now)))
    }

    fn enter_generation(&mut self, header: WalHeader) -> Result<()> {
        if header.page_bytes != self.position.page_bytes {
            return Err(Error::LockLost); // WAL mode forbids to change the page size
        }
        let (salts, checksum) = (Some(header.salts), header.checksum);
        self.position = Position { salts, frame: 0, checksum, file: None, ..self.position };
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).enter_generation(salts);
        self.keep_from = self.wal.end();
        Ok(())
    }

    /// Appends the transactions behind our position up to frame `published`, which ends one.
    fn read(&mut self, source: &Source, header: WalHeader, published: u32) -> Result<()> {
        let mut frames = source.log().frames(header, self.position.frame, self.position.checksum);
        let mut totals = self.totals;
        let mut batch = BatchBuilder::new();
        let mut batch_bytes = 0;
        let mut tx = next_tx(self.position.tx)?;
        let mut first_lsn: Option<Lsn> = None;
        let mut tx_in_batch = false;
        let mut reached = Position { file: None, ..self.position };
        let sample = Arc::clone(&self.sample);
        let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        while frames.number() < published {
            let number = frames.number() + 1;
            let frame = frames.next(published)?;
            sample.captured(frame.page, number, frame.data);
            let (block, commit_pages) = (u64::from(frame.page - 1), frame.commit_pages);
            batch.push(PARTITION, tx, &Record::Image { file: DATABASE_FILE, block, data: frame.data })?;
            batch_bytes += frame.data.len();
            tx_in_batch = true;
            totals.pages += 1;
            if commit_pages != 0 {
                let pages_before = reached.pages;
                reached.frame = frames.number();
                reached.checksum = frames.checksum();
                reached.pages = commit_pages;
                if commit_pages != pages_before {
                    let len = reached.database_bytes();
                    batch.push(PARTITION, tx, &Record::SetLength { file: DATABASE_FILE, len })?;
                    sample.resize(commit_pages);
                }
                reached.tx = tx;
                batch.push_commit(
                    PARTITION,
                    tx,
                    Some(self.last_look),
                    first_lsn.take(),
                    &reached.encode(),
                )?;
                totals.commits += 1;
                tx = next_tx(tx)?;
                tx_in_batch = false;
            }
            if batch_bytes >= BATCH_BYTES {
                let appended = self.wal.append(std::mem::take(&mut batch))?;
                self.position = reached;
                batch_bytes = 0;
                if tx_in_batch && first_lsn.is_none() {
                    // Early rather than exact: records of other transactions in between bear other numbers.
                    first_lsn = Some(appended.first);
                }
            }
        }
        if batch_bytes > 0 {
            self.wal.append(batch)?;
        }
        debug_assert!(!tx_in_batch, "the published frame ends a transaction");
        self.position = reached;
        self.totals = totals;
        self.news_end = self.wal.end();
        Ok(())
    }
}

fn next_tx(after: TxId) -> Result<TxId> {
    let exhausted = pitr_format::DecodeError::Range { what: "transaction number", value: u64::MAX };
    after.next().ok_or(Error::State { what: "the last transaction", source: exhausted })
}
