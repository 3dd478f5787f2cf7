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
///
/// Appending empties it and leaves it its memory, so that one builder serves a thread for ever.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    pub(crate) payloads: Vec<u8>,
    pub(crate) records: Vec<Pushed>,
    firsts: Firsts,
}

/// Index of each transaction's first record. Most builders hold one transaction: the map is asked only when
/// another one's turn comes.
#[derive(Debug, Default)]
struct Firsts {
    current: Option<(TxId, usize)>,
    others: HashMap<TxId, usize>,
}

impl Firsts {
    /// The first record of `tx`, which is `index` if it has none yet.
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

    fn clear(&mut self) {
        self.current = None;
        self.others.clear();
    }
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
    /// Where it stands, once it has its place.
    pub(crate) lsn: Lsn,
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

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.records.clear();
        self.firsts.clear();
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
        self.add(partition, tx, record, false, watermark)
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
        self.add(partition, tx, &Record::Commit(commit), first_lsn.is_none(), None)
    }

    fn add(
        &mut self,
        partition: PartitionId,
        tx: TxId,
        record: &Record<'_>,
        find_first: bool,
        watermark: Option<Timestamp>,
    ) -> Result<()> {
        let begin = self.payloads.len();
        record.encode(&mut self.payloads);
        let (kind, payload) = (record.kind(), begin..self.payloads.len());
        if let Err(source) = check(kind, &self.payloads[payload.clone()]) {
            self.payloads.truncate(begin);
            return Err(Error::Record { kind, source });
        }
        let first = self.firsts.of(tx, self.records.len());
        let first = find_first.then_some(first);
        self.records.push(Pushed { kind, partition, tx, payload, first, watermark, lsn: Lsn::ORIGIN });
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
