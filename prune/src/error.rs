//! What keeps a repository from being pruned.

use pitr_format::{SourceName, Timestamp};
use thiserror::Error;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing was pruned, or not everything.
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
    /// The policy names nothing to keep.
    #[error("no rule says what to keep")]
    NoRule,
    /// What must remain restorable is not restorable now.
    #[error("source {name} is not restorable since {since}: {what}")]
    NotRestorable {
        /// The source.
        name: SourceName,
        /// The time given.
        since: Timestamp,
        /// What is missing.
        what: &'static str,
    },
    /// What a snapshot that stays needs can't be read, so that what it needs besides is not known.
    #[error("snapshot {root} can't be read: {what}")]
    Unreadable {
        /// Path of its root.
        root: String,
        /// What is wrong.
        what: String,
    },
    /// A pack that snapshots need is gone.
    #[error("{path} is not there, and snapshots need it; nothing was removed")]
    Lost {
        /// The pack.
        path: String,
    },
    /// Two listings contradict each other.
    #[error("the repository's listing is not to be believed: {path} {what}")]
    Suspicious {
        /// The object.
        path: String,
        /// How it contradicts.
        what: &'static str,
    },
    /// Another process prunes.
    #[error("another process prunes this repository (lease {lease})")]
    Locked {
        /// Its lease.
        lease: String,
    },
    /// An earlier run has condemned objects and waits for those who may rely on them.
    #[error("an earlier run is not finished: it waits for {}", leases.join(", "))]
    Unfinished {
        /// The leases that it waits for.
        leases: Vec<String>,
    },
}
