//! Commit coverage: which records became visible.

use pitr_format::{Lsn, TxId};
use std::ops::Bound;

/// True if a record that ends at `end` is part of the log up to `target`. Commits count by the end
/// of their record, which is their LSN.
#[inline]
#[must_use]
pub fn is_within(target: Bound<Lsn>, end: Lsn) -> bool {
    match target {
        Bound::Included(target) => end <= target,
        Bound::Excluded(target) => end < target,
        Bound::Unbounded => true,
    }
}

/// The part of the log in which records of a committed transaction count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSpan {
    /// The transaction.
    pub tx: TxId,
    /// LSN of the transaction's first record, as its commit states.
    pub first: Lsn,
    /// LSN of the commit: the end of the commit record.
    pub commit: Lsn,
}

impl CommitSpan {
    /// True if the commit makes the record of `tx` at `lsn` visible.
    #[inline]
    #[must_use]
    pub fn covers(&self, tx: TxId, lsn: Lsn) -> bool {
        self.tx == tx && self.first <= lsn && lsn < self.commit
    }
}

/// The committed transactions of a log. Tells their records from all others. Takes 24 bytes for
/// each commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Winners {
    /// Sorted by transaction, then by commit.
    spans: Vec<CommitSpan>,
}

impl Winners {
    /// True if the record of `tx` at `lsn` became visible.
    #[must_use]
    pub fn counts(&self, tx: TxId, lsn: Lsn) -> bool {
        self.span_of(tx, lsn).is_some()
    }

    /// The span of the first commit that covers the record of `tx` at `lsn`. Other records of `tx`
    /// in the span count too.
    #[must_use]
    pub fn span_of(&self, tx: TxId, lsn: Lsn) -> Option<CommitSpan> {
        let earlier = self.spans.partition_point(|span| (span.tx, span.commit) <= (tx, lsn));
        let own = self.spans.get(earlier..)?.iter().take_while(|span| span.tx == tx);
        own.copied().find(|span| span.covers(tx, lsn))
    }
}

impl FromIterator<CommitSpan> for Winners {
    fn from_iter<I: IntoIterator<Item = CommitSpan>>(spans: I) -> Self {
        let mut spans: Vec<CommitSpan> = spans.into_iter().collect();
        spans.sort_unstable_by_key(|span| (span.tx, span.commit, span.first));
        Winners { spans }
    }
}
