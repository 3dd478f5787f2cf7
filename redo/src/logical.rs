//! What an engine implements so that its logical records can be replayed.

use pitr_format::{Lsn, PartitionId, TxId};

/// An error of an engine.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A committed logical record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalRecord<'a> {
    /// Position of the record.
    pub lsn: Lsn,
    /// LSN of the commit that makes the record visible: the end of the commit record.
    pub commit: Lsn,
    /// The transaction.
    pub tx: TxId,
    /// The partition.
    pub partition: PartitionId,
    /// The bytes that the engine logged.
    pub payload: &'a [u8],
}

/// Applies committed logical records to an engine's files. A restore and the engine's own crash
/// recovery use the same implementation.
///
/// # What a replay promises
/// - **Only committed records** of transactions that committed at or before the target. Records of
///   aborted and unfinished transactions never arrive.
/// - **LSN order within a partition.** One value serves all workers, but each partition is in the
///   hands of one worker at a time. Records of different partitions come in any order, except
///   around a [barrier](Self::is_barrier).
/// - **The same calls for each partition**, in the same order, for any number of workers.
/// - **Only logical records.** Block images and set-lengths are in the files before the first call,
///   and never reach a `Redo`. A logical record reaches the files only through a `Redo`.
/// - **The first error ends the replay.** Nothing is published.
///
/// # What an engine promises
/// - **Locks.** A transaction locks what its record changes from the moment that it logs the record
///   until it commits or aborts. A replay goes by the LSN of records, not by the order of commits.
///   With such locks both give the same state. Without them, two open transactions that change the
///   same row are replayed in the wrong order.
/// - **Idempotent over a prefix.** A replay that was killed begins again, at or before the last
///   batch that it [ended](Self::end), over files that have some of its changes already. A fuzzy
///   snapshot has some of them too. An engine whose records are not idempotent by themselves notes
///   in each page what the page has. Records of open transactions interleave, so a single LSN can't
///   tell this during a replay: a page may have a record whose commit is at LSN 40, and still lack
///   an earlier record of its own range whose commit is at LSN 30. Note the commit up to which the
///   page has everything, and separately how far the replay came.
/// - **The same target.** A killed replay is continued only towards the target that it had. Towards
///   another target, other transactions count.
/// - **Not the mark.** If the restore target marks unfinished files, the first 4 KiB of each marked
///   file are in memory until the end. What a `Redo` writes there is overwritten.
pub trait Redo: Send + Sync {
    /// Everything that committed in this partition at or below the result is in the files.
    /// [`Lsn::ORIGIN`] if unknown. Called once for each partition, before its first record. Records
    /// of these commits are skipped.
    ///
    /// # Errors
    /// Errors of the engine.
    fn applied(&self, partition: PartitionId) -> Result<Lsn, BoxError> {
        let _ = partition;
        Ok(Lsn::ORIGIN)
    }

    /// True if all partitions must stop at this record, because it changes more than its own
    /// partition. All earlier records are then applied, and all their batches ended, before it. It
    /// is a batch of its own. Called for each record, so it must be quick.
    fn is_barrier(&self, record: &LogicalRecord<'_>) -> bool {
        let _ = record;
        false
    }

    /// Begins a batch of a partition.
    ///
    /// # Errors
    /// Errors of the engine.
    fn begin(&self, partition: PartitionId) -> Result<(), BoxError> {
        let _ = partition;
        Ok(())
    }

    /// Applies a record. Its partition has a batch.
    ///
    /// # Errors
    /// Errors of the engine. A record that it does not know is an error, never skipped.
    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), BoxError>;

    /// Ends the batch of a partition. All records of the partition that begin below `upto` are
    /// applied, so every commit at or below `upto` is complete in it. A replay that was begun again
    /// may have come further before: keep the higher position.
    ///
    /// # Errors
    /// Errors of the engine.
    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), BoxError> {
        let _ = (partition, upto);
        Ok(())
    }

    /// Called after the last batch, also if there was no record. Everything is written on return.
    /// In a restore, the restorer syncs all files of the output afterwards.
    ///
    /// # Errors
    /// Errors of the engine.
    fn finish(&self) -> Result<(), BoxError> {
        Ok(())
    }
}
