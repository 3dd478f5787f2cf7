//! Errors of a prune.

use pitr_archive::PointName;
use pitr_format::{SourceName, Timestamp};
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a prune did nothing, or did not finish.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's objects.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// The chunks.
    #[error(transparent)]
    Chunks(#[from] pitr_dedup::Error),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] pitr_snapshot::Error),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] pitr_archive::Error),
    /// The policy has no rule.
    #[error("no rule says what to keep")]
    NoRule,
    /// A period that must remain restorable is not restorable now.
    #[error("source {name} is not restorable since {since}: {what}")]
    NotRestorable {
        /// The source.
        name: SourceName,
        /// The start of the period.
        since: Timestamp,
        /// The missing state or object.
        what: &'static str,
    },
    /// The state of a recovery point is not restorable now. Nothing is pruned: its other objects
    /// are needed if a missing one comes back.
    #[error("point {point} of source {name} can't be restored any more")]
    PointLost {
        /// The source.
        name: SourceName,
        /// The point.
        point: PointName,
    },
    /// An object of a kept snapshot can't be read, so it is unknown which other objects the
    /// snapshot needs.
    #[error("snapshot {root} can't be read: {what}")]
    Unreadable {
        /// Path of the snapshot's root.
        root: String,
        /// The fault.
        what: String,
    },
    /// A pack that snapshots need is missing.
    #[error("{path} is missing, and snapshots need it; nothing was removed")]
    Lost {
        /// The pack.
        path: String,
    },
    /// Two listings contradict each other.
    #[error("listings of the repository contradict each other: {path} {what}")]
    Suspicious {
        /// The object.
        path: String,
        /// The contradiction.
        what: &'static str,
    },
    /// Another process prunes.
    #[error("another process prunes this repository (lease {lease})")]
    Locked {
        /// The lease of that process.
        lease: String,
    },
    /// An earlier run has condemned objects, and leases from before that have not ended.
    #[error("an earlier run is not finished: it waits for the leases {}", leases.join(", "))]
    Unfinished {
        /// The leases that the run waits for.
        leases: Vec<String>,
    },
}
