//! Transactions that are not decided yet, and the rows of logical tables that they changed.
//!
//! A replay applies the records of rows by their LSN. That gives the state of the commits only if
//! no other transaction changes a row between a record of it and the commit (see
//! [`pitr_recovery::Redo`]).

use crate::error::{Error, Result};
use crate::store::TableId;
use pitr_format::{Lsn, TxId};
use std::collections::BTreeMap;

/// A transaction of this process.
pub(crate) type Owner = u64;

/// What transactions that are not decided yet hold.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    rows: BTreeMap<(TableId, u64), Owner>,
    /// Transactions that have records in the log: the number and the first LSN of each.
    logged: BTreeMap<Owner, (TxId, Lsn)>,
}

impl Locks {
    /// Locks a row. There is no waiting.
    pub(crate) fn take(&mut self, table: TableId, row: u64, owner: Owner) -> Result<()> {
        match *self.rows.entry((table, row)).or_insert(owner) == owner {
            true => Ok(()),
            false => Err(Error::RowLocked { table, row }),
        }
    }

    /// States that a transaction has records in the log, from `first` on.
    pub(crate) fn set_logged(&mut self, owner: Owner, tx: TxId, first: Lsn) {
        self.logged.entry(owner).or_insert((tx, first));
    }

    /// Number and first LSN of a transaction that has records in the log.
    pub(crate) fn logged(&self, owner: Owner) -> Option<(TxId, Lsn)> {
        self.logged.get(&owner).copied()
    }

    /// The first LSN of all transactions in the log that are not decided yet; `lsn` if it is lower.
    pub(crate) fn first_or(&self, lsn: Lsn) -> Lsn {
        self.logged.values().map(|(_, first)| *first).fold(lsn, Lsn::min)
    }

    /// Ends a transaction, and unlocks its rows.
    pub(crate) fn end(&mut self, owner: Owner, rows: impl Iterator<Item = (TableId, u64)>) {
        self.logged.remove(&owner);
        for row in rows {
            if self.rows.get(&row) == Some(&owner) {
                self.rows.remove(&row);
            }
        }
    }
}
