//! What can go wrong with snapshots.

use crate::SnapshotId;
use pitr_codec::CodecError;
use pitr_dedup::ChunkId;
use pitr_format::{DecodeError, FileId};
use pitr_objects::ErrorKind;
use thiserror::Error;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// An error of a source or a delta.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's objects.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// The repository's chunks.
    #[error(transparent)]
    Chunks(#[from] pitr_dedup::Error),
    /// The source could not be read.
    #[error("file {file} of the source can't be read at {offset}: {source}")]
    Source {
        /// The file.
        file: FileId,
        /// Where the reading began that failed, bytes.
        offset: u64,
        /// What the source said.
        source: BoxError,
    },
    /// The delta could not be read.
    #[error("the changed blocks can't be read: {0}")]
    Delta(#[source] BoxError),
    /// The delta breaks its promise.
    #[error("file {file}, block {block}: {what}")]
    Image {
        /// The file.
        file: FileId,
        /// The block.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A file that a snapshot can't hold.
    #[error("file {file}: {what}")]
    Shape {
        /// The file.
        file: FileId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The snapshot that this one builds on can't be relied on. A full snapshot without a parent can still be taken.
    #[error("snapshot {snapshot}, on which this one would build, is damaged: {source}")]
    Parent {
        /// The parent.
        snapshot: SnapshotId,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A root doesn't parse.
    #[error("{path}: {source}")]
    Root {
        /// The root object.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// The snapshot was listed, and its root is not there any more: retention took it away.
    #[error("snapshot {snapshot} was removed since it was listed")]
    Gone {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A root could not be made.
    #[error("the root of the snapshot could not be made: {0}")]
    Publish(#[source] CodecError),
    /// A leaf doesn't parse.
    #[error("leaf {id} of the snapshot: {source}")]
    Leaf {
        /// The leaf's chunk.
        id: ChunkId,
        /// What is wrong.
        source: DecodeError,
    },
    /// A chunk is sound and can't be what the tree uses it for.
    #[error("chunk {id} is not what the snapshot takes it for: {what}")]
    Misused {
        /// The chunk.
        id: ChunkId,
        /// What is wrong.
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
    /// A thread died while it held what others need.
    #[error("a thread died while it read the snapshot")]
    Died,
}

impl Error {
    /// What the error means.
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

    /// Says that the parent is to blame, for what it can be blamed for: that a store does not answer is no damage.
    pub(crate) fn parent(snapshot: SnapshotId) -> impl FnOnce(Error) -> Error {
        move |source| match source.kind() {
            ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Newer => {
                Error::Parent { snapshot, source: Box::new(source) }
            }
            _ => source,
        }
    }
}
