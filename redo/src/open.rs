//! Transactions that are neither committed nor aborted.

use pitr_format::{Incarnation, Lsn, TxId};
use std::collections::BTreeMap;

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<T> {
    /// LSN of the transaction's first record that was seen.
    pub first: Lsn,
    /// State that the caller keeps for the transaction.
    pub state: T,
}

/// The open transactions at some position of a log, each with a state of the caller's choice.
#[derive(Debug, Clone)]
pub struct OpenTransactions<T> {
    open: BTreeMap<TxId, Open<T>>,
    /// Incarnation of the last record.
    incarnation: Option<Incarnation>,
    /// A transaction that is known to be open. Most records belong to the same transaction as the
    /// record before.
    current: Option<TxId>,
}

impl<T> Default for OpenTransactions<T> {
    fn default() -> Self {
        OpenTransactions { open: BTreeMap::new(), incarnation: None, current: None }
    }
}

/// Compares the open transactions, not the order in which they were found.
impl<T: PartialEq> PartialEq for OpenTransactions<T> {
    fn eq(&self, other: &Self) -> bool {
        let OpenTransactions { open, incarnation, current: _ } = self;
        *open == other.open && *incarnation == other.incarnation
    }
}

impl<T: Eq> Eq for OpenTransactions<T> {}

impl<T> OpenTransactions<T> {
    /// The transactions that are open after a record of this incarnation. For a pass that continues
    /// there.
    pub fn resume(incarnation: Option<Incarnation>, open: impl IntoIterator<Item = (TxId, Open<T>)>) -> Self {
        OpenTransactions { open: open.into_iter().collect(), incarnation, current: None }
    }

    /// Incarnation of the last record, if there was any.
    #[inline]
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// States the incarnation of the next record; true if it is a new one. The open transactions of
    /// the previous incarnation then end, because their writer died.
    #[inline]
    pub fn enter(&mut self, incarnation: Incarnation) -> bool {
        if self.incarnation == Some(incarnation) {
            return false;
        }
        let is_new = self.incarnation.replace(incarnation).is_some();
        self.open.clear();
        self.current = None;
        is_new
    }

    /// True if this transaction had the last record and is open. If false, it may still be open.
    #[inline]
    #[must_use]
    pub fn is_current(&self, tx: TxId) -> bool {
        self.current == Some(tx)
    }

    /// The transaction of the record at `lsn`, which opens it unless it is open. `new` makes its
    /// state.
    #[inline]
    pub fn record(&mut self, tx: TxId, lsn: Lsn, new: impl FnOnce() -> T) -> &mut T {
        self.current = Some(tx);
        &mut self.open.entry(tx).or_insert_with(|| Open { first: lsn, state: new() }).state
    }

    /// Ends a transaction by its commit or abort. Later records under its number belong to a new
    /// transaction.
    #[inline]
    pub fn end(&mut self, tx: TxId) -> Option<Open<T>> {
        self.current = None;
        self.open.remove(&tx)
    }

    /// The state of an open transaction.
    #[inline]
    pub fn get_mut(&mut self, tx: TxId) -> Option<&mut T> {
        self.open.get_mut(&tx).map(|open| &mut open.state)
    }

    /// True if the transaction is open.
    #[must_use]
    pub fn contains(&self, tx: TxId) -> bool {
        self.open.contains_key(&tx)
    }

    /// True if there is neither an open transaction nor a record outside of transactions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Joins the open transactions of the next part of the log, whose commits and aborts were all
    /// applied to this part before. `both` joins the states of a transaction that has records in
    /// both parts.
    pub fn join(&mut self, later: OpenTransactions<T>, mut both: impl FnMut(&mut T, T)) {
        self.current = None;
        for (tx, open) in later.open {
            match self.open.get_mut(&tx) {
                Some(own) => both(&mut own.state, open.state),
                None => drop(self.open.insert(tx, open)),
            }
        }
    }

    /// The open transactions by number. Records outside of transactions ([`TxId::NONE`]) do not
    /// count as one.
    pub fn iter(&self) -> impl Iterator<Item = (TxId, &Open<T>)> {
        self.open.iter().map(|(tx, open)| (*tx, open)).filter(|(tx, _)| *tx != TxId::NONE)
    }
}
