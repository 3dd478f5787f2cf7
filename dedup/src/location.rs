//! Where a chunk is stored.

use pitr_codec::ObjectCipher;

/// The place of a stored chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// The first bytes of the pack's digest. A chunk may be in several packs. Of those with the
    /// best state, the pack with the lowest rank is read. So every process chooses the same pack,
    /// whatever the order in which it reads the index objects.
    pub(crate) rank: u32,
    /// Number of the pack in the index.
    pub(crate) pack: u32,
    /// Number of the chunk's frame in the pack.
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) state: PackState,
}

/// Whether a pack can be relied on, the best state first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PackState {
    /// The pack exists at least as long as the lease.
    Kept,
    /// The pack is condemned. It may be deleted by the time this writer has published an object
    /// that needs it.
    Condemned,
    /// The pack does not exist, although an index object lists it. Either a writer whose lease had
    /// lapsed has put the index object, or somebody deleted the pack.
    Missing,
}

/// A pack to read from.
#[derive(Debug, Clone)]
pub(crate) struct PackAt {
    pub(crate) path: String,
    pub(crate) cipher: Option<ObjectCipher>,
}
