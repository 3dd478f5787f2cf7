//! Sources that are read while transactions go on.

use crate::{BlockSource, BoxError, FileShape};
use pitr_format::{FileId, Lsn, Timestamp, TxId};
use pitr_tracker::ChangeSet;

/// The last commit that the blocks of a snapshot may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistentAt {
    /// End of the commit.
    pub lsn: Lsn,
    /// The transaction; [`TxId::NONE`] before the first one.
    pub tx: TxId,
    /// Time of the commit.
    pub time: Timestamp,
}

/// The files of a running engine. Their blocks are from different moments: the snapshot is *fuzzy*.
/// Two positions make it exact, because the log between them is replayed over the blocks.
pub trait FuzzySource: BlockSource {
    /// Everything committed up to here is in the blocks that are read. Noted before the first block
    /// is read. If a transaction that is open at the end logged records earlier, it is the position
    /// of the first of them.
    fn redo_from(&self) -> Lsn;

    /// Called after the last block was read. Nothing committed after the returned commit is in the
    /// blocks, and the log is durable up to it.
    ///
    /// # Errors
    /// Any error of the engine. The snapshot is then not published.
    fn consistent_at(&self) -> Result<ConsistentAt, BoxError>;

    /// The blocks that may differ from those of an earlier snapshot, whose `redo_from` is `since`:
    /// from a tracker, or from a list that the engine keeps. `None` if they are unknown; then all
    /// blocks are compared. The set must be complete: a difference outside it is lost.
    ///
    /// # Errors
    /// Any error of the engine.
    fn changes_since(&self, since: Lsn) -> Result<Option<ChangeSet>, BoxError> {
        let _ = since;
        Ok(None)
    }
}

/// A source that does not change while it is read: its state is that after one commit.
#[derive(Debug)]
pub struct Quiet<'a, S: ?Sized> {
    source: &'a S,
    at: ConsistentAt,
}

impl<'a, S: BlockSource + ?Sized> Quiet<'a, S> {
    /// The state after the commit `at`, which is durable.
    #[must_use]
    pub fn new(source: &'a S, at: ConsistentAt) -> Self {
        Quiet { source, at }
    }
}

impl<S: BlockSource + ?Sized> BlockSource for Quiet<'_, S> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        self.source.read_at(file, offset, buf)
    }

    fn changes(&self, file: FileId) -> Option<&ChangeSet> {
        self.source.changes(file)
    }
}

impl<S: BlockSource + ?Sized> FuzzySource for Quiet<'_, S> {
    fn redo_from(&self) -> Lsn {
        self.at.lsn
    }

    fn consistent_at(&self) -> Result<ConsistentAt, BoxError> {
        Ok(self.at)
    }
}
