//! Frames and the object container: how pitr's bytes are compressed, bounded and checked.
//!
//! Every object of a repository is one container, whatever it holds: a header, frames, a footer frame with the
//! table of frames and the payload of the object's kind, and a trailer (`docs/format/object.md`).
//!
//! ```text
//! | header 64 | frame 0 | frame 1 | ... | footer frame | trailer 64 |
//! ```
//!
//! # Promises
//! - Header and footer vouch for every byte: the trailer's SHA-256 covers header, footer and its own fields, the
//!   footer holds the SHA-256 of each frame, and nothing may stand between the parts.
//! - No length is believed before it is bounded: a frame never inflates past [`FRAME_BYTES_MAX`], nor past what
//!   its header and its entry in the table both state.
//! - Any input gives a value or a [`CodecError`]; none panics. An object of a later version is refused by name.
//! - With [`Keys`] every frame is encrypted and authenticated in its place; what is in clear then is refused.
//!
//! No I/O happens here: [`ObjectBuilder`] makes bytes, [`ObjectIndex`] reads them, whole or by ranges.
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

/// Bytes that a writer of packs or log objects aims below: what goes into one create-only put.
pub const OBJECT_BYTES_MAX: usize = 16 << 20;
/// Largest object that is made or read, bytes: [`OBJECT_BYTES_MAX`] and room for a footer.
pub const OBJECT_BYTES_LIMIT: usize = 20 << 20;

/// A SHA-256.
pub type Digest = [u8; 32];

pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
