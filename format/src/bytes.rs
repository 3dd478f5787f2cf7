//! Little-endian reader and writer. Every length is bounded before it is used.

use std::{error, fmt};

/// A byte sequence that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended before the value did.
    Short {
        /// Name of the value that was being read.
        what: &'static str,
        /// Offset of the value within the input, bytes.
        offset: usize,
        /// Bytes the value needs.
        needed: usize,
        /// Number of bytes that were left.
        left: usize,
    },
    /// The magic number is wrong.
    Magic {
        /// Name of the value that was being read.
        what: &'static str,
        /// The magic number found.
        found: u64,
    },
    /// The data has a version that this program does not know.
    Version {
        /// Name of the value that was being read.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The value is outside the range that the format allows.
    Range {
        /// Name of the value that was being read.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// The checksum does not match.
    Checksum {
        /// Name of the value that was being read.
        what: &'static str,
        /// The checksum stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Unread bytes follow the last value.
    Trailing {
        /// Name of the value that was being read.
        what: &'static str,
        /// Number of unread bytes.
        left: usize,
    },
    /// The text is not valid UTF-8.
    Utf8 {
        /// Name of the value that was being read.
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short { what, needed, offset, left } => {
                write!(f, "{what}: needs {needed} bytes at offset {offset}, only {left} remain")
            }
            DecodeError::Magic { what, found } => write!(f, "{what}: unknown magic number {found:#x}"),
            DecodeError::Version { what, found, known } => write!(
                f,
                "{what}: version {found} is newer than {known}, the newest this program reads; use a newer pitr"
            ),
            DecodeError::Range { what, value } => {
                write!(f, "{what}: {value} is outside the range that the format allows")
            }
            DecodeError::Checksum { what, found, computed } => {
                write!(f, "{what}: checksum mismatch: stored {found:#010x}, computed {computed:#010x}")
            }
            DecodeError::Trailing { what, left } => {
                write!(f, "{what}: {left} unexpected bytes after the end")
            }
            DecodeError::Utf8 { what } => write!(f, "{what}: not valid UTF-8"),
        }
    }
}

impl error::Error for DecodeError {}

/// Reads values from the front of a byte slice.
///
/// Each call passes the name of the value, for error messages.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

fn check_version(found: u32, known: u32, what: &'static str) -> Result<(), DecodeError> {
    if found == known { Ok(()) } else { Err(DecodeError::Version { what, found, known }) }
}

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, offset: 0 }
    }

    /// Reads a version of one byte.
    ///
    /// # Errors
    /// [`DecodeError::Version`] unless it is `known`.
    pub fn check_version_u8(&mut self, known: u8, what: &'static str) -> Result<(), DecodeError> {
        let found = self.u8(what)?;
        check_version(found.into(), known.into(), what)
    }

    /// As [`check_version_u8`](Self::check_version_u8), for a version of two bytes.
    pub fn check_version_u16(&mut self, known: u16, what: &'static str) -> Result<(), DecodeError> {
        let found = self.u16(what)?;
        check_version(found.into(), known.into(), what)
    }

    /// Number of bytes not yet read.
    #[inline]
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Offset of the next byte.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Reads the next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let left = self.left();
        if len > left {
            return Err(DecodeError::Short { what, offset: self.offset, needed: len, left });
        }
        let taken = &self.bytes[self.offset..self.offset + len];
        self.offset += len;
        Ok(taken)
    }

    /// Reads the next `N` bytes, borrowed from the input.
    #[inline]
    pub fn take_array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], DecodeError> {
        let (left, offset) = (self.left(), self.offset);
        let Some(taken) = self.bytes[offset..].first_chunk() else {
            return Err(DecodeError::Short { what, offset, needed: N, left });
        };
        self.offset += N;
        Ok(taken)
    }

    /// Reads the next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.take_array(what).copied()
    }

    /// Reads one byte.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Reads two bytes, little-endian.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Reads four bytes, little-endian.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Reads eight bytes, little-endian.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads eight bytes, little-endian, signed.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// Reads an unsigned LEB128 number of at most ten bytes.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Range { what, value: part });
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Range { what, value })
    }

    /// Reads an item count, stored as a varint. Each item takes at least `item_bytes_min` bytes.
    ///
    /// The count is at most what the remaining input can hold, so a caller may allocate memory for
    /// it.
    pub fn count(&mut self, item_bytes_min: usize, what: &'static str) -> Result<usize, DecodeError> {
        let value = self.varint(what)?;
        let most = self.left() / item_bytes_min.max(1);
        usize::try_from(value).ok().filter(|n| *n <= most).ok_or(DecodeError::Range { what, value })
    }

    /// Reads a text of at most `most` bytes. A varint before it gives its length.
    pub fn text(&mut self, most: usize, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.blob(most, what)?).map_err(|_| DecodeError::Utf8 { what })
    }

    /// Reads at most `most` bytes. A varint before them gives their number.
    pub fn blob(&mut self, most: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let value = self.varint(what)?;
        let len =
            usize::try_from(value).ok().filter(|n| *n <= most).ok_or(DecodeError::Range { what, value })?;
        self.take(len, what)
    }

    /// Returns an error unless all input was read.
    #[inline]
    pub fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { what, left }),
        }
    }
}

/// Appends values to a byte vector; the counterpart of [`Reader`].
pub trait Put {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Appends two bytes, little-endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Appends four bytes, little-endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Appends eight bytes, little-endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends eight bytes, little-endian, signed.
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends an unsigned LEB128 number.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }
    /// Appends bytes after a varint that gives their number.
    fn put_blob(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("value").unwrap(), value);
            prop_assert!(reader.finish("value").is_ok());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.varint("v");
            let _ = reader.blob(1 << 40, "b");
            let _ = reader.text(16, "t");
        }
    }

    #[test]
    fn another_version_is_refused_and_named() {
        let bytes = [2, 1, 0];
        let refused = |found| Err(DecodeError::Version { what: "it", found, known: 1 });
        assert_eq!(Reader::new(&bytes).check_version_u8(1, "it"), refused(2));
        assert_eq!(Reader::new(&bytes[1..]).check_version_u16(1, "it"), Ok(()));
        assert_eq!(Reader::new(&bytes).check_version_u16(1, "it"), refused(0x102));
        let short = Reader::new(&bytes[..1]).check_version_u16(1, "it");
        assert!(matches!(short, Err(DecodeError::Short { .. })), "{short:?}");
    }

    #[test]
    fn a_count_larger_than_the_input_is_refused() {
        // FAILURES 31: a length field that claims 1 TiB allocates no memory.
        let mut bytes = Vec::new();
        bytes.put_varint(1 << 40);
        assert!(matches!(Reader::new(&bytes).count(8, "entries"), Err(DecodeError::Range { .. })));
        assert!(matches!(Reader::new(&bytes).blob(1 << 20, "blob"), Err(DecodeError::Range { .. })));
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        assert!(Reader::new(&[0xff; 10]).varint("v").is_err());
        assert!(Reader::new(&[0x80; 11]).varint("v").is_err());
    }
}
