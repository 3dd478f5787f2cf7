//! What can go wrong with chunks.

use crate::ChunkId;
use pitr_codec::CodecError;
use pitr_format::DecodeError;
use pitr_objects::ErrorKind;
use std::sync::Arc;
use thiserror::Error;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why chunks could not be stored or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's objects.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// No index knows the chunk.
    #[error("chunk {id} is in no pack that the repository's index knows")]
    Unknown {
        /// The chunk.
        id: ChunkId,
    },
    /// The stored bytes of a chunk don't decode.
    #[error("{pack}: chunk {id} is damaged: {source}")]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// Path of the pack that holds it.
        pack: String,
        /// What is wrong.
        source: CodecError,
    },
    /// The stored bytes decode into something else.
    #[error("{pack}: what stands in the place of chunk {id} is not that chunk")]
    WrongContent {
        /// The chunk.
        id: ChunkId,
        /// Path of the pack that should hold it.
        pack: String,
    },
    /// An index object doesn't parse.
    #[error("{path}: {source}")]
    Index {
        /// The index object.
        path: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// An object stands under the name of another.
    #[error("{path}: the object that stands there is another one")]
    Renamed {
        /// The path.
        path: String,
    },
    /// A chunk larger than a chunk may be.
    #[error("a chunk of {bytes} bytes, the most is {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest allowed.
        most: usize,
    },
    /// A pack or an index could not be made.
    #[error("chunks could not be packed: {0}")]
    Pack(#[source] CodecError),
    /// A chunk was encoded and did not decode into itself: it was not stored.
    #[error("chunk {id} does not decode into what was encoded: memory or processor cannot be trusted")]
    EncodedWrongly {
        /// The chunk.
        id: ChunkId,
    },
    /// The repository could not be written to when its index was read, so nothing keeps what is relied on.
    #[error("the repository can't be written to: no lease could be put")]
    NoLease,
    /// The table of all chunks could not be made.
    #[error("a table of the repository's chunks could not be made in the folder for temporary files: {0}")]
    Table(#[source] std::io::Error),
    /// The writer failed before: nothing more is taken.
    #[error("storing chunks failed before: {0}")]
    Failed(Arc<Error>),
    /// The thread that writes packs ended without a word.
    #[error("the thread that writes packs has died")]
    Died,
}

impl Error {
    /// What the error means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Objects(source) => source.kind(),
            Error::Index { source: DecodeError::Version { .. }, .. } => ErrorKind::Newer,
            Error::Unknown { .. } => ErrorKind::Missing,
            Error::Damaged { .. }
            | Error::WrongContent { .. }
            | Error::Index { .. }
            | Error::Renamed { .. } => ErrorKind::Corrupt,
            Error::TooLarge { .. } => ErrorKind::Limit,
            Error::NoLease => ErrorKind::Denied,
            Error::Pack(_) | Error::EncodedWrongly { .. } | Error::Table(_) | Error::Died => {
                ErrorKind::Machine
            }
            Error::Failed(source) => source.kind(),
        }
    }
}
