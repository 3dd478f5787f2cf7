//! Errors of folders.

use pitr_engine::{Explain, Explanation, Failure};
use pitr_format::DecodeError;
use pitr_vfs::is_denied;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a folder could not be snapshotted or restored.
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
    /// A file or folder.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// The operation.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The source is not a folder.
    #[error("{}: is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The source of this name belongs to another engine.
    #[error(
        "the source {name} holds snapshots of another kind ({engine}); give this one another name with --source"
    )]
    OtherEngine {
        /// The source.
        name: String,
        /// The engine of the source's snapshots.
        engine: String,
    },
    /// The source's snapshots show a folder at another path.
    #[error("{}: the source {name} holds snapshots of {}; if it is the same folder, moved, say so with --source {name}, or give it another name", path.display(), was.display())]
    OtherFolder {
        /// The source.
        name: String,
        /// Path of that folder.
        was: PathBuf,
        /// The given folder.
        path: PathBuf,
    },
    /// More files than a snapshot can hold.
    #[error(
        "the folder holds more than 300,000 files and folders, or their names and holes take more than 256 MiB; take its parts as sources of their own"
    )]
    TooMany,
    /// The listing of a folder is inconsistent.
    #[error("{}: what was listed makes no tree ({source}); if it was being changed try again when it is quiet", path.display())]
    Scanned {
        /// The folder.
        path: PathBuf,
        /// The fault of the listing.
        source: DecodeError,
    },
    /// The tree of a snapshot doesn't parse.
    #[error("the tree of snapshot {snapshot} can't be read: {source}")]
    Tree {
        /// The snapshot.
        snapshot: String,
        /// The fault of the tree.
        source: DecodeError,
    },
    /// A folder can be restored only to a snapshot, and this state has none.
    #[error("a folder is restored from a snapshot, and this state has no snapshot")]
    NoSnapshot,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.to_owned(), source }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation<'_> {
        match self {
            Error::Objects(e) => Explanation::Objects(e.kind()),
            Error::Chunks(e) => Explanation::Objects(e.kind()),
            Error::Snapshot(e) => Explanation::Snapshot(e),
            Error::Archive(e) => Explanation::Archive(e),
            Error::Tree { .. } => Explanation::of(Failure::Corrupt),
            Error::NotAFolder { .. } | Error::OtherEngine { .. } | Error::OtherFolder { .. } => {
                Explanation::of(Failure::Usage)
            }
            Error::Io { source, .. } if is_denied(source.kind()) => Explanation::advised(
                Failure::Denied,
                "run it as a user with read and write access, or choose another place",
            ),
            Error::Io { .. } => Explanation::advised(
                Failure::Other,
                "check that it exists, that you may read and write it, and that the disk is not full",
            ),
            Error::TooMany | Error::Scanned { .. } | Error::NoSnapshot => Explanation::of(Failure::Other),
        }
    }
}
