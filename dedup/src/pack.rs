//! A pack: chunks as frames of one object, with their ids and piece sums in the footer.

use crate::{ChunkId, ChunkIds, Error, PIECE_BYTES, PieceSum, Pieces, Result};
use pitr_codec::{
    Codec, CodecError, Digest, FRAME_HEADER_BYTES, OBJECT_BYTES_MAX, ObjectBuilder, ObjectIndex, ObjectKind,
    Seal, TRAILER_BYTES,
};
use pitr_format::bytes::Put;
use pitr_format::{DecodeError, OwnerToken};
use pitr_objects::layout::ObjectName;
use pitr_objects::{Bytes, Objects};

/// Bytes in the footer for each chunk besides its piece sums: an entry in the frame table and an
/// id.
const FOOTER_BYTES_PER_CHUNK: usize = 40 + ChunkId::BYTES;
/// Maximum bytes of a frame besides its content: a header, and a tag if it is encrypted.
const AROUND_FRAME_BYTES: usize = FRAME_HEADER_BYTES + 16;
/// Capacity of a pack's buffer: a pack, and space for a codec after its frames. Only written pages
/// take memory. The rest makes the buffer so large that the allocator returns it to the system on
/// free. glibc keeps buffers below 32 MiB, for each thread, and a watcher takes snapshots for
/// months.
const ROOM_BYTES: usize = OBJECT_BYTES_MAX + (20 << 20);

/// A chunk's name, its piece sums, and a checksum that was computed with them. The checksum shows
/// later whether the bytes have changed, and costs less than another hash.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) id: ChunkId,
    pieces: Pieces,
    crc: u32,
}

impl Name {
    pub(crate) fn of(ids: &ChunkIds, raw: &[u8]) -> Self {
        let mut crc = crc32fast::Hasher::new();
        let pieces = Pieces::of_each(raw, |piece| crc.update(piece));
        Name { id: ids.of_pieces(&pieces), pieces, crc: crc.finalize() }
    }
}

/// The entry of a chunk in a pack. Chunks are contiguous and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    pub(crate) id: ChunkId,
    /// Bytes in the pack, frame header included.
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
}

/// A stored pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pack {
    pub(crate) digest: Digest,
    pub(crate) seal: Option<Seal>,
    pub(crate) chunks: Vec<PackedChunk>,
}

/// A pack being filled.
#[derive(Debug)]
pub(crate) struct OpenPack {
    builder: ObjectBuilder,
    chunks: Vec<PackedChunk>,
    /// Piece sums of all chunks.
    sums: Vec<u8>,
}

impl OpenPack {
    /// Uses the buffer of an earlier pack, or a new one.
    pub(crate) fn new(
        objects: &Objects,
        owner: OwnerToken,
        codec: Codec,
        buffer: Option<Vec<u8>>,
    ) -> Result<Self> {
        let builder = objects.builder_of(owner, "", ObjectKind::Pack, codec)?;
        let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(ROOM_BYTES));
        Ok(OpenPack { builder: builder.within(buffer), chunks: Vec::new(), sums: Vec::new() })
    }

    /// True if the pack is empty, or if a chunk of this length fits even if it does not compress.
    pub(crate) fn takes(&self, raw_len: usize) -> bool {
        let chunks = (self.chunks.len() + 1) * FOOTER_BYTES_PER_CHUNK;
        let sums = self.sums.len() + raw_len.div_ceil(PIECE_BYTES) * PieceSum::BYTES;
        let around = chunks + sums + 2 * AROUND_FRAME_BYTES + TRAILER_BYTES;
        self.builder.is_empty() || self.builder.len() + raw_len + around <= OBJECT_BYTES_MAX
    }

    /// Adds a chunk as a frame that is known to decode into the named bytes. After an error the
    /// pack must not be put.
    pub(crate) fn append(&mut self, name: &Name, raw: &[u8], codec: Codec) -> Result<()> {
        let id = name.id;
        let frame = self.builder.append_named(codec, raw, name.crc).map_err(|source| match source {
            CodecError::VerificationFailed => Error::EncodedWrongly { id },
            source => Error::Pack(source),
        })?;
        let (stored_len, raw_len) = (frame.stored_len, frame.raw_len);
        self.chunks.push(PackedChunk { id, stored_len, raw_len });
        name.pieces.sums().for_each(|sum| self.sums.put(sum.as_bytes()));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Compares the pack with its frame table once more, and puts it.
    pub(crate) fn put(self, objects: &Objects) -> Result<Stored> {
        let seal = self.builder.seal();
        let mut footer = Vec::with_capacity(self.chunks.len() * ChunkId::BYTES + self.sums.len());
        self.chunks.iter().for_each(|chunk| footer.put(chunk.id.as_bytes()));
        footer.put(&self.sums);
        let bytes = self.builder.finish(&footer).map_err(Error::Pack)?;
        let stored = bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        let digest = put_named(objects, bytes.clone(), ObjectName::Pack)?;
        let buffer = bytes.try_into_mut().ok().map(Vec::from);
        Ok(Stored { pack: Pack { digest, seal, chunks: self.chunks }, stored, buffer })
    }
}

/// A stored pack and its buffer.
pub(crate) struct Stored {
    pub(crate) pack: Pack,
    /// Size of the object, bytes.
    pub(crate) stored: u64,
    /// The buffer, if nothing refers to it any more.
    pub(crate) buffer: Option<Vec<u8>>,
}

/// The footer of a pack: the ids and piece sums of its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackFooter {
    pub(crate) ids: Vec<ChunkId>,
    sums: Vec<PieceSum>,
    /// The end of the sums of each chunk.
    ends: Vec<usize>,
}

impl PackFooter {
    /// Decodes the footer of the pack at `path`.
    pub(crate) fn decode(path: &str, index: &ObjectIndex) -> Result<Self> {
        if ObjectName::Pack(index.digest).path() != path {
            return Err(Error::Renamed { path: path.to_owned() });
        }
        let wrong = |what, value: usize| {
            let source = DecodeError::Range { what, value: value as u64 };
            Error::Index { path: path.to_owned(), source }
        };
        let of_ids = index.frames.len() * ChunkId::BYTES; // frames of a bounded object
        let (ids, sums) =
            index.footer.split_at_checked(of_ids).ok_or(wrong("chunk ids of a pack", of_ids))?;
        let ends: Vec<usize> = index
            .frames
            .iter()
            .scan(0, |end, frame| {
                *end += (frame.raw_len as usize).div_ceil(PIECE_BYTES); // bounded too
                Some(*end)
            })
            .collect();
        if sums.len() != ends.last().unwrap_or(&0) * PieceSum::BYTES {
            return Err(wrong("sums of a pack", sums.len()));
        }
        let (ids, sums) = (ids.as_chunks().0, sums.as_chunks().0);
        Ok(PackFooter {
            ids: ids.iter().map(|id| ChunkId::from_bytes(*id)).collect(),
            sums: sums.iter().map(|sum| PieceSum::from_bytes(*sum)).collect(),
            ends,
        })
    }

    /// The piece sums of a chunk, given the number of its frame.
    pub(crate) fn sums(&self, frame: usize) -> Option<&[PieceSum]> {
        let begin = frame.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.sums.get(begin..*self.ends.get(frame)?)
    }

    /// Approximate size in memory, bytes.
    pub(crate) fn weight(&self) -> usize {
        self.sums.len() * PieceSum::BYTES + self.ids.len() * (ChunkId::BYTES + size_of::<usize>())
    }
}

/// Checks a container once more and puts it under a name with its digest.
pub(crate) fn put_named(
    objects: &Objects,
    bytes: Bytes,
    name: impl Fn(Digest) -> ObjectName,
) -> Result<Digest> {
    let kind = name(Digest::default()).kind();
    let digest = objects.index_of("", kind, &bytes)?.digest;
    objects.put_container(&name(digest).path(), kind, bytes)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_changes_in_memory_is_refused() {
        // FAILURES 30
        let objects = Objects::memory().unwrap();
        let mut raw = vec![5; 10_000];
        let name = Name::of(&ChunkIds::default(), &raw);
        let append = |raw: &[u8]| {
            OpenPack::new(&objects, objects.owner(), Codec::None, None)?.append(&name, raw, Codec::None)
        };
        assert!(append(&raw).is_ok());
        raw[9_999] ^= 0x80;
        assert!(matches!(append(&raw), Err(Error::EncodedWrongly { .. })));
    }

    #[test]
    fn a_pack_stays_within_its_limit_for_incompressible_chunks() {
        let objects = Objects::memory().unwrap();
        let mut noise = vec![0; 1 << 20];
        fill_with_noise(&mut noise);
        let mut pack = OpenPack::new(&objects, objects.owner(), Codec::default(), None).unwrap();
        let mut packed = 0;
        while pack.takes(noise.len()) {
            noise[..8].copy_from_slice(&[packed; 8]);
            pack.append(&Name::of(&ChunkIds::default(), &noise), &noise, Codec::default()).unwrap();
            packed += 1;
        }
        assert_eq!(packed, 15);
        let put = pack.put(&objects).unwrap();
        assert!(put.stored <= OBJECT_BYTES_MAX as u64);
    }

    #[test]
    fn a_footer_of_another_length_is_refused() {
        let objects = Objects::memory().unwrap();
        let footer_of = |payload: &[u8]| {
            let mut builder = objects.builder("", ObjectKind::Pack, Codec::None).unwrap();
            builder.append(Codec::None, &[1; 5000]).unwrap();
            let index = objects.index_of("", ObjectKind::Pack, &builder.finish(payload).unwrap()).unwrap();
            PackFooter::decode(&ObjectName::Pack(index.digest).path(), &index)
        };
        // An id and two piece sums.
        assert!(footer_of(&[7; 32 + 2 * 16]).is_ok());
        for len in [0, 31, 32, 48, 32 + 31, 32 + 33, 32 + 3 * 16] {
            assert!(matches!(footer_of(&vec![7; len]), Err(Error::Index { .. })), "{len}");
        }
    }

    #[test]
    fn the_buffer_of_a_stored_pack_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::create_local(folder.path()).unwrap();
        let mut pack = OpenPack::new(&objects, objects.owner(), Codec::None, None).unwrap();
        pack.append(&Name::of(&ChunkIds::default(), b"x"), b"x", Codec::None).unwrap();
        let buffer = pack.put(&objects).unwrap().buffer.unwrap();
        let (at, room) = (buffer.as_ptr(), buffer.capacity());
        assert!(room >= OBJECT_BYTES_MAX);
        let mut pack = OpenPack::new(&objects, objects.owner(), Codec::None, Some(buffer)).unwrap();
        pack.append(&Name::of(&ChunkIds::default(), b"y"), b"y", Codec::None).unwrap();
        let again = pack.put(&objects).unwrap().buffer.unwrap();
        assert_eq!((again.as_ptr(), again.capacity()), (at, room));
    }

    fn fill_with_noise(out: &mut [u8]) {
        let mut state = 1u64;
        out.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        });
    }
}
