//! Numbers and hashes as lower-case hexadecimal of a fixed width.

use std::fmt;
use std::str::FromStr;

/// Digits of a timeline, and of a root's id.
pub(super) const NARROW: usize = 8;
/// Digits of an LSN, an epoch, a counter, a [`ShortId`].
pub(super) const WIDE: usize = 16;

/// The number that these digits spell. `None` unless they are `width` lower-case hexadecimal
/// digits.
pub(super) fn number(text: &str, width: usize) -> Option<u64> {
    let is_plain = text.len() == width && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The bytes that these digits write.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(number(text.get(2 * at..2 * at + 2)?, 2)?).ok()?;
    }
    Some(bytes)
}

/// Writes bytes as digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The random identity of a lease, a condemnation or a key slot. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(u64);

impl ShortId {
    /// An identity from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        ShortId(u64::from_be_bytes(bytes))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        number(text, WIDE).map(ShortId)
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity has 16 hexadecimal digits")]
pub struct NotAShortId;

impl FromStr for ShortId {
    type Err = NotAShortId;

    fn from_str(text: &str) -> Result<Self, NotAShortId> {
        ShortId::parse(text).ok_or(NotAShortId)
    }
}
