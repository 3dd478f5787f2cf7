//! What an attachment reports about itself.

use pitr_format::{Lsn, Timestamp};

/// What is archived, and whether shipping works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachState {
    /// Everything below it is archived; `None` before the first shipment.
    pub archived: Option<Lsn>,
    /// Everything below it is durable in the local log.
    pub durable: Lsn,
    /// The failure of the last shipment; `None` if it worked.
    pub failure: Option<ShipFailure>,
    /// True if another writer took over. Nothing more is archived.
    pub is_fenced: bool,
}

impl AttachState {
    /// True if everything durable is archived.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.archived.is_some_and(|archived| archived >= self.durable)
    }
}

/// Shipments that fail.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShipFailure {
    /// The error of the last shipment.
    pub error: String,
    /// Time of the first failure since shipping worked.
    pub since: Timestamp,
    /// Number of failures since shipping worked.
    pub attempts: u64,
}
