//! Making an object.

use crate::cipher::{ObjectCipher, Sealed};
use crate::frame::{append_frame, close, verify};
use crate::header::Trailer;
use crate::{Codec, CodecError, EncodedFrame, FrameEntry, HEADER_BYTES, OBJECT_BYTES_LIMIT, sha256};
use crate::{ObjectHeader, ObjectKind, Seal, TRAILER_BYTES};
use pitr_format::OwnerToken;
use pitr_format::bytes::Put;

/// Collects encoded frames into the bytes of one object.
#[derive(Debug)]
pub struct ObjectBuilder {
    header: ObjectHeader,
    codec: Codec,
    cipher: Option<ObjectCipher>,
    bytes: Vec<u8>,
    frames: Vec<FrameEntry>,
}

impl ObjectBuilder {
    /// An object of this kind without frames. `codec` is for its footer.
    #[must_use]
    pub fn new(kind: ObjectKind, owner: OwnerToken, codec: Codec) -> Self {
        let header = ObjectHeader { kind, codec: codec.id(), owner, seal: None };
        let bytes = header.to_bytes().to_vec();
        ObjectBuilder { header, codec, cipher: None, bytes, frames: Vec::new() }
    }

    /// Encrypts the object, which has no frame yet.
    #[must_use]
    pub fn encrypted(mut self, cipher: ObjectCipher) -> Self {
        debug_assert!(self.frames.is_empty());
        self.header.seal = Some(cipher.seal());
        self.bytes.splice(..HEADER_BYTES, self.header.to_bytes());
        self.cipher = Some(cipher);
        self
    }

    /// How the object is encrypted, if it is.
    #[must_use]
    pub fn seal(&self) -> Option<Seal> {
        self.header.seal
    }

    /// Puts the object, which has no frame yet, into this buffer, in place of what it holds: in one with enough room it is not
    /// moved while it grows.
    #[must_use]
    pub fn within(mut self, mut buffer: Vec<u8>) -> Self {
        debug_assert!(self.frames.is_empty());
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        self.bytes = buffer;
        self
    }

    /// Compresses `raw` straight into the object, as its next frame, and decodes it once to compare: together with a
    /// later look at the object's checksums this shows that what is stored is what was meant.
    ///
    /// # Errors
    /// [`CodecError::NotWhatWasEncoded`], and those of [`encode_frame`](crate::encode_frame); the object is as it was before.
    pub fn append(&mut self, codec: Codec, raw: &[u8]) -> Result<&FrameEntry, CodecError> {
        self.append_by(raw, None, |bytes, sealed| append_frame(bytes, codec, raw, sealed))
    }

    /// As [`append`](Self::append), of bytes that had this CRC-32 when they were named: not if they have changed since.
    ///
    /// # Errors
    /// As [`append`](Self::append).
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

    /// Appends a frame that was encoded elsewhere, encrypted if the object is, and returns its number, from 0.
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
            frames: self.frames.len() as u32, // each takes at least a frame header of a bounded object
            digest: [0; 32],
        };
        trailer.sign(&bytes[..HEADER_BYTES], &footer);
        bytes.put(&footer);
        trailer.write(&mut bytes);
        Ok(bytes)
    }
}

pub(crate) fn sealed(cipher: Option<&ObjectCipher>, frame: usize, last: bool) -> Option<Sealed<'_>> {
    // Each frame takes at least a header of a bounded object.
    cipher.map(|cipher| Sealed { cipher, number: frame as u32, last })
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
        let crc = crc32fast::hash(&raw);
        for (wrong, crc) in
            [&flipped, &raw[1..], &[]].into_iter().flat_map(|wrong| [(wrong, None), (wrong, Some(crc))])
        {
            let result = builder
                .append_by(&raw, crc, |bytes, sealed| append_frame(bytes, Codec::default(), wrong, sealed));
            assert!(matches!(result, Err(CodecError::NotWhatWasEncoded)));
            assert_eq!((builder.len(), builder.frames().len()), (before, 1));
        }
        assert!(matches!(
            builder.append_named(Codec::default(), &flipped, crc),
            Err(CodecError::NotWhatWasEncoded)
        ));
        assert!(builder.append_named(Codec::default(), &raw, crc).is_ok());
    }
}
