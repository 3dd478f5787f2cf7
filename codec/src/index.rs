//! Reading an object: first its header and footer, then each frame by its entry in the table.

use crate::builder::sealed;
use crate::cipher::ObjectCipher;
use crate::frame::{check_crc, decode_frame_into};
use crate::header::Trailer;
use crate::keys::Keys;
use crate::{CodecError, Digest, FrameEntry, HEADER_BYTES, ObjectHeader, ObjectKind, Seal, TRAILER_BYTES};
use pitr_format::DecodeError;
use pitr_format::bytes::Reader;

/// Number of bytes to read first from the end of an object. They include the footer of most
/// objects.
pub const TAIL_BYTES_HINT: u64 = 64 << 10;

/// The checked header, footer and trailer of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectIndex {
    /// The header.
    pub header: ObjectHeader,
    /// The frames, in order.
    pub frames: Vec<FrameEntry>,
    /// The part of the footer that belongs to the object's kind.
    pub footer: Vec<u8>,
    /// SHA-256 that covers every byte of the object. It is the name of objects that are named by
    /// content.
    pub digest: Digest,
    cipher: Option<ObjectCipher>,
}

/// Keys and name that are needed to read an object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access<'a> {
    /// The keys of the repository, if it is encrypted.
    pub keys: Option<&'a Keys>,
    /// The object's path, or an empty string if it is named by its content.
    pub name: &'a str,
}

impl Access<'_> {
    /// The cipher of an object. `None` if the object is unencrypted and may be.
    ///
    /// # Errors
    /// [`CodecError::NoKeys`], [`CodecError::NoSuchKey`], [`CodecError::NotEncrypted`].
    pub fn cipher(&self, kind: ObjectKind, seal: Option<Seal>) -> Result<Option<ObjectCipher>, CodecError> {
        match (seal, self.keys) {
            (None, None) => Ok(None),
            (None, Some(_)) if kind.is_always_plaintext() => Ok(None),
            (None, Some(_)) => Err(CodecError::NotEncrypted { kind }),
            (Some(_), None) => Err(CodecError::NoKeys { kind }),
            (Some(seal), Some(keys)) => keys.open(kind, self.name, seal).map(Some),
        }
    }
}

/// The result of reading the end of an object.
#[derive(Debug)]
pub enum FromTail {
    /// The given bytes included the whole footer.
    Ready(ObjectIndex),
    /// The footer begins earlier. Read this many bytes from the end of the object.
    Needs(u64),
}

impl ObjectIndex {
    /// Reads the index from the whole object. Does not check the frames: see
    /// [`check_frames`](Self::check_frames).
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault.
    pub fn from_whole(bytes: &[u8], kind: ObjectKind, access: Access<'_>) -> Result<Self, CodecError> {
        let head = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
        match Self::from_tail(kind, bytes.len() as u64, head, bytes, access)? {
            FromTail::Ready(index) => Ok(index),
            FromTail::Needs(_) => Err(CodecError::Layout { what: "footer", offset: 0 }),
        }
    }

    /// Checks the header and the digest of a whole object, which covers its footer. Without the key
    /// of an encrypted object, no further check is possible.
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault.
    pub fn check_outside(bytes: &[u8], kind: ObjectKind) -> Result<(), CodecError> {
        let head = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
        let (_, trailer, footer_at, trailer_at) = Self::ends(kind, bytes.len() as u64, head, bytes)?;
        let footer_at =
            footer_at.ok_or(CodecError::Layout { what: "footer", offset: trailer.footer_offset })?;
        trailer.check(head, &bytes[footer_at..trailer_at])
    }

    /// Reads header and trailer. Also returns where footer and trailer begin in the tail; the
    /// footer only if the tail contains it.
    fn ends(
        kind: ObjectKind,
        object_len: u64,
        head: &[u8],
        tail: &[u8],
    ) -> Result<(ObjectHeader, Trailer, Option<usize>, usize), CodecError> {
        let header = ObjectHeader::read(head)?;
        if header.kind != kind {
            return Err(CodecError::Kind { expected: kind, found: header.kind });
        }
        let trailer_at = tail.len().checked_sub(TRAILER_BYTES).ok_or(DecodeError::Short {
            what: "object trailer",
            offset: 0,
            needed: TRAILER_BYTES,
            left: tail.len(),
        })?;
        let trailer = Trailer::read(&tail[trailer_at..], object_len)?;
        let footer_at = trailer_at.checked_sub(trailer.footer_len as usize);
        Ok((header, trailer, footer_at, trailer_at))
    }

    /// Reads the index of an object of `object_len` bytes from its first [`HEADER_BYTES`] and its
    /// end.
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault.
    pub fn from_tail(
        kind: ObjectKind,
        object_len: u64,
        head: &[u8],
        tail: &[u8],
        access: Access<'_>,
    ) -> Result<FromTail, CodecError> {
        let (header, trailer, footer_at, trailer_at) = Self::ends(kind, object_len, head, tail)?;
        let Some(footer_at) = footer_at else {
            return Ok(FromTail::Needs(u64::from(trailer.footer_len) + TRAILER_BYTES as u64));
        };
        let stored = &tail[footer_at..trailer_at];
        trailer.check(&head[..HEADER_BYTES], stored)?;
        let cipher = access.cipher(header.kind, header.seal)?;
        Self::from_parts(header, &trailer, stored, cipher).map(FromTail::Ready)
    }

    fn from_parts(
        header: ObjectHeader,
        trailer: &Trailer,
        stored: &[u8],
        cipher: Option<ObjectCipher>,
    ) -> Result<Self, CodecError> {
        let mut raw = Vec::new();
        let sealed = sealed(cipher.as_ref(), trailer.frames as usize, true);
        decode_frame_into(&mut raw, stored, trailer.footer_raw_len as usize, sealed)?;
        let mut reader = Reader::new(&raw);
        if trailer.frames as usize > reader.left() / FrameEntry::BYTES {
            return Err(DecodeError::Range { what: "frame count", value: u64::from(trailer.frames) }.into());
        }
        let mut frames = Vec::with_capacity(trailer.frames as usize);
        let mut offset = HEADER_BYTES as u64;
        for _ in 0..trailer.frames {
            let entry = FrameEntry::read(&mut reader, offset)?;
            offset = entry.range().end;
            frames.push(entry);
        }
        if offset != trailer.footer_offset {
            return Err(CodecError::Layout { what: "end of the last frame", offset });
        }
        let payload_at = raw.len() - reader.left();
        raw.drain(..payload_at);
        let footer = raw;
        Ok(ObjectIndex { header, frames, footer, digest: trailer.digest, cipher })
    }

    /// Drops the footer's payload, for a caller that has already read it.
    #[must_use]
    pub fn without_footer(self) -> Self {
        ObjectIndex { footer: Vec::new(), ..self }
    }

    /// Checks and decodes the stored bytes of frame `number`.
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault, also if the bytes belong to another frame.
    pub fn decode(&self, number: usize, stored: &[u8]) -> Result<Vec<u8>, CodecError> {
        self.entry(number)?.decode(stored, sealed(self.cipher.as_ref(), number, false))
    }

    /// Decodes one frame of the whole object.
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault, also if `whole` is another object.
    pub fn decode_frame(&self, whole: &[u8], number: usize) -> Result<Vec<u8>, CodecError> {
        self.decode(number, stored(whole, self.entry(number)?)?)
    }

    fn entry(&self, number: usize) -> Result<&FrameEntry, CodecError> {
        let missing = CodecError::Layout { what: "frame", offset: self.frames.len() as u64 };
        self.frames.get(number).ok_or(missing)
    }

    /// Checks every frame of the whole object against the footer, without decompressing.
    ///
    /// Together with the checks that built this index, this covers every byte of the object.
    ///
    /// # Errors
    /// [`CodecError::FrameDigest`] for the first damaged frame.
    pub fn check_frames(&self, whole: &[u8]) -> Result<(), CodecError> {
        self.frames.iter().try_for_each(|frame| self.check_frame(whole, frame))
    }

    /// Like [`check_frames`](Self::check_frames), for one frame.
    ///
    /// # Errors
    /// [`CodecError::FrameDigest`].
    pub fn check_frame(&self, whole: &[u8], frame: &FrameEntry) -> Result<(), CodecError> {
        frame.check(stored(whole, frame)?)
    }

    /// Like [`check_frames`](Self::check_frames), but by CRC-32.
    ///
    /// This is for a new object whose frames were already decoded and compared. It detects changes
    /// in memory since then.
    ///
    /// # Errors
    /// Any [`CodecError`] that names the fault.
    pub fn check_unchanged(&self, whole: &[u8]) -> Result<(), CodecError> {
        self.frames.iter().try_for_each(|frame| check_crc(stored(whole, frame)?))
    }
}

fn stored<'a>(whole: &'a [u8], frame: &FrameEntry) -> Result<&'a [u8], CodecError> {
    let range = frame.range();
    let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    within
        .and_then(|(start, end)| whole.get(start..end))
        .ok_or(CodecError::Layout { what: "frame", offset: frame.offset })
}
