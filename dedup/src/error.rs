//! Errors of storing and reading chunks.

use crate::ChunkId;
use pitr_codec::CodecError;
use pitr_format::DecodeError;
use pitr_objects::ErrorKind;
use std::sync::Arc;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why chunks could not be stored or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository's objects.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// No index object lists the chunk.
    #[error("chunk {id} is in no pack of the repository's index")]
    Unknown {
        /// The chunk.
        id: ChunkId,
    },
    /// The stored bytes of a chunk can't be decoded.
    #[error("{pack}: chunk {id} is damaged: {source}")]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// Path of the pack that holds it.
        pack: String,
        /// The fault.
        source: CodecError,
    },
    /// The stored bytes decode into another chunk.
    #[error("{pack}: the content at the place of chunk {id} is not that chunk")]
    WrongContent {
        /// The chunk.
        id: ChunkId,
        /// Path of the pack that should hold it.
        pack: String,
    },
    /// An index object can't be decoded.
    #[error("{path}: {source}")]
    Index {
        /// The index object.
        path: String,
        /// The fault.
        source: DecodeError,
    },
    /// An object has the name of another one.
    #[error("{path}: the object has the name of another one")]
    Renamed {
        /// The path.
        path: String,
    },
    /// A chunk exceeds the limit.
    #[error("a chunk of {bytes} bytes, the limit is {most}")]
    TooLarge {
        /// Size of the chunk, bytes.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// A pack or an index object could not be encoded.
    #[error("chunks could not be packed: {0}")]
    Pack(#[source] CodecError),
    /// An encoded chunk did not decode into the same bytes. It was not stored.
    #[error("possible hardware fault: encoded chunk {id} failed verification and was not stored")]
    EncodedWrongly {
        /// The chunk.
        id: ChunkId,
    },
    /// The repository was not writable when its index was read, so no lease protects its chunks.
    #[error("the repository is not writable: no lease could be put")]
    NoLease,
    /// The table of all chunks could not be written.
    #[error("the index of chunks could not be written to the folder for temporary files: {0}")]
    Table(#[source] std::io::Error),
    /// The writer failed before and takes no more chunks.
    #[error("storing chunks failed before: {0}")]
    Failed(Arc<Error>),
    /// A thread could not be started.
    #[error("no thread for uploads could be started: {0}")]
    Thread(#[source] std::io::Error),
    /// A thread panicked.
    #[error("a thread that stores or reads chunks has died")]
    Died,
}

impl Error {
    /// The meaning of the error.
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
            Error::Pack(_)
            | Error::EncodedWrongly { .. }
            | Error::Table(_)
            | Error::Thread(_)
            | Error::Died => ErrorKind::Machine,
            Error::Failed(source) => source.kind(),
        }
    }
}
