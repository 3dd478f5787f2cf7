//! A pack: chunks as the frames of one object, their ids in its footer.

use crate::id::hex;
use crate::{ChunkId, Error, Result};
use pitr_codec::TRAILER_BYTES;
use pitr_codec::{
    Codec, Digest, EncodedFrame, FRAME_HEADER_BYTES, OBJECT_BYTES_MAX, ObjectBuilder, ObjectKind,
};
use pitr_format::bytes::Put;
use pitr_objects::Objects;

/// Bytes of footer that each chunk costs: its line in the frame table and its id.
const FOOTER_BYTES_PER_CHUNK: usize = 40 + ChunkId::BYTES;

/// Path of the pack with this digest.
pub(crate) fn pack_path(digest: &Digest) -> String {
    let name = hex(digest);
    format!("packs/{}/{name}", &name[..2])
}

/// A chunk's line in a pack: chunks lie back to back, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    pub(crate) id: ChunkId,
    /// Bytes in the pack, frame header included.
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
}

/// A pack that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pack {
    pub(crate) digest: Digest,
    pub(crate) chunks: Vec<PackedChunk>,
}

/// A pack being filled.
#[derive(Debug)]
pub(crate) struct OpenPack {
    builder: ObjectBuilder,
    chunks: Vec<PackedChunk>,
}

impl OpenPack {
    pub(crate) fn new(objects: &Objects, codec: Codec) -> Self {
        OpenPack { builder: ObjectBuilder::new(ObjectKind::Pack, objects.owner(), codec), chunks: Vec::new() }
    }

    /// True if the pack stays within its bounds with this frame in it, or is empty.
    pub(crate) fn takes(&self, frame: &EncodedFrame) -> bool {
        let footer = (self.chunks.len() + 1) * FOOTER_BYTES_PER_CHUNK + FRAME_HEADER_BYTES + TRAILER_BYTES;
        self.builder.is_empty() || self.builder.len() + frame.bytes().len() + footer <= OBJECT_BYTES_MAX
    }

    pub(crate) fn push(&mut self, id: ChunkId, frame: &EncodedFrame) {
        self.builder.push(frame);
        self.chunks.push(PackedChunk { id, stored_len: frame.stored_len(), raw_len: frame.raw_len() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Puts the pack, compared once more with its frame table, and returns it with the bytes that it takes.
    pub(crate) fn put(self, objects: &Objects) -> Result<(Pack, u64)> {
        let mut ids = Vec::with_capacity(self.chunks.len() * ChunkId::BYTES);
        self.chunks.iter().for_each(|chunk| ids.put(chunk.id.as_bytes()));
        let bytes = self.builder.finish(&ids).map_err(Error::Pack)?;
        let stored = bytes.len() as u64;
        let digest = put_named(objects, ObjectKind::Pack, bytes, pack_path)?;
        Ok((Pack { digest, chunks: self.chunks }, stored))
    }
}

/// Puts a container under a name made from its digest, after a last look at it.
pub(crate) fn put_named(
    objects: &Objects,
    kind: ObjectKind,
    bytes: Vec<u8>,
    path: impl FnOnce(&Digest) -> String,
) -> Result<Digest> {
    let digest = pitr_codec::ObjectIndex::from_whole(&bytes, kind).map_err(Error::Pack)?.digest;
    objects.put_container(&path(&digest), kind, bytes)?;
    Ok(digest)
}
