//! What can be wrong with a container.

use crate::ObjectKind;
use pitr_format::DecodeError;
use std::io;
use thiserror::Error;

/// Why an object or a frame could not be made or read. Offsets count from the begin of the object where the
/// object is known, else from the begin of the frame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A fixed structure does not parse.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The object is sound and of another kind.
    #[error("the object is a {found}, not a {expected}")]
    Kind {
        /// What was asked for.
        expected: ObjectKind,
        /// What the header says.
        found: ObjectKind,
    },
    /// A codec or cipher that this program does not know.
    #[error("{what} {id} is not known to this program; use a newer pitr")]
    Unknown {
        /// "codec", "cipher" or "object kind".
        what: &'static str,
        /// Its number.
        id: u8,
    },
    /// The parts do not lie back to back, or the object's length is not what they add up to.
    #[error("the parts of the object do not fit together: {what} at {offset}")]
    Layout {
        /// What is out of place.
        what: &'static str,
        /// Where it is said to be, bytes.
        offset: u64,
    },
    /// Header, footer and trailer are not the ones that were written together.
    #[error("header and footer do not match the object's SHA-256")]
    ObjectDigest,
    /// A frame's stored bytes are not those that the footer vouches for.
    #[error("the frame at {offset} does not match its SHA-256")]
    FrameDigest {
        /// Where the frame begins, bytes.
        offset: u64,
    },
    /// A frame's stored bytes can't be decompressed into what its header states.
    #[error("a frame does not decompress into the {raw_len} bytes that it states")]
    Inflate {
        /// Bytes it should give.
        raw_len: u32,
        /// What the codec said, if it did not merely give another number of bytes.
        source: Option<io::Error>,
    },
    /// The compressor failed.
    #[error("compression failed")]
    Deflate(#[source] io::Error),
    /// What was encoded decodes into something else: memory or codec are not to be trusted.
    #[error("what was encoded does not decode into the bytes it was made from")]
    NotWhatWasEncoded,
    /// More bytes than the format allows.
    #[error("{what}: {bytes} bytes, the most is {most}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The largest allowed.
        most: u64,
    },
}

/// What a [`CodecError`] means to whoever meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not those that were written.
    Corrupt,
    /// A newer program wrote the bytes.
    Newer,
    /// The caller asked for more than the format holds.
    Limit,
    /// This machine computed wrongly or could not compute.
    Machine,
}

impl CodecError {
    /// What the error means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            CodecError::Malformed(DecodeError::Version { .. }) | CodecError::Unknown { .. } => {
                ErrorKind::Newer
            }
            CodecError::TooLarge { .. } => ErrorKind::Limit,
            CodecError::Deflate(_) | CodecError::NotWhatWasEncoded => ErrorKind::Machine,
            _ => ErrorKind::Corrupt,
        }
    }
}
