//! Making an object.

use crate::header::Trailer;
use crate::{Codec, CodecError, EncodedFrame, FrameEntry, HEADER_BYTES, OBJECT_BYTES_LIMIT};
use crate::{ObjectHeader, ObjectKind, TRAILER_BYTES, encode_frame};
use pitr_format::OwnerToken;
use pitr_format::bytes::Put;

/// Collects encoded frames into the bytes of one object.
#[derive(Debug)]
pub struct ObjectBuilder {
    codec: Codec,
    bytes: Vec<u8>,
    frames: Vec<FrameEntry>,
}

impl ObjectBuilder {
    /// An object of this kind without frames. `codec` is for its footer.
    #[must_use]
    pub fn new(kind: ObjectKind, owner: OwnerToken, codec: Codec) -> Self {
        let header = ObjectHeader { kind, codec: codec.id(), owner };
        ObjectBuilder { codec, bytes: header.to_bytes().to_vec(), frames: Vec::new() }
    }

    /// Appends a frame and returns its number, from 0.
    pub fn push(&mut self, frame: &EncodedFrame) -> usize {
        self.frames.push(FrameEntry {
            offset: self.bytes.len() as u64,
            stored_len: frame.stored_len(),
            raw_len: frame.raw_len(),
            digest: frame.digest(),
        });
        self.bytes.put(frame.bytes());
        self.frames.len() - 1
    }

    /// Bytes so far, without footer and trailer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True before the first frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames so far.
    #[must_use]
    pub fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// The whole object, with `payload` as what its kind keeps in the footer.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] past [`OBJECT_BYTES_LIMIT`] or a footer past a frame; [`CodecError::Deflate`].
    pub fn finish(self, payload: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut raw = Vec::with_capacity(self.frames.len() * FrameEntry::BYTES + payload.len());
        self.frames.iter().for_each(|frame| frame.write(&mut raw));
        raw.put(payload);
        let footer = encode_frame(self.codec, &raw)?;
        footer.verify(&raw)?;

        let mut bytes = self.bytes;
        let total = bytes.len() + footer.bytes().len() + TRAILER_BYTES;
        if total > OBJECT_BYTES_LIMIT {
            let most = OBJECT_BYTES_LIMIT as u64;
            return Err(CodecError::TooLarge { what: "object", bytes: total as u64, most });
        }
        let mut trailer = Trailer {
            footer_offset: bytes.len() as u64,
            footer_len: footer.stored_len(),
            footer_raw_len: footer.raw_len(),
            frames: self.frames.len() as u32, // each takes at least a frame header of a bounded object
            digest: [0; 32],
        };
        trailer.sign(&bytes[..HEADER_BYTES], footer.bytes());
        bytes.put(footer.bytes());
        trailer.write(&mut bytes);
        Ok(bytes)
    }
}
