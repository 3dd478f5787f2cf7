//! Errors of snapshots.

use crate::SnapshotId;
use pitr_codec::CodecError;
use pitr_dedup::ChunkId;
use pitr_format::{DecodeError, FileId};
use pitr_objects::ErrorKind;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// An error of a source or a delta.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A snapshot could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the repository's objects.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// An error of the repository's chunks.
    #[error(transparent)]
    Chunks(#[from] pitr_dedup::Error),
    /// The source could not be read.
    #[error("file {file} of the source cannot be read at offset {offset}: {source}")]
    Source {
        /// The file.
        file: FileId,
        /// Offset at which the failed read began, bytes.
        offset: u64,
        /// The error of the source.
        source: BoxError,
    },
    /// The delta could not be read.
    #[error("the changed blocks cannot be read: {0}")]
    Delta(#[source] BoxError),
    /// The delta violates its contract.
    #[error("file {file}, block {block}: {what}")]
    Image {
        /// The file.
        file: FileId,
        /// The block.
        block: u64,
        /// The violation.
        what: &'static str,
    },
    /// The shape of a file is invalid.
    #[error("file {file}: {what}")]
    Shape {
        /// The file.
        file: FileId,
        /// The fault.
        what: &'static str,
    },
    /// The parent snapshot is damaged. A full snapshot without a parent is still possible.
    #[error("the parent snapshot {snapshot} is damaged: {source}")]
    Parent {
        /// The parent.
        snapshot: SnapshotId,
        /// The damage.
        source: Box<Error>,
    },
    /// A root cannot be decoded.
    #[error("{path}: {source}")]
    Root {
        /// The root object.
        path: String,
        /// The decoding error.
        source: DecodeError,
    },
    /// The snapshot was listed, but its root no longer exists: retention removed it.
    #[error("snapshot {snapshot} was removed after it was listed")]
    Gone {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A root could not be encoded.
    #[error("the root of the snapshot could not be encoded: {0}")]
    Publish(#[source] CodecError),
    /// A leaf cannot be decoded.
    #[error("leaf {id} of the snapshot: {source}")]
    Leaf {
        /// The leaf's chunk.
        id: ChunkId,
        /// The decoding error.
        source: DecodeError,
    },
    /// An intact chunk cannot be what the tree says that it is.
    #[error("chunk {id} does not fit its place in the snapshot: {what}")]
    Misused {
        /// The chunk.
        id: ChunkId,
        /// The contradiction.
        what: &'static str,
    },
    /// The snapshot has no such file.
    #[error("the snapshot has no file {file}")]
    NoFile {
        /// The file.
        file: FileId,
    },
    /// The file has no such extent.
    #[error("file {file} has no extent {extent}")]
    NoExtent {
        /// The file.
        file: FileId,
        /// The extent.
        extent: u64,
    },
    /// A thread panicked while it held a shared lock.
    #[error("a thread panicked while it read the snapshot")]
    Died,
}

impl Error {
    /// The cause of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Objects(source) => source.kind(),
            Error::Chunks(source) => source.kind(),
            Error::Parent { source, .. } => source.kind(),
            Error::Source { .. } | Error::Delta(_) => ErrorKind::Unreachable,
            Error::Root { source: DecodeError::Version { .. }, .. }
            | Error::Leaf { source: DecodeError::Version { .. }, .. } => ErrorKind::Newer,
            Error::Root { .. } | Error::Leaf { .. } | Error::Misused { .. } => ErrorKind::Corrupt,
            Error::Gone { .. } | Error::NoFile { .. } | Error::NoExtent { .. } => ErrorKind::Missing,
            Error::Image { .. } | Error::Shape { .. } | Error::Publish(_) => ErrorKind::Limit,
            Error::Died => ErrorKind::Machine,
        }
    }

    /// Reports an error as damage of the parent if the parent can be the cause. An unreachable
    /// store is not damage.
    pub(crate) fn parent(snapshot: SnapshotId) -> impl FnOnce(Error) -> Error {
        move |source| match source.kind() {
            ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Newer => {
                Error::Parent { snapshot, source: Box::new(source) }
            }
            _ => source,
        }
    }
}
