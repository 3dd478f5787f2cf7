//! Making an object.

use crate::frame::{append_frame, verify};
use crate::header::Trailer;
use crate::{Codec, CodecError, EncodedFrame, FrameEntry, HEADER_BYTES, OBJECT_BYTES_LIMIT, sha256};
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

    /// Takes memory for an object of this many bytes, so that it is not moved while it grows.
    #[must_use]
    pub fn with_room(mut self, bytes: usize) -> Self {
        self.bytes.reserve_exact(bytes.saturating_sub(self.bytes.len()));
        self
    }

    /// Compresses `raw` straight into the object, as its next frame, and decodes it once to compare: together with a
    /// later look at the object's checksums this shows that what is stored is what was meant.
    ///
    /// # Errors
    /// [`CodecError::NotWhatWasEncoded`], and those of [`encode_frame`]; the object is as it was before.
    pub fn append(&mut self, codec: Codec, raw: &[u8]) -> Result<&FrameEntry, CodecError> {
        self.append_by(raw, |bytes| append_frame(bytes, codec, raw))
    }

    fn append_by(
        &mut self,
        raw: &[u8],
        encoder: impl FnOnce(&mut Vec<u8>) -> Result<u32, CodecError>,
    ) -> Result<&FrameEntry, CodecError> {
        let begin = self.bytes.len();
        let encoded = encoder(&mut self.bytes).and_then(|raw_len| {
            verify(&self.bytes[begin..], raw)?;
            Ok(raw_len)
        });
        let raw_len = encoded.inspect_err(|_| self.bytes.truncate(begin))?;
        let frame = &self.bytes[begin..];
        let stored_len = frame.len() as u32; // at most FRAME_HEADER_BYTES + FRAME_BYTES_MAX
        self.frames.push(FrameEntry { offset: begin as u64, stored_len, raw_len, digest: sha256(&[frame]) });
        Ok(&self.frames[self.frames.len() - 1])
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

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::OwnerToken;

    #[test]
    fn an_encoder_that_errs_is_caught() {
        // FAILURES 30
        let raw = vec![5; 10_000];
        let mut builder = ObjectBuilder::new(ObjectKind::Pack, OwnerToken([1; 16]), Codec::default());
        builder.append(Codec::default(), &raw).unwrap();
        let before = builder.len();
        let mut flipped = raw.clone();
        flipped[777] ^= 1;
        for wrong in [&flipped, &raw[1..], &[]] {
            let result = builder.append_by(&raw, |bytes| append_frame(bytes, Codec::default(), wrong));
            assert!(matches!(result, Err(CodecError::NotWhatWasEncoded)));
            assert_eq!((builder.len(), builder.frames().len()), (before, 1));
        }
    }
}
