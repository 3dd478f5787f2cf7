//! Frames and the object container: compression, encryption and checksums of stored data.
//!
//! Every object of a repository is one container: a header, frames, a footer frame and a trailer.
//! The footer holds the table of frames and the payload of the object's kind
//! (`docs/format/object.md`).
//!
//! ```text
//! | header 64 | frame 0 | frame 1 | ... | footer frame | trailer 64 |
//! ```
//!
//! # Guarantees
//! - Header and footer cover every byte. The trailer's SHA-256 covers header, footer and its own
//!   fields. The footer holds the SHA-256 of each frame. The parts are contiguous.
//! - Every length is bounded before it is used. A frame never inflates past [`FRAME_BYTES_MAX`],
//!   nor past the length in its header and in its table entry.
//! - Any input gives a value or a [`CodecError`], never a panic. An object of a newer version gives
//!   a version error.
//! - With [`Keys`], every frame is encrypted and authenticated for its place. Unencrypted objects
//!   are then refused.
//!
//! This crate does no I/O, and gets random bytes from its caller. [`ObjectBuilder`] creates the
//! bytes, [`ObjectIndex`] reads them, as a whole or by ranges.
#![forbid(unsafe_code)]

mod builder;
mod cipher;
mod compress;
mod error;
mod frame;
mod header;
mod index;
mod keys;

pub use builder::ObjectBuilder;
pub use cipher::{ObjectCipher, Sealed};
pub use compress::{Codec, UnknownCodec};
pub use error::{CodecError, ErrorKind};
pub use frame::{
    EncodedFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameEntry, decode_frame_exactly, decode_frame_into,
    encode_frame,
};
pub use header::{HEADER_BYTES, OBJECT_VERSION, ObjectHeader, ObjectKind, Seal, TRAILER_BYTES};
pub use index::{Access, FromTail, ObjectIndex, TAIL_BYTES_HINT};
pub use keys::{KeyWrap, Keys, Passphrase, RawKey, Secret};
pub use pitr_format::OwnerToken;

/// Target size of packs and log objects, bytes. One create-only put uploads an object.
pub const OBJECT_BYTES_MAX: usize = 16 << 20;
/// Largest object that is written or read, bytes: [`OBJECT_BYTES_MAX`] plus room for a footer.
pub const OBJECT_BYTES_LIMIT: usize = 20 << 20;

/// A SHA-256 hash.
pub type Digest = [u8; 32];

pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The examples in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
