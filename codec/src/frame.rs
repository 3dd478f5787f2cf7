//! A frame: a small header and a compressed piece of data.
//!
//! A CRC-32 protects the frame alone; a SHA-256 in the footer protects it within its object. The
//! header (little-endian) is: codec u8, cipher u8, reserved u16 (0), raw length u32, stored length
//! u32, CRC-32 of the twelve bytes before it and of the stored bytes. Encryption applies to the
//! compressed bytes and appends a tag.

use crate::cipher::{Sealed, TAG_BYTES};
use crate::compress::{ID_NONE, inflate_into, with_scratch};
use crate::header::{CIPHER_AES_256_GCM, CIPHER_NONE};
use crate::{Codec, CodecError, Digest, sha256};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::ops::Range;

/// Size of a frame's header, bytes.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Largest content of a frame, before and after compression, bytes.
pub const FRAME_BYTES_MAX: usize = 17 << 20;

pub(crate) const CRC_OFFSET: usize = 12;
/// Size of the pieces that are compared and checksummed in one pass, bytes.
const COMPARED_BYTES: usize = 8 << 10;

/// A frame, encoded as an object stores it.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    bytes: Vec<u8>,
    raw_len: u32,
    digest: Digest,
}

/// Compresses `raw` into a frame. Frames of one object can be encoded on many threads.
///
/// # Errors
/// [`CodecError::TooLarge`] if `raw` exceeds [`FRAME_BYTES_MAX`]; [`CodecError::Deflate`].
pub fn encode_frame(codec: Codec, raw: &[u8]) -> Result<EncodedFrame, CodecError> {
    let mut bytes = Vec::new();
    let raw_len = append_frame(&mut bytes, codec, raw, None)?;
    let digest = sha256(&[&bytes]);
    Ok(EncodedFrame { bytes, raw_len, digest })
}

/// Appends the frame of `raw` to `out`, encrypted if `sealed` is given. Returns the length of
/// `raw`.
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

/// Encrypts the frame that begins at `begin`, if `sealed` is given, and completes its header.
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

/// Decodes a frame and compares it with `raw`. Also compares the CRC-32 of `raw` with `crc`, if
/// given.
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
            _ => Err(CodecError::VerificationFailed),
        }
    })
}

/// Compares and checksums each piece while it is in the nearest cache.
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

    /// Number of bytes that the frame decodes to.
    #[must_use]
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// Number of bytes that the frame takes in an object.
    #[must_use]
    pub fn stored_len(&self) -> u32 {
        self.bytes.len() as u32 // at most FRAME_HEADER_BYTES + FRAME_BYTES_MAX
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Decodes the frame and compares it with the data it was encoded from.
    ///
    /// Together with a later check of the frame's SHA-256 in its object, this proves that the
    /// stored data matches the input.
    ///
    /// # Errors
    /// [`CodecError::VerificationFailed`] for any difference.
    pub fn verify(&self, raw: &[u8]) -> Result<(), CodecError> {
        verify(&self.bytes, raw, None, None)
    }
}

/// Decodes a frame from exactly its bytes into `raw`, and replaces the content of `raw`.
///
/// Checks only the CRC-32 and, for an encrypted frame, the tag: callers know a hash of the content.
/// A reused buffer saves an allocation. A frame that states more than `raw_len_max` bytes is
/// refused, and so is a frame that is not encrypted although `sealed` is given.
///
/// # Errors
/// Any [`CodecError`] that names the fault. The content of `raw` is then undefined.
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

/// Like [`decode_frame_into`], but a frame that states another length than that of `raw` is
/// refused.
///
/// # Errors
/// Like [`decode_frame_into`].
pub fn decode_frame_exactly(
    raw: &mut [u8],
    bytes: &[u8],
    sealed: Option<Sealed<'_>>,
) -> Result<(), CodecError> {
    let room = |len| (len == raw.len()).then_some(raw);
    with_scratch(|plain, _| decode_into(room, plain, bytes, sealed))
}

/// Decodes a frame into the buffer that `room` returns for its length. `room` may refuse the
/// length.
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

/// Checks a frame by its own CRC-32.
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
    /// Decodes the header of the frame that `bytes` consists of, and checks its CRC-32.
    fn checked(bytes: &[u8]) -> Result<Self, CodecError> {
        let head = FrameHead::read(bytes)?;
        let computed = frame_crc(bytes);
        if computed == head.crc {
            Ok(head)
        } else {
            Err(DecodeError::Checksum { what: "frame", found: head.crc, computed }.into())
        }
    }

    /// Decodes the header of the frame that `bytes` consists of.
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

/// The entry of a frame in the footer's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// Where the frame begins in the object, bytes.
    pub offset: u64,
    /// Number of bytes that the frame takes in the object, header included.
    pub stored_len: u32,
    /// Number of bytes that the frame decodes to.
    pub raw_len: u32,
    /// SHA-256 of the stored bytes.
    pub digest: Digest,
}

impl FrameEntry {
    /// Size of an entry in the footer: stored length, raw length, digest. The offset follows from
    /// the earlier entries.
    pub(crate) const BYTES: usize = 4 + 4 + 32;

    /// The range of the object that holds the frame.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }

    /// Checks the stored bytes of a frame against its entry, without decompressing them.
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

    /// Checks and decodes the stored bytes of a frame.
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
            // FAILURES 31: no allocation trusts an unbounded length.
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
    fn a_corrupt_encode_is_detected() {
        // FAILURES 30
        let raw = vec![3; 5000];
        let frame = encode_frame(Codec::default(), &raw).unwrap();
        for byte in 0..frame.bytes.len() {
            let mut damaged = frame.clone();
            damaged.bytes[byte] ^= 0x10;
            assert!(matches!(damaged.verify(&raw), Err(CodecError::VerificationFailed)), "byte {byte}");
        }
        assert!(frame.verify(&raw).is_ok());
        assert!(frame.verify(&raw[1..]).is_err());
        let other = encode_frame(Codec::default(), &vec![4; 5000]).unwrap();
        assert!(other.verify(&raw).is_err(), "intact, but other content");
    }
}
