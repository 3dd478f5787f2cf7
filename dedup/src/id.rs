//! The name of a chunk.

use pitr_codec::Keys;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// SHA-256 of a chunk's bytes; their HMAC-SHA-256 in an encrypted repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

impl ChunkId {
    /// Bytes of an id.
    pub const BYTES: usize = 32;
    /// Names no chunk: what stands in the place of a chunk that is all zeros and not stored.
    pub const ZERO: ChunkId = ChunkId([0; 32]);

    /// The id of these bytes in a repository that is not encrypted.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        ChunkId(Sha256::digest(bytes).into())
    }

    /// The id that was kept as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ChunkId(bytes)
    }

    /// The id's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives chunks their ids: keyed, if the repository is encrypted.
#[derive(Debug, Clone, Default)]
pub struct ChunkIds(Option<Arc<Keys>>);

impl ChunkIds {
    pub(crate) fn new(keys: Option<Arc<Keys>>) -> Self {
        ChunkIds(keys)
    }

    /// The id of these bytes.
    #[must_use]
    pub fn of(&self, bytes: &[u8]) -> ChunkId {
        match &self.0 {
            None => ChunkId::of(bytes),
            Some(keys) => ChunkId(keys.content_id(bytes)),
        }
    }
}
