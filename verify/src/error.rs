//! What keeps a repository from being verified.

use thiserror::Error;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verification could not come to its end. What is wrong with objects is no error: it stands in the report.
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
    /// A thread died.
    #[error("a thread of the verification has died")]
    Died,
}
