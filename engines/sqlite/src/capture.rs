//! Turns commits in the `-wal` file into transactions in the local log.
//!
//! A [`Capture`] looks at the published end of the `-wal` file every few milliseconds and reads the
//! new frames. It appends each transaction as block images, a set-length if the database's length
//! changed, and a commit. The note of the commit is the [`Position`] after it. Position and
//! transaction are one record, so after a crash the local log and the frames still to be read can't
//! disagree.
//!
//! # The database file
//! Each look then checks that the files at the database's path are still the open ones. If the
//! database file changed, the look compares a sample of its pages with what was captured
//! ([`crate::sample`]). Only then does it note its time. So the log never claims to be complete up
//! to a time at which the database may already have been replaced (FAILURES 48, 49).
//!
//! # Times
//! A commit's timestamp is the time at which the local log takes it. It happened after the start of
//! the look before the one that found it: that is its earliest time.

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
pub(crate) const DATABASE_FILE: FileId = FileId::FIRST;
const PARTITION: PartitionId = PartitionId::FIRST;
/// A batch is appended to the local log once it holds this many bytes of pages.
const BATCH_BYTES: usize = 1 << 20;
/// Difference to the monotonic clock, microseconds, from which the wall clock counts as set rather
/// than slewed.
const CLOCK_STEP_MICROS: u64 = 100_000;
/// A clock set back by more than this, microseconds, begins a new timeline: timestamps would repeat
/// for too long.
pub(crate) const SET_BACK_MICROS_MAX: u64 = 300_000_000;

/// Captures the commits of one watched database.
#[derive(Debug)]
pub struct Capture {
    wal: Wal,
    clock: Arc<dyn Clock>,
    position: Position,
    /// Capture needs the local log from here on: it holds the notes of this generation of the
    /// `-wal` file.
    keep_from: Lsn,
    /// No commit after `position` happened before this time.
    last_look: Timestamp,
    /// Start of the last look that found the files of the database still in place.
    complete_until: Timestamp,
    totals: Totals,
    /// End of the local log after the last transaction.
    news_end: Lsn,
    /// Wall clock and monotonic clock at the last look.
    clocks: (Timestamp, Duration),
    /// True once a look under the open read transaction has captured everything that it saw.
    joined: bool,
    /// Expected content of pages of the database file.
    sample: Arc<Mutex<PageSample>>,
    /// State of the database file and number of backfilled frames at the last comparison.
    file: Option<(FileState, Backfilled)>,
    /// Number of sample slots still to be compared.
    to_compare: usize,
}

/// Generation of the `-wal` file, and how many of its frames are backfilled.
type Backfilled = (Option<Salts>, u32);

/// Number of slots to compare when a checkpoint explains the change of the database file.
const SLOTS_AT_CHECKPOINT: usize = 32;
/// Maximum number of slots that one look compares.
const SLOTS_PER_LOOK: usize = 64;

/// The state in which a [`Capture`] begins.
#[derive(Debug)]
pub struct Begin {
    /// How far the `-wal` file is captured.
    pub position: Position,
    /// No commit after `position` happened before this time.
    pub last_look: Timestamp,
    /// True if nothing was committed between `position` and the start of the source's read
    /// transaction. If false, the first look finds out, or fails.
    pub joined: bool,
    /// The known content of pages of the database.
    pub sample: PageSample,
}

/// Numbers of captured transactions and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Transactions appended to the local log.
    pub commits: u64,
    /// Pages in these transactions.
    pub pages: u64,
}

impl Capture {
    /// Continues from a known position. `begin` describes the end of `wal`.
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

    /// The sample of pages, which the reader of a base extends.
    #[must_use]
    pub fn sample(&self) -> Arc<Mutex<PageSample>> {
        Arc::clone(&self.sample)
    }

    /// Makes the next looks compare the whole sample with the database file.
    pub fn compare_all(&mut self) {
        self.to_compare = SLOTS;
    }

    /// Start of the part of the local log that a resuming watch needs: the notes of this generation
    /// of the `-wal` file.
    #[must_use]
    pub fn keep_from(&self) -> Lsn {
        self.keep_from
    }

    /// Numbers of transactions and pages captured so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// End of the local log after the last transaction. Everything below it should be archived
    /// soon.
    #[must_use]
    pub fn news_end(&self) -> Lsn {
        self.news_end
    }

    /// How far the `-wal` file is captured.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The last captured transaction.
    #[must_use]
    pub fn last_tx(&self) -> TxId {
        self.position.tx
    }

    /// Everything committed before this time has been appended to the local log.
    #[must_use]
    pub fn complete_until(&self) -> Timestamp {
        self.complete_until
    }

    /// Records that nothing was committed between the last look and `until`, which the caller must
    /// have proved. Commits found later happened after `until`. With `in_place` the caller has also
    /// checked since then that the files of the database are in place, so everything before `until`
    /// is captured. Ignored if the clock was set since the last look.
    pub fn note_quiet(&mut self, until: Timestamp, monotonic: Duration, in_place: bool) {
        if self.clock_moved(until, monotonic).1 < CLOCK_STEP_MICROS {
            self.last_look = self.last_look.max(until);
            if in_place {
                self.complete_until = self.complete_until.max(until);
            }
        }
    }

    /// True if the `-wal` file holds unpublished frames after the current position, so that a
    /// commit may follow soon.
    ///
    /// # Errors
    /// [`Error::ReadLog`].
    pub fn is_unsettled(&self, source: &Source) -> Result<bool> {
        let Some(header) = source.log().header()? else { return Ok(false) };
        let next = if self.position.salts == Some(header.salts) { self.position.frame + 1 } else { 1 };
        Ok(source.log().stated_checksum(&header, next)?.is_some())
    }

    /// Looks once, and appends what was committed since the last look. Nothing is durable yet.
    /// Returns what the wal-index published, or `None` if it can't be read at the moment.
    ///
    /// # Errors
    /// Those that [`Error::is_break`] names if the source was replaced or changed outside its log;
    /// those of reading and appending.
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
        // If the `-wal` file restarted and was not written since, every captured frame was
        // backfilled.
        let restarted = salts != self.position.salts || published.frames < self.position.frame;
        let of_ours = if restarted { u32::MAX - 1 } else { published.backfilled };
        self.check_file(source, (salts, published.backfilled), of_ours)?;
        self.last_look = began.max(self.last_look);
        self.complete_until = began.max(self.complete_until);
        Ok(Some(published))
    }

    /// Checks that the database file still matches the log. `of_ours` frames of the position's
    /// generation are backfilled. Call it right after a look: see [`crate::sample`].
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

    /// Logs a step of the wall clock against the monotonic clock, and returns the time.
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

    /// The wall clock time that the monotonic clock predicts, and the deviation from it,
    /// microseconds.
    fn clock_moved(&self, now: Timestamp, ticks: Duration) -> (Timestamp, u64) {
        let (wall, mono) = self.clocks;
        let elapsed = i64::try_from(ticks.saturating_sub(mono).as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(wall.micros().saturating_add(elapsed));
        (from, now.since(from).max(from.since(now)))
    }

    fn enter_generation(&mut self, header: WalHeader) -> Result<()> {
        if header.page_bytes != self.position.page_bytes {
            return Err(Error::LockLost); // the page size can't change in WAL mode
        }
        let (salts, checksum) = (Some(header.salts), header.checksum);
        self.position = Position { salts, frame: 0, checksum, file: None, ..self.position };
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).enter_generation(salts);
        self.keep_from = self.wal.end();
        Ok(())
    }

    /// Appends the transactions after the current position up to frame `published`, which ends one.
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
                    // Earlier than necessary, but safe. Records of other transactions lie in
                    // between, but they carry other transaction numbers.
                    first_lsn = Some(appended.first);
                }
            }
        }
        if batch_bytes > 0 {
            self.wal.append(batch)?;
        }
        debug_assert!(!tx_in_batch, "the published frame must end a transaction");
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
