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
    /// An object is encrypted, and there are no keys.
    #[error("the {kind} is encrypted; give the repository's passphrase or key file")]
    NoKeys {
        /// What the object is.
        kind: ObjectKind,
    },
    /// An object is encrypted under a key that the ring does not hold.
    #[error("the {kind} is encrypted under key {key}, which the repository's key ring does not hold")]
    NoSuchKey {
        /// What the object is.
        kind: ObjectKind,
        /// The key's number.
        key: u32,
    },
    /// An object of an encrypted repository that is not encrypted: not one that its keepers wrote.
    #[error("the {kind} is not encrypted, in a repository that is: somebody without the key put it there")]
    InClear {
        /// What the object is.
        kind: ObjectKind,
    },
    /// What was decrypted is not what was encrypted in this place, under this key.
    #[error("frame {frame} does not decrypt: it was changed, or belongs elsewhere")]
    NotAuthentic {
        /// Number of the frame in its object.
        frame: u32,
    },
    /// No key that was given opens a slot.
    #[error("wrong passphrase or key: it opens none of the repository's {slots} key slots")]
    WrongKey {
        /// Slots that were tried.
        slots: usize,
    },
    /// Keys could not be made or wrapped.
    #[error("{what}")]
    Crypto {
        /// What failed.
        what: &'static str,
    },
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
    /// A key is missing or not the right one.
    Key,
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
            CodecError::Deflate(_) | CodecError::NotWhatWasEncoded | CodecError::Crypto { .. } => {
                ErrorKind::Machine
            }
            CodecError::NoKeys { .. } | CodecError::NoSuchKey { .. } | CodecError::WrongKey { .. } => {
                ErrorKind::Key
            }
            _ => ErrorKind::Corrupt,
        }
    }
}
