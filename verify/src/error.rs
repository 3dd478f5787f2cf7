//! Errors of a verification.

use pitr_format::Severity;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verification could not finish. Faults of objects are no errors: they are in the report.
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
    /// A thread panicked.
    #[error("a thread of the verification has died")]
    Died,
}

/// `None` for a damaged object, which is reported as a fault. Returns other errors.
pub(crate) fn unless_damaged<T>(read: pitr_archive::Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.severity() == Severity::Fatal => Ok(None),
        Err(error) => Err(Error::Archive(error)),
    }
}
