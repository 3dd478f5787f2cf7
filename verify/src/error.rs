//! Errors of a verification.

use pitr_format::Severity;
use std::io;
use std::path::{Path, PathBuf};
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
    /// A restore.
    #[error(transparent)]
    Recovery(#[from] pitr_recovery::Error),
    /// A copy is larger than a rehearsal may make it. Nothing was written.
    #[error("the copy takes {needed} bytes, and the sandbox may take {max}")]
    SandboxTooSmall {
        /// Size of the copy, bytes.
        needed: u64,
        /// The maximum, bytes.
        max: u64,
    },
    /// The sandbox.
    #[error("{}: cannot {op}: {source}", path.display())]
    Io {
        /// What failed.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other processes add to the history of verifications all the time.
    #[error("the history of verifications is being written by other processes; try again")]
    Busy,
    /// A thread panicked.
    #[error("a thread of the verification has died")]
    Died,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}

/// `None` for a damaged object, which is reported as a fault. Returns other errors.
pub(crate) fn unless_damaged<T>(read: pitr_archive::Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.severity() == Severity::Fatal => Ok(None),
        Err(error) => Err(Error::Archive(error)),
    }
}
