//! The name of a chunk, and the sums of its pieces.
//!
//! A chunk is hashed once, piece by piece, and its name is the hash of its pieces' hashes (a Merkle
//! tree of two levels, CRYPTO '87). So the sums of a stored chunk's pieces tell which pieces of
//! other bytes differ from it, without reading the chunk.

use crate::PIECE_BYTES;
use crate::sha256::{self, HASH_BYTES};
use pitr_codec::Keys;
use std::fmt;
use std::sync::Arc;

/// SHA-256 over a chunk's length and its pieces' SHA-256; HMAC-SHA-256 in an encrypted repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

impl ChunkId {
    /// Size of an id, bytes.
    pub const BYTES: usize = 32;
    /// The id of no chunk. It replaces a chunk of zeros, which is not stored.
    pub const ZERO: ChunkId = ChunkId([0; 32]);

    /// The id of these bytes in a repository that is not encrypted.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Pieces::of(bytes).id()
    }

    /// The id with these bytes.
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first half of a piece's SHA-256. Two pieces with the same sum are treated as equal. An
/// attacker who chooses both pieces needs 2^64 hashes to find such a pair. An attacker who chooses
/// one of them needs 2^128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceSum([u8; 16]);

impl PieceSum {
    /// Size of a sum, bytes.
    pub const BYTES: usize = 16;

    /// The sum of these bytes, at most [`PIECE_BYTES`].
    #[must_use]
    pub fn of(piece: &[u8]) -> Self {
        debug_assert!(piece.len() <= PIECE_BYTES);
        Self::front_of(&sha256::of(piece))
    }

    fn front_of(hash: &[u8; 32]) -> Self {
        let (front, _) = hash.as_chunks::<{ Self::BYTES }>();
        PieceSum(front[0]) // 32 bytes hold two
    }

    /// The sum with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        PieceSum(bytes)
    }

    /// The sum's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Hashed bytes. Their id and the sums of their pieces cost next to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// The bytes' length, then the SHA-256 of each piece.
    hashed: Vec<u8>,
}

impl Pieces {
    const LEN_BYTES: usize = 8;

    /// Hashes bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_each(bytes, |_| {})
    }

    /// Hashes bytes, and passes each piece to `see` while it is in the nearest cache.
    pub(crate) fn of_each(bytes: &[u8], mut see: impl FnMut(&[u8])) -> Self {
        let mut hashed = Vec::with_capacity(Self::LEN_BYTES + bytes.len().div_ceil(PIECE_BYTES) * HASH_BYTES);
        hashed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        sha256::each_piece(bytes, |piece, hash| {
            hashed.extend_from_slice(&hash);
            see(piece);
        });
        Pieces { hashed }
    }

    /// The id of these bytes in a repository that is not encrypted.
    fn id(&self) -> ChunkId {
        ChunkId(sha256::of(&self.hashed))
    }

    /// The sums of the pieces, in order.
    pub fn sums(&self) -> impl ExactSizeIterator<Item = PieceSum> + '_ {
        let (hashes, _) = self.hashed[Self::LEN_BYTES..].as_chunks();
        hashes.iter().map(PieceSum::front_of)
    }
}

/// Computes the ids of chunks, keyed if the repository is encrypted.
#[derive(Debug, Clone, Default)]
pub struct ChunkIds(Option<Arc<Keys>>);

impl ChunkIds {
    pub(crate) fn new(keys: Option<Arc<Keys>>) -> Self {
        ChunkIds(keys)
    }

    /// The id of these bytes.
    #[must_use]
    pub fn of(&self, bytes: &[u8]) -> ChunkId {
        self.of_pieces(&Pieces::of(bytes))
    }

    /// The id of hashed bytes.
    #[must_use]
    pub fn of_pieces(&self, pieces: &Pieces) -> ChunkId {
        match &self.0 {
            None => pieces.id(),
            Some(keys) => ChunkId(keys.content_id(&pieces.hashed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn names_of_version_1_stay_as_they_are() {
        // docs/format/pack.md; a change of this is a change of the format.
        let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let (one, two) = (hash(&bytes[..4096]), hash(&bytes[4096..]));
        let name = hash(&[&5000u64.to_le_bytes()[..], &one, &two].concat());
        assert_eq!(*ChunkId::of(&bytes).as_bytes(), name);
        let sums: Vec<PieceSum> = Pieces::of(&bytes).sums().collect();
        assert_eq!(sums.iter().map(|sum| &sum.0[..]).collect::<Vec<_>>(), [&one[..16], &two[..16]]);
        assert_eq!(sums[1], PieceSum::of(&bytes[4096..]));
        assert_eq!(*ChunkId::of(&[]).as_bytes(), hash(&[0; 8]));
    }

    #[test]
    fn pieces_and_their_hashes_have_different_ids() {
        let whole = vec![7; 3 * PIECE_BYTES];
        let ids = ChunkIds::default();
        let hashed = Pieces::of(&whole);
        assert_ne!(ids.of(&hashed.hashed), ids.of(&whole));
        assert_ne!(ids.of(&whole[1..]), ids.of(&whole), "also of equal pieces");
        assert_eq!(ids.of_pieces(&hashed), ids.of(&whole));
    }
}
