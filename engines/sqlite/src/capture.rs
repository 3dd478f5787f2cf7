//! Turning commits in the database's log into transactions in ours.
//!
//! A [`Capture`] looks at the published end of the database's log every few milliseconds, reads the frames in
//! between, and appends each transaction as block images, a set-length when the database's length changed, and
//! a commit whose note is the [`Position`] behind it. Position and transaction are thus one record: what is in
//! our log and what is still to be read can't disagree after a crash.
//!
//! # Times
//! A commit is stamped when our log takes it. It happened after the look before the one that found it began:
//! that is its earliest time.

use std::sync::Arc;
use std::time::Duration;

use pitr_format::record::Record;
use pitr_format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr_vfs::Clock;
use pitr_wal::{BatchBuilder, Wal};

use crate::conn::Published;
use crate::decide::{Step, step};
use crate::error::{Error, Result};
use crate::position::Position;
use crate::source::Source;
use crate::wal::WalHeader;

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
    last_look: Timestamp,
    /// Everything that was captured so far.
    totals: Totals,
    /// End of our log behind the last transaction.
    news_end: Lsn,
    /// Wall clock and monotonic clock at the last look.
    clocks: (Timestamp, Duration),
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
    /// Goes on behind `position`, behind which no commit happened before `last_look`. The log holds the notes of this
    /// generation of the database's log from `keep_from` on.
    #[must_use]
    pub fn new(
        wal: Wal,
        clock: Arc<dyn Clock>,
        position: Position,
        keep_from: Lsn,
        last_look: Timestamp,
    ) -> Self {
        let clocks = (clock.now(), clock.monotonic());
        let news_end = wal.end();
        Capture { wal, clock, position, keep_from, last_look, totals: Totals::default(), news_end, clocks }
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
        self.last_look
    }

    /// Looks once, and appends what was committed since the last look. Nothing is durable yet. Returns what the
    /// wal-index published; `None` if it could not be read just now.
    pub fn look(&mut self, source: &Source) -> Result<Option<Published>> {
        let began = self.watch_clock()?;
        let Some(observed) = source.observe()? else { return Ok(None) };
        let salts = observed.header.map(|h| h.salts);
        let published = observed.published;
        match (step(&self.position, salts, published, source.may_restart()), observed.header) {
            (Step::Read, Some(header)) => self.read(source, header, published.frames)?,
            (Step::ReadNewGeneration, Some(header)) => {
                self.enter(header)?;
                self.read(source, header, published.frames)?;
            }
            (Step::Lost, _) => return Err(Error::LockLost),
            _ => {}
        }
        self.last_look = began.max(self.last_look);
        Ok(Some(published))
    }

    /// The time, after a step of the wall clock against the monotonic one has been logged.
    fn watch_clock(&mut self) -> Result<Timestamp> {
        let (now, ticks) = (self.clock.now(), self.clock.monotonic());
        let (wall, mono) = std::mem::replace(&mut self.clocks, (now, ticks));
        let elapsed = i64::try_from(ticks.saturating_sub(mono).as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(wall.micros().saturating_add(elapsed));
        if now.since(from).max(from.since(now)) >= CLOCK_STEP_MICROS {
            let mut batch = BatchBuilder::new();
            batch.push(PARTITION, TxId::NONE, &Record::ClockStep { from, to: now })?;
            self.wal.append(batch)?;
        }
        if self.last_look.since(now) > SET_BACK_MICROS_MAX {
            return Err(Error::ClockSetBack { from: self.last_look, to: now });
        }
        Ok(now)
    }

    fn enter(&mut self, header: WalHeader) -> Result<()> {
        if header.page_bytes != self.position.page_bytes {
            return Err(Error::LockLost); // WAL mode forbids to change the page size
        }
        let (salts, checksum) = (Some(header.salts), header.checksum);
        self.position = Position { salts, frame: 0, checksum, file: None, ..self.position };
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
        while frames.number() < published {
            let frame = frames.next(published)?;
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
