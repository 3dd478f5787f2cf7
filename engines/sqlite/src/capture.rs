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

/// The capturing side of a watched database.
#[derive(Debug)]
pub struct Capture {
    wal: Arc<Wal>,
    clock: Arc<dyn Clock>,
    position: Position,
    last_tx: TxId,
    last_look: Timestamp,
}

/// What a look did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// Transactions appended to our log.
    pub commits: u64,
    /// Pages in them.
    pub pages: u64,
    /// What the wal-index published; `None` if it could not be read.
    pub published: Option<Published>,
}

impl Capture {
    /// Goes on behind `position`; `last_tx` is the last transaction number given out, and no commit behind the
    /// position happened before `last_look`.
    #[must_use]
    pub fn new(
        wal: Arc<Wal>,
        clock: Arc<dyn Clock>,
        position: Position,
        last_tx: TxId,
        last_look: Timestamp,
    ) -> Self {
        Capture { wal, clock, position, last_tx, last_look }
    }

    /// How far the database's log is captured.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The last transaction captured.
    #[must_use]
    pub fn last_tx(&self) -> TxId {
        self.last_tx
    }

    /// Everything that was committed before this time has been appended to our log.
    #[must_use]
    pub fn complete_until(&self) -> Timestamp {
        self.last_look
    }

    /// Looks once, and appends what was committed since the last look. Nothing is durable yet.
    pub fn look(&mut self, source: &Source) -> Result<Looked> {
        let began = self.clock.now();
        let Some(observed) = source.observe()? else { return Ok(Looked::default()) };
        let salts = observed.header.map(|h| h.salts);
        let published = observed.published;
        let looked = match (step(&self.position, salts, published, source.may_restart()), observed.header) {
            (Step::Read, Some(header)) => self.read(source, header, published.frames)?,
            (Step::ReadNewGeneration, Some(header)) => {
                self.enter(header)?;
                self.read(source, header, published.frames)?
            }
            (Step::Lost, _) => return Err(Error::LockLost),
            _ => Looked::default(),
        };
        self.last_look = began.max(self.last_look);
        Ok(Looked { published: Some(published), ..looked })
    }

    fn enter(&mut self, header: WalHeader) -> Result<()> {
        if header.page_bytes != self.position.page_bytes {
            return Err(Error::LockLost); // WAL mode forbids to change the page size
        }
        let Position { page_bytes, pages, .. } = self.position;
        let (salts, checksum) = (Some(header.salts), header.checksum);
        self.position = Position { salts, frame: 0, checksum, page_bytes, pages, file: None };
        Ok(())
    }

    /// Appends the transactions behind our position up to frame `published`, which ends one.
    fn read(&mut self, source: &Source, header: WalHeader, published: u32) -> Result<Looked> {
        let mut frames = source.log().frames(header, self.position.frame, self.position.checksum);
        let mut looked = Looked::default();
        let mut batch = BatchBuilder::new();
        let mut batch_bytes = 0;
        let mut tx = self.next_tx()?;
        let mut first_lsn: Option<Lsn> = None;
        let mut tx_in_batch = false;
        let mut reached = Position { file: None, ..self.position };
        while frames.number() < published {
            let frame = frames.next(published)?;
            let (block, commit_pages) = (u64::from(frame.page - 1), frame.commit_pages);
            batch.push(PARTITION, tx, &Record::Image { file: DATABASE_FILE, block, data: frame.data })?;
            batch_bytes += frame.data.len();
            tx_in_batch = true;
            looked.pages += 1;
            if commit_pages != 0 {
                let pages_before = reached.pages;
                reached.frame = frames.number();
                reached.checksum = frames.checksum();
                reached.pages = commit_pages;
                if commit_pages != pages_before {
                    let len = reached.database_bytes();
                    batch.push(PARTITION, tx, &Record::SetLength { file: DATABASE_FILE, len })?;
                }
                batch.push_commit(PARTITION, tx, self.last_look, first_lsn.take(), &reached.encode())?;
                looked.commits += 1;
                self.last_tx = tx;
                tx = self.next_tx()?;
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
        Ok(looked)
    }

    fn next_tx(&self) -> Result<TxId> {
        let exhausted = pitr_format::DecodeError::Range { what: "transaction number", value: u64::MAX };
        self.last_tx.next().ok_or(Error::State { what: "the last transaction", source: exhausted })
    }
}
