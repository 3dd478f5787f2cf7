//! What goes, what stays, and why.

use crate::Reason;
use pitr_archive::PrunedRange;
use pitr_format::SourceName;
use pitr_snapshot::Snapshot;
use std::collections::BTreeSet;

/// What a run does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// By source.
    pub sources: Vec<SourceReport>,
    /// The packs.
    pub packs: Packs,
    /// Bytes of all objects that were deleted, or, in a plan, would be.
    pub freed: u64,
    /// Bytes of objects that are condemned and not deleted yet.
    pub condemned: u64,
    /// The leases that must end before they are.
    pub waiting: Vec<String>,
    /// Bytes of the whole repository before.
    pub stored: u64,
}

/// What happens to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// The source.
    pub name: SourceName,
    /// The snapshots that stay.
    pub kept: Vec<KeptSnapshot>,
    /// The snapshots that go.
    pub removed: Vec<Snapshot>,
    /// Ranges of log that go.
    pub log: Vec<PrunedRange>,
    /// Log objects that go.
    pub log_objects: u64,
    /// Their bytes.
    pub log_bytes: u64,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why.
    pub reasons: BTreeSet<Reason>,
}

/// What happens to the packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packs {
    /// Of which nothing is needed.
    pub unneeded: u64,
    /// Their bytes.
    pub unneeded_bytes: u64,
    /// Worn ones, of which what is needed is stored anew.
    pub worn: u64,
    /// Their bytes.
    pub worn_bytes: u64,
    /// Small ones, which are many and stored anew together.
    pub small: u64,
    /// Their bytes.
    pub small_bytes: u64,
    /// Of worn and small ones, bytes that are stored anew.
    pub repacked_bytes: u64,
    /// Bytes in packs that stay of which nobody needs anything.
    pub waste_left: u64,
}
