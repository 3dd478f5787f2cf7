//! The report of a run: deleted and kept objects, and the reasons.

use crate::Reason;
use pitr_archive::{NamedPoint, PointName, PrunedRange};
use pitr_format::SourceName;
use pitr_snapshot::{Snapshot, SnapshotId};
use std::collections::BTreeSet;

/// What a run did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Kept and deleted objects of each source.
    pub sources: Vec<SourceReport>,
    /// The packs.
    pub packs: Packs,
    /// Bytes of all deleted objects; in a plan, of all objects that would be deleted.
    pub freed: u64,
    /// Bytes of objects that are condemned and not deleted yet.
    pub condemned: u64,
    /// The leases that must end before these are deleted.
    pub waiting: Vec<String>,
    /// Bytes of the whole repository before the run.
    pub stored: u64,
}

/// Kept and deleted objects of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// The source.
    pub name: SourceName,
    /// The kept snapshots.
    pub kept: Vec<KeptSnapshot>,
    /// The recovery points: their states stay restorable.
    pub points: Vec<KeptPoint>,
    /// The deleted snapshots.
    pub removed: Vec<Snapshot>,
    /// Deleted ranges of log.
    pub log: Vec<PrunedRange>,
    /// Number of deleted log objects.
    pub log_objects: u64,
    /// Bytes of these log objects.
    pub log_bytes: u64,
    /// Number of deleted log objects that were merged into others.
    pub merged_objects: u64,
    /// Bytes of these objects.
    pub merged_bytes: u64,
}

/// A kept snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The rules that keep the snapshot.
    pub reasons: BTreeSet<Reason>,
    /// The recovery points that need the snapshot.
    pub points: Vec<PointName>,
}

/// A recovery point, which keeps a snapshot and the log from that snapshot to the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPoint {
    /// The point.
    pub point: NamedPoint,
    /// The snapshot that a restore of the point uses; `None` if it uses the log from its origin.
    pub snapshot: Option<SnapshotId>,
    /// Bytes of log that are kept only because of this point.
    pub held_log_bytes: u64,
    /// Size that the snapshot added to the repository when it was taken, bytes, if it is kept only
    /// because of this point. Later snapshots may share a part of it.
    pub held_snapshot_bytes: Option<u64>,
}

/// Deleted and rewritten packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packs {
    /// Packs without a needed chunk.
    pub unneeded: u64,
    /// Bytes of these packs.
    pub unneeded_bytes: u64,
    /// Packs with much waste, whose needed chunks are copied.
    pub worn: u64,
    /// Bytes of these packs.
    pub worn_bytes: u64,
    /// Small packs, whose needed chunks are copied to common packs.
    pub small: u64,
    /// Bytes of these packs.
    pub small_bytes: u64,
    /// Bytes that are copied from both.
    pub repacked_bytes: u64,
    /// Unneeded bytes in kept packs.
    pub waste_left: u64,
}
