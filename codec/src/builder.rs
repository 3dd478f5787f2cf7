//! Writing an object.

use crate::cipher::{ObjectCipher, Sealed};
use crate::frame::{append_frame, close, verify};
use crate::header::Trailer;
use crate::{Codec, CodecError, EncodedFrame, FrameEntry, HEADER_BYTES, OBJECT_BYTES_LIMIT, sha256};
use crate::{ObjectHeader, ObjectKind, Seal, TRAILER_BYTES};
use pitr_format::OwnerToken;
use pitr_format::bytes::Put;

/// Assembles encoded frames into the bytes of one object.
#[derive(Debug)]
pub struct ObjectBuilder {
    header: ObjectHeader,
    codec: Codec,
    cipher: Option<ObjectCipher>,
    bytes: Vec<u8>,
    frames: Vec<FrameEntry>,
}

impl ObjectBuilder {
    /// Creates an object of this kind without frames. `codec` compresses its footer.
    #[must_use]
    pub fn new(kind: ObjectKind, owner: OwnerToken, codec: Codec) -> Self {
        let header = ObjectHeader { kind, codec: codec.id(), owner, seal: None };
        let bytes = header.to_bytes().to_vec();
        ObjectBuilder { header, codec, cipher: None, bytes, frames: Vec::new() }
    }

    /// Encrypts the object. Call it before the first frame is added.
    #[must_use]
    pub fn encrypted(mut self, cipher: ObjectCipher) -> Self {
        debug_assert!(self.frames.is_empty());
        self.header.seal = Some(cipher.seal());
        self.bytes.splice(..HEADER_BYTES, self.header.to_bytes());
        self.cipher = Some(cipher);
        self
    }

    /// How the object is encrypted, or `None` if it is not.
    #[must_use]
    pub fn seal(&self) -> Option<Seal> {
        self.header.seal
    }

    /// Builds the object in this buffer, whose content is dropped. Call it before the first frame
    /// is added.
    ///
    /// A buffer with enough capacity avoids reallocation while the object grows.
    #[must_use]
    pub fn within(mut self, mut buffer: Vec<u8>) -> Self {
        debug_assert!(self.frames.is_empty());
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        self.bytes = buffer;
        self
    }

    /// Compresses `raw` directly into the object as its next frame, then decodes it and compares
    /// the result.
    ///
    /// Together with a later check of the object's checksums, the comparison proves that the stored
    /// data matches the input.
    ///
    /// # Errors
    /// [`CodecError::VerificationFailed`], and the errors of [`encode_frame`](crate::encode_frame).
    /// The object stays unchanged.
    pub fn append(&mut self, codec: Codec, raw: &[u8]) -> Result<&FrameEntry, CodecError> {
        self.append_by(raw, None, |bytes, sealed| append_frame(bytes, codec, raw, sealed))
    }

    /// Like [`append`](Self::append), but fails if `raw` no longer has the CRC-32 that it had when
    /// its id was computed.
    ///
    /// # Errors
    /// Like [`append`](Self::append).
    pub fn append_named(&mut self, codec: Codec, raw: &[u8], crc: u32) -> Result<&FrameEntry, CodecError> {
        self.append_by(raw, Some(crc), |bytes, sealed| append_frame(bytes, codec, raw, sealed))
    }

    fn append_by(
        &mut self,
        raw: &[u8],
        crc: Option<u32>,
        encoder: impl FnOnce(&mut Vec<u8>, Option<Sealed<'_>>) -> Result<u32, CodecError>,
    ) -> Result<&FrameEntry, CodecError> {
        let begin = self.bytes.len();
        let sealed = sealed(self.cipher.as_ref(), self.frames.len(), false);
        let encoded = encoder(&mut self.bytes, sealed).and_then(|raw_len| {
            verify(&self.bytes[begin..], raw, crc, sealed)?;
            Ok(raw_len)
        });
        let raw_len = encoded.inspect_err(|_| self.bytes.truncate(begin))?;
        let frame = &self.bytes[begin..];
        let stored_len = frame.len() as u32; // at most FRAME_HEADER_BYTES + FRAME_BYTES_MAX
        self.frames.push(FrameEntry { offset: begin as u64, stored_len, raw_len, digest: sha256(&[frame]) });
        Ok(&self.frames[self.frames.len() - 1])
    }

    /// Appends a frame that was encoded elsewhere, and encrypts it if the object is encrypted.
    /// Returns the frame's number, counted from 0.
    ///
    /// # Errors
    /// [`CodecError::Crypto`]; [`CodecError::TooLarge`].
    pub fn push(&mut self, frame: &EncodedFrame) -> Result<usize, CodecError> {
        let (begin, number) = (self.bytes.len(), self.frames.len());
        self.bytes.put(frame.bytes());
        let mut digest = frame.digest();
        if let Some(sealed) = sealed(self.cipher.as_ref(), number, false) {
            close(&mut self.bytes, begin, Some(sealed))?;
            digest = sha256(&[&self.bytes[begin..]]);
        }
        let stored_len = (self.bytes.len() - begin) as u32; // a frame and a tag
        self.frames.push(FrameEntry { offset: begin as u64, stored_len, raw_len: frame.raw_len(), digest });
        Ok(number)
    }

    /// Number of bytes so far, without footer and trailer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if the object has no frame yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames added so far.
    #[must_use]
    pub fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// Finishes the object. `payload` is the part of the footer that belongs to the object's kind.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] if the object exceeds [`OBJECT_BYTES_LIMIT`] or the footer exceeds
    /// a frame; [`CodecError::Deflate`].
    pub fn finish(self, payload: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut raw = Vec::with_capacity(self.frames.len() * FrameEntry::BYTES + payload.len());
        self.frames.iter().for_each(|frame| frame.write(&mut raw));
        raw.put(payload);
        let (mut footer, sealed) = (Vec::new(), sealed(self.cipher.as_ref(), self.frames.len(), true));
        let raw_len = append_frame(&mut footer, self.codec, &raw, sealed)?;
        verify(&footer, &raw, None, sealed)?;

        let mut bytes = self.bytes;
        let total = bytes.len() + footer.len() + TRAILER_BYTES;
        if total > OBJECT_BYTES_LIMIT {
            let most = OBJECT_BYTES_LIMIT as u64;
            return Err(CodecError::TooLarge { what: "object", bytes: total as u64, most });
        }
        let mut trailer = Trailer {
            footer_offset: bytes.len() as u64,
            footer_len: footer.len() as u32, // bounded with the object
            footer_raw_len: raw_len,
            // The number of frames is bounded: each takes at least a header within the object.
            frames: self.frames.len() as u32,
            digest: [0; 32],
        };
        trailer.sign(&bytes[..HEADER_BYTES], &footer);
        bytes.put(&footer);
        trailer.write(&mut bytes);
        Ok(bytes)
    }
}

pub(crate) fn sealed(cipher: Option<&ObjectCipher>, frame: usize, last: bool) -> Option<Sealed<'_>> {
    // The cast cannot overflow: each frame takes at least a header, and the size of an object is
    // bounded.
    cipher.map(|cipher| Sealed { cipher, number: frame as u32, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_format::OwnerToken;

    #[test]
    fn a_faulty_encoder_is_detected() {
        // FAILURES 30
        let raw = vec![5; 10_000];
        let mut builder = ObjectBuilder::new(ObjectKind::Pack, OwnerToken([1; 16]), Codec::default());
        builder.append(Codec::default(), &raw).unwrap();
        let before = builder.len();
        let mut flipped = raw.clone();
        flipped[777] ^= 1;
        let crc = crc32fast::hash(&raw);
        for (wrong, crc) in
            [&flipped, &raw[1..], &[]].into_iter().flat_map(|wrong| [(wrong, None), (wrong, Some(crc))])
        {
            let result = builder
                .append_by(&raw, crc, |bytes, sealed| append_frame(bytes, Codec::default(), wrong, sealed));
            assert!(matches!(result, Err(CodecError::VerificationFailed)));
            assert_eq!((builder.len(), builder.frames().len()), (before, 1));
        }
        assert!(matches!(
            builder.append_named(Codec::default(), &flipped, crc),
            Err(CodecError::VerificationFailed)
        ));
        assert!(builder.append_named(Codec::default(), &raw, crc).is_ok());
    }
}
