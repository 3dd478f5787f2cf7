//! Errors of the container.

use crate::ObjectKind;
use pitr_format::DecodeError;
use std::io;
use thiserror::Error;

/// An object or a frame could not be encoded or decoded.
///
/// Offsets count from the start of the object if the object is known, else from the start of the
/// frame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A fixed structure does not decode.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The object is intact but has another kind.
    #[error("the object is a {found}, not a {expected}")]
    Kind {
        /// The kind that was requested.
        expected: ObjectKind,
        /// The kind in the header.
        found: ObjectKind,
    },
    /// A codec, cipher or object kind that this program does not know.
    #[error("{what} {id} is unknown to this program; use a newer pitr")]
    Unknown {
        /// "codec", "cipher" or "object kind".
        what: &'static str,
        /// Number of the codec, cipher or kind.
        id: u8,
    },
    /// The parts are not contiguous, or do not add up to the object's length.
    #[error("inconsistent object layout: {what} at offset {offset}")]
    Layout {
        /// The part that is misplaced.
        what: &'static str,
        /// Offset that the object states for the part, bytes.
        offset: u64,
    },
    /// Header, footer and trailer were not written together.
    #[error("header and footer do not match the SHA-256 of the object")]
    ObjectDigest,
    /// The stored bytes of a frame do not match the digest in the footer.
    #[error("the frame at offset {offset} does not match its SHA-256")]
    FrameDigest {
        /// Where the frame begins, bytes.
        offset: u64,
    },
    /// The stored bytes of a frame do not decompress to the length in its header.
    #[error("the frame does not decompress to the {raw_len} bytes that its header states")]
    Inflate {
        /// Length that the header states, bytes.
        raw_len: u32,
        /// Error of the codec. `None` if the data decompressed to another length.
        source: Option<io::Error>,
    },
    /// The compressor failed.
    #[error("compression failed")]
    Deflate(#[source] io::Error),
    /// The encoded data decodes to other bytes: memory or processor are faulty.
    #[error("possible hardware fault: the encoded data failed verification")]
    VerificationFailed,
    /// The object is encrypted, and no keys were given.
    #[error("the {kind} is encrypted; give the repository's passphrase or key file")]
    NoKeys {
        /// Kind of the object.
        kind: ObjectKind,
    },
    /// The object is encrypted under a key that the key ring does not hold.
    #[error("the {kind} is encrypted under key {key}, which the repository's key ring does not hold")]
    NoSuchKey {
        /// Kind of the object.
        kind: ObjectKind,
        /// Number of the key.
        key: u32,
    },
    /// An unencrypted object in an encrypted repository. No holder of the key wrote it.
    #[error(
        "the {kind} is not encrypted, but the repository is: it was written without the repository's key"
    )]
    NotEncrypted {
        /// Kind of the object.
        kind: ObjectKind,
    },
    /// The frame was not encrypted at this place under this key.
    #[error("frame {frame} fails authentication: it was changed or moved")]
    NotAuthentic {
        /// Number of the frame in its object.
        frame: u32,
    },
    /// None of the given keys opens a slot.
    #[error("wrong passphrase or key: it opens none of the repository's {slots} key slots")]
    WrongKey {
        /// Number of slots that were tried.
        slots: usize,
    },
    /// Keys could not be generated, derived or wrapped.
    #[error("{what}")]
    Crypto {
        /// The operation that failed.
        what: &'static str,
    },
    /// A size exceeds the limit of the format.
    #[error("{what}: {bytes} bytes exceed the limit of {most}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Size, bytes. For a key ring, the number of keys.
        bytes: u64,
        /// The largest size allowed.
        most: u64,
    },
}

/// The cause of a [`CodecError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stored bytes are not the bytes that were written.
    Corrupt,
    /// A newer program wrote the bytes.
    Newer,
    /// The caller exceeded a limit of the format.
    Limit,
    /// This machine computed a wrong result, or could not compute the result.
    Machine,
    /// A key is missing or wrong.
    Key,
}

impl CodecError {
    /// The cause of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            CodecError::Malformed(DecodeError::Version { .. }) | CodecError::Unknown { .. } => {
                ErrorKind::Newer
            }
            CodecError::TooLarge { .. } => ErrorKind::Limit,
            CodecError::Deflate(_) | CodecError::VerificationFailed | CodecError::Crypto { .. } => {
                ErrorKind::Machine
            }
            CodecError::NoKeys { .. } | CodecError::NoSuchKey { .. } | CodecError::WrongKey { .. } => {
                ErrorKind::Key
            }
            _ => ErrorKind::Corrupt,
        }
    }
}
