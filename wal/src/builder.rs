//! Records on their way into the log.

use crate::{Error, Result};
use pitr_format::bytes::DecodeError;
use pitr_format::log::RECORD_BYTES_MAX;
use pitr_format::record::{Commit, Kind, Record};
use pitr_format::{Lsn, PartitionId, Timestamp, TxId};
use std::collections::HashMap;
use std::ops::Range;

/// Records that are appended together, in this order. It may be larger than a batch or a segment: the log
/// cuts it up as needed and acknowledges it as one.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    pub(crate) payloads: Vec<u8>,
    pub(crate) records: Vec<Pushed>,
    firsts: HashMap<TxId, usize>,
}

/// One pushed record.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) kind: Kind,
    pub(crate) partition: PartitionId,
    pub(crate) tx: TxId,
    /// Where its payload stands in `payloads`.
    pub(crate) payload: Range<usize>,
    /// For a commit whose first LSN the log must find: index of the transaction's first record here.
    pub(crate) first: Option<usize>,
    /// For a watermark: its time.
    pub(crate) watermark: Option<Timestamp>,
}

impl BatchBuilder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        BatchBuilder::default()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Adds a record. A commit is better added by [`BatchBuilder::push_commit`]; here its `first_lsn` is kept
    /// and its time is stamped all the same. Refused if the format doesn't allow it ([`Error::Record`]); the
    /// builder is then as it was.
    pub fn push(&mut self, partition: PartitionId, tx: TxId, record: &Record<'_>) -> Result<()> {
        let watermark = if let Record::Watermark(time) = record { Some(*time) } else { None };
        self.add(partition, tx, record, None, watermark)
    }

    /// Adds the commit of a transaction. The log stamps its time when it gets its place, never earlier than
    /// any stamp before. `earliest` is the earliest time at which the commit can have happened, as the engine
    /// knows it; a later one than the stamp becomes the stamp. Without `first_lsn` the log uses the position
    /// of the first record of `tx` in this builder, the commit's own if there is none.
    pub fn push_commit(
        &mut self,
        partition: PartitionId,
        tx: TxId,
        earliest: Timestamp,
        first_lsn: Option<Lsn>,
        note: &[u8],
    ) -> Result<()> {
        let commit =
            Commit { time: Timestamp::MIN, earliest, first_lsn: first_lsn.unwrap_or(Lsn::ORIGIN), note };
        let index = self.records.len();
        let first = first_lsn.is_none().then(|| self.firsts.get(&tx).copied().unwrap_or(index));
        self.add(partition, tx, &Record::Commit(commit), first, None)
    }

    fn add(
        &mut self,
        partition: PartitionId,
        tx: TxId,
        record: &Record<'_>,
        first: Option<usize>,
        watermark: Option<Timestamp>,
    ) -> Result<()> {
        let begin = self.payloads.len();
        record.encode(&mut self.payloads);
        let (kind, payload) = (record.kind(), begin..self.payloads.len());
        if let Err(source) = check(kind, &self.payloads[payload.clone()]) {
            self.payloads.truncate(begin);
            return Err(Error::Record { kind, source });
        }
        self.firsts.entry(tx).or_insert(self.records.len());
        self.records.push(Pushed { kind, partition, tx, payload, first, watermark });
        Ok(())
    }
}

/// What is logged must be readable: the decoder has the last word.
fn check(kind: Kind, payload: &[u8]) -> std::result::Result<(), DecodeError> {
    if payload.len() > RECORD_BYTES_MAX as usize {
        return Err(DecodeError::Range { what: "record length", value: payload.len() as u64 });
    }
    Record::decode(kind as u8, payload).map(drop)
}
