//! Encryption of an object: AES-256-GCM, frame by frame, under a key that only this object uses.
//!
//! HKDF-SHA-256 derives the object's key from a data key and the salt in the object's header. The
//! nonce of a frame is its number, so no nonce repeats under one key. The footer has the number
//! after the last frame. Each frame's additional authenticated data binds the frame to its place:
//! the repository, the kind and name of the object, the frame number, whether it is the footer, and
//! the frame's own header. No frame can therefore be replaced by another one of the same repository
//! (`docs/format/keys.md`).

use crate::frame::{CRC_OFFSET, FRAME_HEADER_BYTES};
use crate::keys::Secret;
use crate::{CodecError, ObjectKind, Seal};
use pitr_format::bytes::Put;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use std::fmt;

/// Bytes that encryption adds to a frame.
pub(crate) const TAG_BYTES: usize = 16;
const KEY_INFO: &[u8] = b"pitr object key, version 1";

/// Encrypts and decrypts the frames of one object.
#[derive(Clone)]
pub struct ObjectCipher {
    key: Box<LessSafeKey>,
    seal: Seal,
    /// Additional authenticated data that all frames share.
    context: Vec<u8>,
}

impl fmt::Debug for ObjectCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCipher").field("seal", &self.seal).finish_non_exhaustive()
    }
}

impl PartialEq for ObjectCipher {
    fn eq(&self, other: &Self) -> bool {
        self.seal == other.seal && self.context == other.context
    }
}

impl Eq for ObjectCipher {}

/// The place of an encrypted frame, and the cipher for it.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The cipher of the object.
    pub cipher: &'a ObjectCipher,
    /// Number of the frame in the object.
    pub number: u32,
    /// True for the footer.
    pub last: bool,
}

impl ObjectCipher {
    pub(crate) fn new(
        repository: &[u8; 16],
        data_key: &Secret,
        kind: ObjectKind,
        name: &str,
        seal: Seal,
    ) -> Result<Self, CodecError> {
        let failed = |_| CodecError::Crypto { what: "an object's key could not be derived" };
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &seal.salt).extract(data_key.bytes());
        let info = [KEY_INFO, repository.as_slice()];
        let key = UnboundKey::from(derived.expand(&info, &AES_256_GCM).map_err(failed)?);
        let mut context = repository.to_vec();
        context.put_u8(kind as u8);
        context.put_u32(name.len() as u32); // the length of a path
        context.put(name.as_bytes());
        Ok(ObjectCipher { key: Box::new(LessSafeKey::new(key)), seal, context })
    }

    /// How the object is encrypted.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.seal
    }
}

impl Sealed<'_> {
    /// Encrypts the stored bytes of a frame and appends the tag. The frame's header is complete
    /// except for its checksum.
    pub(crate) fn encrypt(self, out: &mut Vec<u8>, begin: usize) -> Result<(), CodecError> {
        let (header, stored) = out[begin..].split_at_mut(FRAME_HEADER_BYTES);
        let aad = Aad::from(self.aad(header));
        let tag = self.cipher.key.seal_in_place_separate_tag(self.nonce(), aad, stored);
        let tag = tag.map_err(|_| CodecError::Crypto { what: "a frame could not be encrypted" })?;
        out.put(tag.as_ref());
        Ok(())
    }

    /// Decrypts the stored bytes of a frame into `plain`, and replaces its content.
    pub(crate) fn decrypt(self, frame: &[u8], plain: &mut Vec<u8>) -> Result<(), CodecError> {
        let (header, stored) = frame.split_at(FRAME_HEADER_BYTES);
        plain.clear();
        plain.extend_from_slice(stored);
        let aad = Aad::from(self.aad(header));
        let opened = self.cipher.key.open_in_place(self.nonce(), aad, plain);
        let len = opened.map_err(|_| CodecError::NotAuthentic { frame: self.number })?.len();
        plain.truncate(len);
        Ok(())
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.number.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn aad(self, header: &[u8]) -> Vec<u8> {
        let mut aad = self.cipher.context.clone();
        aad.put_u32(self.number);
        aad.put_u8(u8::from(self.last));
        aad.put(&header[..CRC_OFFSET]);
        aad
    }
}
