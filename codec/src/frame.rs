//! A frame: a small header and a compressed piece, checked by CRC-32 alone and by SHA-256 within an object.
//!
//! The header (little-endian): codec u8, cipher u8, reserved u16 (0), raw length u32, stored length u32, CRC-32
//! of the twelve bytes before it and of the stored bytes. Encrypted is what compression gave, with a tag behind it.

use crate::cipher::{Sealed, TAG_BYTES};
use crate::compress::{ID_NONE, inflate_into, with_scratch};
use crate::header::{CIPHER_AES_256_GCM, CIPHER_NONE};
use crate::{Codec, CodecError, Digest, sha256};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::ops::Range;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Most that a frame may hold, before and after compression, bytes.
pub const FRAME_BYTES_MAX: usize = 17 << 20;

pub(crate) const CRC_OFFSET: usize = 12;
/// Bytes that are compared and summed up together.
const COMPARED_BYTES: usize = 8 << 10;

/// A frame as it will stand in an object.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    bytes: Vec<u8>,
    raw_len: u32,
    digest: Digest,
}

/// Compresses `raw` into a frame. Pure: frames of one object can be encoded on many threads.
///
/// # Errors
/// [`CodecError::TooLarge`] past [`FRAME_BYTES_MAX`]; [`CodecError::Deflate`].
pub fn encode_frame(codec: Codec, raw: &[u8]) -> Result<EncodedFrame, CodecError> {
    let mut bytes = Vec::new();
    let raw_len = append_frame(&mut bytes, codec, raw, None)?;
    let digest = sha256(&[&bytes]);
    Ok(EncodedFrame { bytes, raw_len, digest })
}

/// Appends the frame of `raw` to `out`, encrypted if it is to be, and returns the length of `raw`.
pub(crate) fn append_frame(
    out: &mut Vec<u8>,
    codec: Codec,
    raw: &[u8],
    sealed: Option<Sealed<'_>>,
) -> Result<u32, CodecError> {
    let raw_len = bounded("frame", raw.len())?;
    let begin = out.len();
    out.resize(begin + FRAME_HEADER_BYTES, 0);
    let id = if codec.compress_onto(out, raw)? {
        codec.id()
    } else {
        out.put(raw);
        ID_NONE
    };
    out[begin] = id;
    out[begin + 4..begin + 8].copy_from_slice(&raw_len.to_le_bytes());
    close(out, begin, sealed)?;
    Ok(raw_len)
}

/// Encrypts the frame that begins at `begin`, if it is to be, and completes its header.
pub(crate) fn close(out: &mut Vec<u8>, begin: usize, sealed: Option<Sealed<'_>>) -> Result<(), CodecError> {
    let tag = if sealed.is_some() { TAG_BYTES } else { 0 };
    let stored_len = bounded("frame", out.len() - begin - FRAME_HEADER_BYTES + tag)?;
    out[begin + 1] = if sealed.is_some() { CIPHER_AES_256_GCM } else { CIPHER_NONE };
    out[begin + 8..begin + CRC_OFFSET].copy_from_slice(&stored_len.to_le_bytes());
    if let Some(sealed) = sealed {
        sealed.encrypt(out, begin)?;
    }
    let crc = frame_crc(&out[begin..]);
    out[begin + CRC_OFFSET..begin + FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Decodes a frame and compares it with what it was made from, and that with the CRC-32 that it had before.
pub(crate) fn verify(
    frame: &[u8],
    raw: &[u8],
    crc: Option<u32>,
    sealed: Option<Sealed<'_>>,
) -> Result<(), CodecError> {
    with_scratch(|plain, decoded| {
        decoded.resize(raw.len(), 0);
        let room = decoded.as_mut_slice();
        match decode_into(|len| (len == raw.len()).then_some(room), plain, frame, sealed) {
            Ok(()) if is_same(decoded, raw, crc) => Ok(()),
            _ => Err(CodecError::NotWhatWasEncoded),
        }
    })
}

/// Both questions are asked of a piece while it is in the nearest cache.
fn is_same(decoded: &[u8], raw: &[u8], crc: Option<u32>) -> bool {
    let Some(crc) = crc else { return decoded == raw };
    let mut hasher = crc32fast::Hasher::new();
    let mut pieces = decoded.chunks(COMPARED_BYTES).zip(raw.chunks(COMPARED_BYTES));
    let is_same = pieces.all(|(decoded, raw)| {
        hasher.update(raw);
        decoded == raw
    });
    is_same && decoded.len() == raw.len() && hasher.finalize() == crc
}

impl EncodedFrame {
    /// Header and stored bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that the frame gives when decoded.
    #[must_use]
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// Bytes that the frame takes in an object.
    #[must_use]
    pub fn stored_len(&self) -> u32 {
        self.bytes.len() as u32 // at most FRAME_HEADER_BYTES + FRAME_BYTES_MAX
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Decodes the frame and compares it with what it was made from. Together with a later check of the frame's
    /// SHA-256 within its object this shows that what is stored is what was meant.
    ///
    /// # Errors
    /// [`CodecError::NotWhatWasEncoded`], whatever is wrong.
    pub fn verify(&self, raw: &[u8]) -> Result<(), CodecError> {
        verify(&self.bytes, raw, None, None)
    }
}

/// Decodes a frame from exactly its bytes, checked by its CRC-32 only and, if it is encrypted, by its tag: for callers
/// that know a hash of the content. It comes in place of what `raw` holds: a buffer that is used again costs no fresh
/// memory. Refuses a frame that states more than `raw_len_max` bytes, and one that is not encrypted where it should be.
///
/// # Errors
/// Any [`CodecError`] that names what is wrong; what `raw` holds then is of no use.
pub fn decode_frame_into(
    raw: &mut Vec<u8>,
    bytes: &[u8],
    raw_len_max: usize,
    sealed: Option<Sealed<'_>>,
) -> Result<(), CodecError> {
    let room = |len| -> Option<&mut [u8]> {
        let raw = raw;
        let fits = len <= raw_len_max.min(FRAME_BYTES_MAX);
        raw.resize(if fits { len } else { 0 }, 0);
        fits.then_some(raw)
    };
    with_scratch(|plain, _| decode_into(room, plain, bytes, sealed))
}

/// As [`decode_frame_into`], into exactly the bytes of `raw`: a frame that states another length is refused.
///
/// # Errors
/// As [`decode_frame_into`].
pub fn decode_frame_exactly(
    raw: &mut [u8],
    bytes: &[u8],
    sealed: Option<Sealed<'_>>,
) -> Result<(), CodecError> {
    let room = |len| (len == raw.len()).then_some(raw);
    with_scratch(|plain, _| decode_into(room, plain, bytes, sealed))
}

/// Decodes a frame into the room that there is for so many bytes, if there is.
fn decode_into<'r>(
    room: impl FnOnce(usize) -> Option<&'r mut [u8]>,
    plain: &mut Vec<u8>,
    bytes: &[u8],
    sealed: Option<Sealed<'_>>,
) -> Result<(), CodecError> {
    let head = FrameHead::checked(bytes)?;
    let raw = room(head.raw_len as usize)
        .ok_or(DecodeError::Range { what: "frame raw length", value: u64::from(head.raw_len) })?;
    match (head.cipher, sealed) {
        (CIPHER_NONE, None) => inflate_into(raw, head.codec, &bytes[FRAME_HEADER_BYTES..]),
        (CIPHER_AES_256_GCM, Some(sealed)) => {
            sealed.decrypt(bytes, plain)?;
            inflate_into(raw, head.codec, plain)
        }
        (CIPHER_NONE | CIPHER_AES_256_GCM, sealed) => {
            Err(CodecError::NotAuthentic { frame: sealed.map_or(0, |sealed| sealed.number) })
        }
        (id, _) => Err(CodecError::Unknown { what: "cipher", id }),
    }
}

/// Checks a frame's bytes by its own CRC-32.
pub(crate) fn check_crc(bytes: &[u8]) -> Result<(), CodecError> {
    FrameHead::checked(bytes).map(drop)
}

fn frame_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_OFFSET]);
    hasher.update(&bytes[FRAME_HEADER_BYTES..]);
    hasher.finalize()
}

fn bounded(what: &'static str, bytes: usize) -> Result<u32, CodecError> {
    u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX).ok_or(CodecError::TooLarge {
        what,
        bytes: bytes as u64,
        most: FRAME_BYTES_MAX as u64,
    })
}

struct FrameHead {
    codec: u8,
    cipher: u8,
    raw_len: u32,
    crc: u32,
}

impl FrameHead {
    /// The header of a frame that is `bytes` from end to end and fits its CRC-32.
    fn checked(bytes: &[u8]) -> Result<Self, CodecError> {
        let head = FrameHead::read(bytes)?;
        let computed = frame_crc(bytes);
        if computed == head.crc {
            Ok(head)
        } else {
            Err(DecodeError::Checksum { what: "frame", found: head.crc, computed }.into())
        }
    }

    /// The header of a frame that is `bytes` from end to end.
    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let codec = reader.u8("frame codec")?;
        let cipher = reader.u8("frame cipher")?;
        let reserved = reader.u16("frame reserved")?;
        let raw_len = reader.u32("frame raw length")?;
        let stored_len = reader.u32("frame stored length")?;
        let crc = reader.u32("frame checksum")?;
        if reserved != 0 {
            return Err(DecodeError::Range { what: "frame reserved", value: u64::from(reserved) }.into());
        }
        if reader.left() != stored_len as usize {
            return Err(
                DecodeError::Range { what: "frame stored length", value: u64::from(stored_len) }.into()
            );
        }
        Ok(FrameHead { codec, cipher, raw_len, crc })
    }
}

/// A frame's line in the table of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// Where the frame begins in the object, bytes.
    pub offset: u64,
    /// Bytes that it takes there, header included.
    pub stored_len: u32,
    /// Bytes that it gives when decoded.
    pub raw_len: u32,
    /// SHA-256 of the bytes it takes.
    pub digest: Digest,
}

impl FrameEntry {
    /// Bytes of an entry in the footer: stored length, raw length, digest. The offset follows from those before.
    pub(crate) const BYTES: usize = 4 + 4 + 32;

    /// The bytes of the object that hold the frame.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }

    /// Checks a frame's stored bytes against the table without decompressing them.
    ///
    /// # Errors
    /// [`CodecError::FrameDigest`].
    pub fn check(&self, stored: &[u8]) -> Result<(), CodecError> {
        if stored.len() == self.stored_len as usize && sha256(&[stored]) == self.digest {
            Ok(())
        } else {
            Err(CodecError::FrameDigest { offset: self.offset })
        }
    }

    /// Checks and decodes a frame's stored bytes.
    pub(crate) fn decode(&self, stored: &[u8], sealed: Option<Sealed<'_>>) -> Result<Vec<u8>, CodecError> {
        self.check(stored)?;
        let mut raw = Vec::new();
        decode_frame_into(&mut raw, stored, self.raw_len as usize, sealed)?;
        if raw.len() == self.raw_len as usize {
            Ok(raw)
        } else {
            Err(CodecError::Inflate { raw_len: self.raw_len, source: None })
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.stored_len);
        out.put_u32(self.raw_len);
        out.put(&self.digest);
    }

    /// Reads the entry of a frame that begins at `offset`.
    pub(crate) fn read(reader: &mut Reader<'_>, offset: u64) -> Result<Self, CodecError> {
        let stored_len = reader.u32("frame entry stored length")?;
        let raw_len = reader.u32("frame entry raw length")?;
        let digest = reader.array("frame entry digest")?;
        let stored_fits =
            (FRAME_HEADER_BYTES..=FRAME_HEADER_BYTES + FRAME_BYTES_MAX).contains(&(stored_len as usize));
        if !stored_fits {
            let value = u64::from(stored_len);
            return Err(DecodeError::Range { what: "frame entry stored length", value }.into());
        }
        if raw_len as usize > FRAME_BYTES_MAX {
            // FAILURES 31: nobody takes memory on the word of such a length.
            return Err(
                DecodeError::Range { what: "frame entry raw length", value: u64::from(raw_len) }.into()
            );
        }
        Ok(FrameEntry { offset, stored_len, raw_len, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupt_encode_is_caught() {
        // FAILURES 30
        let raw = vec![3; 5000];
        let frame = encode_frame(Codec::default(), &raw).unwrap();
        for byte in 0..frame.bytes.len() {
            let mut damaged = frame.clone();
            damaged.bytes[byte] ^= 0x10;
            assert!(matches!(damaged.verify(&raw), Err(CodecError::NotWhatWasEncoded)), "byte {byte}");
        }
        assert!(frame.verify(&raw).is_ok());
        assert!(frame.verify(&raw[1..]).is_err());
        let other = encode_frame(Codec::default(), &vec![4; 5000]).unwrap();
        assert!(other.verify(&raw).is_err(), "sound, and something else");
    }
}
