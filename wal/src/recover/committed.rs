//! Passes the records of committed transactions to the calling thread, in the order of the log.

use crate::read::LogScan;
use crate::{Error, Result};
use pitr_format::Lsn;
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_redo::{CommitSpan, LogicalRecord, Winners};

impl LogScan {
    /// Passes every image, set-length, data and note record of a committed transaction to `each`,
    /// in the order of the log. The transaction's commit must be in the range too. With the feature
    /// `parallel`, `replay` does the same with one thread for each partition.
    ///
    /// Reads the range twice, first for the commits. Holds 24 bytes for each commit.
    ///
    /// # Errors
    /// Errors of reading the log, and those of `each`.
    pub fn for_each_committed<E: From<Error>>(
        &self,
        each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each_committed_upto(Lsn::MAX, each)
    }

    /// As [`for_each_committed`](Self::for_each_committed), of the transactions whose commit is at
    /// or below `upto`: the replay up to a moment of the past.
    ///
    /// # Errors
    /// Errors of reading the log, and those of `each`.
    pub fn for_each_committed_upto<E: From<Error>>(
        &self,
        upto: Lsn,
        mut each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let winners = self.winners(upto)?;
        self.for_each(|record| match changes(record.kind) && winners.counts(record.tx, record.lsn) {
            true => each(record),
            false => Ok(()),
        })
    }

    /// Passes every logical record of a committed transaction to `each`, in the order of the log,
    /// as [`pitr_redo::Redo`] takes them. Otherwise as
    /// [`for_each_committed`](Self::for_each_committed).
    ///
    /// # Errors
    /// Errors of reading the log, and those of `each`.
    pub fn for_each_logical<E: From<Error>>(
        &self,
        mut each: impl FnMut(&LogicalRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let winners = self.winners(Lsn::MAX)?;
        self.for_each(|record| {
            let WholeRecord { lsn, kind, partition, tx, payload, .. } = *record;
            let span = winners.span_of(tx, lsn).filter(|_| kind == RecordKind::Data as u8);
            span.map_or(Ok(()), |span| {
                each(&LogicalRecord { lsn, commit: span.commit, tx, partition, payload })
            })
        })
    }

    /// The transactions of the range whose commit is at or below `upto`.
    fn winners(&self, upto: Lsn) -> Result<Winners> {
        let mut spans = Vec::new();
        self.for_each::<Error>(|record| {
            if record.kind == RecordKind::Commit as u8 && record.end <= upto {
                let decoded = Record::decode(record.kind, record.payload);
                let decoded = decoded.map_err(|source| Error::Payload { lsn: record.lsn, source })?;
                if let Record::Commit(commit) = decoded {
                    spans.push(CommitSpan { tx: record.tx, first: commit.first_lsn, commit: record.end });
                }
            }
            Ok(())
        })?;
        Ok(spans.into_iter().collect())
    }
}

/// True for the kinds that a replay applies.
pub(crate) fn changes(kind: u8) -> bool {
    matches!(
        RecordKind::from_u8(kind),
        Some(RecordKind::Image | RecordKind::SetLength | RecordKind::Data | RecordKind::Note)
    )
}
