//! The identity of a snapshot.

use std::fmt;
use std::str::FromStr;

/// Random identity of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub [u8; 16]);

impl SnapshotId {
    /// The first eight hexadecimal digits, which the root's path contains.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }

    /// The first bytes, which the path of the root contains.
    #[must_use]
    pub fn front(&self) -> [u8; 4] {
        let (quarters, _) = self.0.as_chunks();
        quarters[0] // of 16 bytes
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SnapshotId {
    type Err = NoSnapshotId;

    /// Parses 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NoSnapshotId> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(NoSnapshotId)?;
        Ok(SnapshotId(id.to_be_bytes()))
    }
}

/// The text is not a snapshot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot id has 32 hexadecimal digits")]
pub struct NoSnapshotId;

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
