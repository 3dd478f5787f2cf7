//! Finds a commit by its time or its transaction, using the segments' indexes.
//!
//! Headers tell which segment covers a time. The index of a segment, in the header of its
//! successor, tells which of its stretches may contain the commit ([`pitr_format::index`]). Only
//! those are read and verified. The newest segment of the scan has no index on disk, so it is read
//! whole.

use super::log_scan::LogScan;
use super::reader::{LogBatch, LogReader};
use super::records::Records;
use crate::append::Committed;
use crate::segments::segment;
use crate::{Error, Result};
use pitr_format::index::{SegmentIndex, Stretch};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{Lsn, Timestamp, TxId};
use std::sync::Arc;

impl LogScan {
    /// The first commit of the range at or after `time`; `None` if there is none.
    pub fn first_commit_at(&self, time: Timestamp) -> Result<Option<Committed>> {
        // Every commit before a segment is at or before the time in its header.
        let later = self.pieces().partition_point(|piece| piece.header().time < time);
        let begin = later.saturating_sub(1);
        self.find(begin, |stretch| stretch.time >= time, |commit| commit.time >= time)
    }

    /// The first commit of this transaction in the range; `None` if there is none. Transaction
    /// numbers need not ascend.
    pub fn commit_of(&self, tx: TxId) -> Result<Option<Committed>> {
        self.find(0, |stretch| stretch.may_commit(tx), |commit| commit.tx == tx)
    }

    /// The first commit that is `wanted`, from segment `begin` of the range on, in stretches that
    /// `may` contain it.
    fn find(
        &self,
        begin: usize,
        may: impl Fn(&Stretch) -> bool,
        wanted: impl Fn(&Committed) -> bool,
    ) -> Result<Option<Committed>> {
        for piece in &self.pieces()[begin..] {
            let index = match &piece.next {
                Some(next) => {
                    segment::index_of(self.fs().as_ref(), self.dir(), piece.header(), next.segment)?
                }
                None => SegmentIndex::default(),
            };
            let mut stretches = index.stretches().iter().peekable();
            if stretches.peek().is_none() {
                let found = self.find_between(piece.place.at(), piece.reach.end, &wanted)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            while let Some(stretch) = stretches.next() {
                let at = |stretch: &Stretch| piece.place.position(stretch.offset);
                let end = stretches.peek().and_then(|next| at(next)).unwrap_or(piece.reach.end);
                let from = at(stretch).unwrap_or(end).max(piece.place.at());
                if from < end && may(stretch) {
                    let found = self.find_between(from, end, &wanted)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The first wanted commit whose record starts in a batch from `from` up to `end`.
    fn find_between(
        &self,
        from: Lsn,
        end: Lsn,
        wanted: &impl Fn(&Committed) -> bool,
    ) -> Result<Option<Committed>> {
        let mut reader = self.reader(from);
        let (mut records, mut found) = (Records::from_anywhere(), None);
        while found.is_none() && (reader.position() < end || records.open_since().is_some()) {
            let Some(batch) = reader.next_batch()? else { break };
            records.feed(&batch, |record| {
                let commit = commit_in(record, &batch)?;
                found = found.or(commit.filter(wanted));
                Ok::<(), Error>(())
            })?;
        }
        Ok(found)
    }

    fn reader(&self, from: Lsn) -> LogReader {
        LogReader::open(Arc::clone(self.fs()), self.dir(), from, self.until())
    }
}

/// The commit, if the record is one. `batch` contains its end.
fn commit_in(record: &WholeRecord<'_>, batch: &LogBatch) -> Result<Option<Committed>> {
    if record.kind != RecordKind::Commit as u8 {
        return Ok(None);
    }
    let (lsn, segment) = (batch.header.lsn, batch.segment);
    let decoded = Record::decode(record.kind, record.payload);
    let Record::Commit(commit) = decoded.map_err(|source| Error::Frames { lsn, segment, source })? else {
        return Ok(None);
    };
    Ok(Some(Committed { tx: record.tx, lsn: record.end, time: commit.time }))
}
