//! A builder for the records of one append.

use crate::{Error, Result};
use pitr_format::bytes::DecodeError;
use pitr_format::log::RECORD_BYTES_MAX;
use pitr_format::record::{Checkpoint, Commit, Record, RecordKind};
use pitr_format::{Lsn, PartitionId, Timestamp, TxId};
use std::collections::HashMap;
use std::ops::Range;

/// Records that are appended together, in this order. A builder may hold more than a batch or a
/// segment: the log divides it as needed and acknowledges it as one.
///
/// Appending empties the builder and keeps its memory, so one builder can serve a thread for its
/// lifetime.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    pub(crate) payloads: Vec<u8>,
    pub(crate) records: Vec<Pushed>,
    /// The highest first LSN that the engine passed, and its transaction.
    pub(crate) given_first: Option<(Lsn, TxId)>,
    firsts: Firsts,
}

/// Index of the first record of each transaction that is neither committed nor aborted yet. Most
/// builders hold one transaction: the map is used only when the transaction changes.
#[derive(Debug, Default)]
struct Firsts {
    current: Option<(TxId, usize)>,
    others: HashMap<TxId, usize>,
}

impl Firsts {
    /// Index of the first record of `tx`; `index` if the transaction is new.
    fn of(&mut self, tx: TxId, index: usize) -> usize {
        match self.current {
            Some((current, first)) if current == tx => first,
            current => {
                if let Some((other, first)) = current {
                    self.others.insert(other, first);
                }
                let first = self.others.get(&tx).copied().unwrap_or(index);
                self.current = Some((tx, first));
                first
            }
        }
    }

    /// Ends the transaction: later records under its number belong to a new one.
    fn forget(&mut self, tx: TxId) {
        self.current = self.current.filter(|(current, _)| *current != tx);
        self.others.remove(&tx);
    }

    fn clear(&mut self) {
        self.current = None;
        self.others.clear();
    }
}

/// The fields of a commit or an abort that the log fills in when it assigns the position.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Decides {
    /// Index of the transaction's first record in this builder; that of the commit or abort itself
    /// if there is none.
    pub(crate) first: usize,
    /// LSN of the transaction's first record, if the engine passed it. That record may be in an
    /// earlier batch.
    pub(crate) given_first: Option<Lsn>,
    /// True for a commit whose earliest time the engine does not know.
    pub(crate) stamps_earliest: bool,
}

/// A pushed record.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) kind: RecordKind,
    pub(crate) partition: PartitionId,
    pub(crate) tx: TxId,
    /// The record's payload in `payloads`.
    pub(crate) payload: Range<usize>,
    /// Set for a commit or an abort that the log completes. A commit or abort that was pushed as a
    /// record is already complete.
    pub(crate) decides: Option<Decides>,
    /// The time of a watermark.
    pub(crate) watermark: Option<Timestamp>,
    /// The record's position, once assigned.
    pub(crate) lsn: Lsn,
}

impl BatchBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        BatchBuilder::default()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if the builder has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Removes the records and keeps the memory.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.records.clear();
        self.given_first = None;
        self.firsts.clear();
    }

    /// Bytes of payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Adds a record. Use [`BatchBuilder::push_commit`] and [`BatchBuilder::push_abort`] for
    /// commits and aborts: this method keeps their `first_lsn` and earliest time as they are, and
    /// the log stamps only the commit time.
    ///
    /// # Errors
    /// [`Error::Record`] if the format does not allow the record, and for a checkpoint, which is
    /// appended by [`Wal::checkpoint`](crate::Wal::checkpoint). The builder is then unchanged.
    pub fn push(&mut self, partition: PartitionId, tx: TxId, record: &Record<'_>) -> Result<()> {
        let given_first = match record {
            Record::Commit(commit) => Some(commit.first_lsn),
            Record::Abort { first_lsn } => Some(*first_lsn),
            Record::Checkpoint(_) => {
                let source = DecodeError::Range { what: "record kind in a batch", value: 10 };
                return Err(Error::Record { kind: RecordKind::Checkpoint, source });
            }
            _ => None,
        };
        self.add(partition, tx, record)?;
        self.note_first(tx, given_first);
        Ok(())
    }

    /// Adds the commit of a transaction. The log stamps its time when it assigns the commit's
    /// position, never earlier than any earlier stamp.
    ///
    /// `earliest` is the earliest time at which the commit can have happened. An engine that knows
    /// it, for example because it read the clock when the commit was requested, passes it; the log
    /// lowers a value later than the stamp to the stamp. With `None` the log uses the latest commit
    /// or watermark time before this commit. A restore to a time from `earliest` up to the stamp is
    /// refused as uncertain, so a value that is too early makes times unreachable: the
    /// [guide](crate::guide) has more.
    ///
    /// `first_lsn` is the position of the transaction's first record. Pass it if that record was
    /// appended with an earlier builder ([`Appended::first`](crate::Appended::first)). With `None`
    /// the log uses the first record of `tx` in this builder, or the commit itself.
    ///
    /// # Errors
    /// [`Error::Record`] if the note is too long. The builder is then unchanged. Appending fails
    /// with [`Error::FirstAhead`] if `first_lsn` lies past the end of the log.
    pub fn push_commit(
        &mut self,
        partition: PartitionId,
        tx: TxId,
        earliest: Option<Timestamp>,
        first_lsn: Option<Lsn>,
        note: &[u8],
    ) -> Result<()> {
        let (time, known, first) = (Timestamp::MIN, earliest.unwrap_or(Timestamp::MIN), Lsn::ORIGIN);
        let commit = Commit { time, earliest: known, first_lsn: first, note };
        self.decide(partition, tx, &Record::Commit(commit), first_lsn, earliest.is_none())
    }

    /// Adds the abort of a transaction: none of its records count. `first_lsn` and errors are those
    /// of [`BatchBuilder::push_commit`].
    pub fn push_abort(&mut self, partition: PartitionId, tx: TxId, first_lsn: Option<Lsn>) -> Result<()> {
        self.decide(partition, tx, &Record::Abort { first_lsn: Lsn::ORIGIN }, first_lsn, false)
    }

    /// A builder with one checkpoint.
    pub(crate) fn of_checkpoint(redo_from: Lsn, state: &[u8]) -> Result<Self> {
        let mut builder = BatchBuilder::new();
        let checkpoint = Checkpoint { redo_from, before: Lsn::ORIGIN, state };
        builder.add(PartitionId::FIRST, TxId::NONE, &Record::Checkpoint(checkpoint))?;
        Ok(builder)
    }

    fn decide(
        &mut self,
        partition: PartitionId,
        tx: TxId,
        record: &Record<'_>,
        given_first: Option<Lsn>,
        stamps_earliest: bool,
    ) -> Result<()> {
        let first = self.add(partition, tx, record)?;
        if let Some(added) = self.records.last_mut() {
            added.decides = Some(Decides { first, given_first, stamps_earliest });
        }
        self.note_first(tx, given_first);
        Ok(())
    }

    fn note_first(&mut self, tx: TxId, given: Option<Lsn>) {
        let higher = given.filter(|lsn| self.given_first.is_none_or(|(highest, _)| highest < *lsn));
        self.given_first = higher.map(|lsn| (lsn, tx)).or(self.given_first);
    }

    /// Adds a record. Returns the index of the first record of its transaction.
    fn add(&mut self, partition: PartitionId, tx: TxId, record: &Record<'_>) -> Result<usize> {
        let begin = self.payloads.len();
        record.encode(&mut self.payloads);
        let (kind, payload) = (record.kind(), begin..self.payloads.len());
        if let Err(source) = check(kind, &self.payloads[payload.clone()]) {
            self.payloads.truncate(begin);
            return Err(Error::Record { kind, source });
        }
        let watermark = if let Record::Watermark(time) = record { Some(*time) } else { None };
        let first = self.firsts.of(tx, self.records.len());
        if matches!(kind, RecordKind::Commit | RecordKind::Abort) {
            self.firsts.forget(tx);
        }
        let (decides, lsn) = (None, Lsn::ORIGIN);
        self.records.push(Pushed { kind, partition, tx, payload, decides, watermark, lsn });
        Ok(first)
    }
}

/// Decodes the payload: a record that can't be decoded must not be logged.
fn check(kind: RecordKind, payload: &[u8]) -> std::result::Result<(), DecodeError> {
    if payload.len() > RECORD_BYTES_MAX as usize {
        return Err(DecodeError::Range { what: "record length", value: payload.len() as u64 });
    }
    Record::decode(kind as u8, payload).map(drop)
}
