//! The index of chunks: index objects, and the index of all packs.
//!
//! An index object (`docs/format/index.md`) has no frames. Its footer holds `packs varint`, then
//! for each pack `digest 32, key varint`, `salt 16` if the key is not 0, `chunks varint`, then for
//! each chunk `id 32, stored length varint, raw length varint`. Offsets follow from the lengths.

use crate::location::{Location, PackAt, PackState};
use crate::memtable::IndexMemtable;
use crate::pack::{Pack, PackedChunk, put_named};
use crate::table::{Table, TableBuilder};
use crate::{CHUNK_BYTES_MAX, ChunkId, Error, Result};
use pitr_codec::{
    Codec, Digest, FRAME_HEADER_BYTES, HEADER_BYTES, OBJECT_BYTES_LIMIT, ObjectIndex, ObjectKind, Seal,
};
use pitr_format::bytes::{Put, Reader};
use pitr_format::{DecodeError, OwnerToken};
use pitr_objects::Objects;
use pitr_objects::layout::ObjectName;
use pitr_vfs::Env;
use std::collections::{BTreeSet, HashSet};
use std::io;

/// Maximum number of chunks in an index object. Each is read and decoded as a whole, several in
/// parallel: this many chunks take 37 KB, and as much again decoded. A terabyte in chunks of a
/// mebibyte has a thousand index objects.
const CHUNKS_MAX: usize = 1 << 10;
/// Minimum size of a chunk's entry, bytes.
const CHUNK_BYTES_MIN: usize = ChunkId::BYTES + 2;

/// False for foreign files in the folder of the index objects.
pub(crate) fn is_index_path(path: &str) -> bool {
    matches!(ObjectName::parse(path), Some(ObjectName::PackIndex(_)))
}

/// Puts an index object that lists these packs, and returns its size in bytes; 0 for no packs. It
/// is not compressed: nearly all of it is hashes.
pub(crate) fn put_index(objects: &Objects, owner: OwnerToken, packs: &[Pack]) -> Result<u64> {
    if packs.is_empty() {
        return Ok(0);
    }
    let builder = objects.builder_of(owner, "", ObjectKind::PackIndex, Codec::None)?;
    let bytes = builder.finish(&encode(packs)).map_err(Error::Pack)?;
    let stored = bytes.len() as u64;
    put_named(objects, bytes.into(), ObjectName::PackIndex)?;
    Ok(stored)
}

/// Takes the packs that fill one index object, at least one. Returns `None` if all packs together
/// do not fill it.
pub(crate) fn take_full(packs: &mut Vec<Pack>) -> Option<Vec<Pack>> {
    let mut chunks = 0;
    let fits = packs.iter().take_while(|pack| {
        chunks += pack.chunks.len();
        chunks <= CHUNKS_MAX
    });
    let full = fits.count().max(1);
    (full < packs.len()).then(|| packs.drain(..full).collect())
}

fn encode(packs: &[Pack]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_varint(packs.len() as u64);
    for pack in packs {
        out.put(&pack.digest);
        out.put_varint(pack.seal.map_or(0, |seal| seal.key.into()));
        out.put(pack.seal.as_ref().map_or(&[][..], |seal| &seal.salt));
        out.put_varint(pack.chunks.len() as u64);
        for chunk in &pack.chunks {
            out.put(chunk.id.as_bytes());
            out.put_varint(u64::from(chunk.stored_len));
            out.put_varint(u64::from(chunk.raw_len));
        }
    }
    out
}

/// Reads an index object.
pub(crate) fn read_index(objects: &Objects, path: &str) -> Result<Vec<Pack>> {
    packs_of(path, &objects.index(path, ObjectKind::PackIndex)?)
}

/// The packs that the index object at `path` lists.
pub(crate) fn packs_of(path: &str, index: &ObjectIndex) -> Result<Vec<Pack>> {
    if path != ObjectName::PackIndex(index.digest).path() {
        return Err(Error::Renamed { path: path.to_owned() });
    }
    decode(&index.footer).map_err(|source| Error::Index { path: path.to_owned(), source })
}

/// Decodes the footer of an index object.
fn decode(bytes: &[u8]) -> Result<Vec<Pack>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let packs = reader.count(32 + 2, "packs of an index")?;
    let packs = (0..packs).map(|_| decode_pack(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish("pack index")?;
    Ok(packs)
}

fn decode_pack(reader: &mut Reader<'_>) -> Result<Pack, DecodeError> {
    let digest = reader.array("pack digest")?;
    let seal = match bounded(reader, u32::MAX as usize, "pack key")? {
        0 => None,
        key => Some(Seal { key, salt: reader.array("pack salt")? }),
    };
    let count = reader.count(CHUNK_BYTES_MIN, "chunks of a pack")?;
    let mut chunks = Vec::with_capacity(count);
    let mut end = HEADER_BYTES as u64;
    for _ in 0..count {
        let id = ChunkId::from_bytes(reader.array("chunk id")?);
        let stored_len = bounded(reader, OBJECT_BYTES_LIMIT, "chunk stored length")?;
        if (stored_len as usize) < FRAME_HEADER_BYTES {
            return Err(DecodeError::Range { what: "chunk stored length", value: stored_len.into() });
        }
        let raw_len = bounded(reader, CHUNK_BYTES_MAX, "chunk raw length")?;
        end += u64::from(stored_len);
        if end > OBJECT_BYTES_LIMIT as u64 {
            return Err(DecodeError::Range { what: "end of a chunk in its pack", value: end });
        }
        chunks.push(PackedChunk { id, stored_len, raw_len });
    }
    Ok(Pack { digest, seal, chunks })
}

fn bounded(reader: &mut Reader<'_>, most: usize, what: &'static str) -> Result<u32, DecodeError> {
    let value = reader.varint(what)?;
    u32::try_from(value).ok().filter(|n| *n as usize <= most).ok_or(DecodeError::Range { what, value })
}

/// The index of all packs: packs of the index objects, and packs that were added later.
#[derive(Debug)]
pub(crate) struct Index {
    /// The index objects that were read.
    pub(crate) objects: BTreeSet<String>,
    packs: Vec<IndexedPack>,
    /// Digests of `packs`: two index objects may list the same pack.
    known: HashSet<Digest>,
    /// Chunks of the index objects.
    read: Table,
    /// Chunks that `read` does not have, or has only in packs that are not kept.
    added: IndexMemtable,
}

/// Collects the packs of index objects into an [`Index`].
pub(crate) struct IndexBuilder {
    index: Index,
    table: TableBuilder,
}

impl IndexBuilder {
    pub(crate) fn new(env: &Env) -> Self {
        IndexBuilder { index: Index::new(env), table: TableBuilder::new(env) }
    }

    /// Adds a pack. A chunk of several packs is read from the one with the best state, and of
    /// those from the one with the lowest rank.
    pub(crate) fn add(&mut self, pack: &Pack, state: PackState) -> Result<()> {
        let IndexBuilder { index, table } = self;
        index.each_chunk(pack, |_, id, at| table.add(id, &Location { state, ..at }))
    }

    pub(crate) fn finish(self, objects: BTreeSet<String>) -> Result<Index> {
        let IndexBuilder { mut index, table } = self;
        index.objects = objects;
        index.read = table.finish().map_err(Error::Table)?;
        Ok(index)
    }
}

#[derive(Debug)]
struct IndexedPack {
    digest: Digest,
    seal: Option<Seal>,
    chunks: u32,
    /// Stored bytes of its chunks.
    stored: u64,
}

impl Index {
    /// An empty index.
    pub(crate) fn new(env: &Env) -> Self {
        Index {
            objects: BTreeSet::new(),
            packs: Vec::new(),
            known: HashSet::new(),
            read: Table::default(),
            added: IndexMemtable::new(env.clone()),
        }
    }

    /// Number of chunks of each pack.
    pub(crate) fn chunks_of_packs(&self) -> Vec<u32> {
        self.packs.iter().map(|pack| pack.chunks).collect()
    }

    /// Stored bytes of the chunks of each pack.
    pub(crate) fn stored_of_packs(&self) -> Vec<u64> {
        self.packs.iter().map(|pack| pack.stored).collect()
    }

    /// All chunks and their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChunkId, Location)> {
        let read = self.read.iter().map(|(id, at)| (id, self.prefer_kept(&id, at)));
        read.chain(self.added.iter().filter(|(id, _)| self.read.get(id).is_none()))
    }

    /// Adds a pack of this process.
    pub(crate) fn add(&mut self, pack: &Pack) -> Result<()> {
        // A chunk in two kept packs is read from the first.
        self.each_chunk(pack, |index, id, at| match index.get(id) {
            Some(first) if first.state == PackState::Kept => Ok(()),
            _ => index.added.add(id, at),
        })
    }

    /// Adds a pack that is not known yet, and passes its chunks to `take`.
    fn each_chunk(
        &mut self,
        pack: &Pack,
        mut take: impl FnMut(&mut Self, &ChunkId, Location) -> io::Result<()>,
    ) -> Result<()> {
        if !self.known.insert(pack.digest) {
            return Ok(());
        }
        let no = self.packs.len() as u32; // no repository has two thousand million packs
        let chunks = pack.chunks.len() as u32; // a pack is at most 16 MiB
        let stored = pack.chunks.iter().map(|chunk| u64::from(chunk.stored_len)).sum();
        self.packs.push(IndexedPack { digest: pack.digest, seal: pack.seal, chunks, stored });
        let [a, b, c, d, ..] = pack.digest;
        let rank = u32::from_be_bytes([a, b, c, d]) & !3; // a table keeps 30 bits
        let mut offset = HEADER_BYTES as u32;
        for (frame, chunk) in (0..).zip(&pack.chunks) {
            let PackedChunk { id, stored_len, raw_len } = *chunk;
            let state = PackState::Kept;
            take(self, &id, Location { rank, pack: no, frame, offset, stored_len, raw_len, state })
                .map_err(Error::Table)?;
            offset += stored_len; // bounded by OBJECT_BYTES_LIMIT when decoded or built
        }
        Ok(())
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<Location> {
        match self.read.get(id) {
            Some(at) => Some(self.prefer_kept(id, at)),
            None => self.added.get(id),
        }
    }

    /// The place of a chunk that the index objects list, unless the chunk was added since and this
    /// place is not in a kept pack.
    fn prefer_kept(&self, id: &ChunkId, at: Location) -> Location {
        if at.state == PackState::Kept { at } else { self.added.get(id).unwrap_or(at) }
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn pack_paths(&self) -> Vec<String> {
        self.packs.iter().map(|pack| ObjectName::Pack(pack.digest).path()).collect()
    }

    /// The pack of a location, for reading.
    pub(crate) fn pack(&self, location: &Location, objects: &Objects) -> Result<PackAt> {
        // In range: every location is from this index.
        let IndexedPack { digest, seal, .. } = &self.packs[location.pack as usize];
        let path = ObjectName::Pack(*digest).path();
        let cipher = objects.cipher(&path, ObjectKind::Pack, *seal)?;
        Ok(PackAt { path, cipher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packs() -> impl Strategy<Value = Vec<Pack>> {
        let chunk = (any::<[u8; 32]>(), 16..100_000u32, 0..=CHUNK_BYTES_MAX as u32);
        let pack = (any::<[u8; 32]>(), any::<Option<(u32, [u8; 16])>>(), prop::collection::vec(chunk, 0..20))
            .prop_map(|(digest, seal, chunks)| Pack {
                digest,
                seal: seal.filter(|(key, _)| *key > 0).map(|(key, salt)| Seal { key, salt }),
                chunks: chunks
                    .into_iter()
                    .map(|(id, stored_len, raw_len)| PackedChunk {
                        id: ChunkId::from_bytes(id),
                        stored_len,
                        raw_len,
                    })
                    .collect(),
            });
        prop::collection::vec(pack, 0..5)
    }

    proptest! {
        #[test]
        fn indexes_round_trip(packs in packs()) {
            prop_assert_eq!(decode(&encode(&packs)).unwrap(), packs);
        }

        #[test]
        fn any_bytes_are_an_error_or_a_value(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn lengths_past_a_pack_are_refused() {
        // FAILURES 31
        let chunk = |stored_len, raw_len| PackedChunk { id: ChunkId::ZERO, stored_len, raw_len };
        let with = |chunks| encode(&[Pack { digest: [1; 32], seal: None, chunks }]);
        let limit = OBJECT_BYTES_LIMIT as u32;
        assert!(decode(&with(vec![chunk(limit / 2, 1), chunk(limit / 4, 1)])).is_ok());
        assert!(decode(&with(vec![chunk(limit / 2, 1), chunk(limit / 2, 1)])).is_err());
        assert!(decode(&with(vec![chunk(100, CHUNK_BYTES_MAX as u32 + 1)])).is_err());
        // Two frames begin at one offset, and the second ends first.
        assert!(decode(&with(vec![chunk(0, 1), chunk(100, 1)])).is_err());
    }

    #[test]
    fn a_pack_in_two_index_objects_is_one() {
        // FAILURES 23: a collection died between two index objects, of which the second replaces
        // the first. Counted twice, the second pack would have no needed chunk.
        let chunk = PackedChunk { id: ChunkId::from_bytes([9; 32]), stored_len: 300, raw_len: 5 };
        let pack = Pack { digest: [7; 32], seal: None, chunks: vec![chunk] };
        let mut index = Index::new(&Env::system());
        index.add(&pack).unwrap();
        index.add(&pack).unwrap();
        assert_eq!((index.pack_paths().len(), index.len()), (1, 1));
    }

    #[test]
    fn a_chunk_of_two_packs_is_read_from_the_same_one_in_whatever_order_they_are_listed() {
        // FAILURES 23: after a crash while packs were repacked, a chunk is in two packs. A prune
        // rewrites index objects, so the next reader lists them in another order. If that reader
        // chose another pack, the pack that the prune kept would be unneeded right away.
        let chunk = |n| PackedChunk { id: ChunkId::from_bytes([n; 32]), stored_len: 300, raw_len: 5 };
        let pack = |digest| Pack { digest: [digest; 32], seal: None, chunks: vec![chunk(9), chunk(digest)] };
        let read_from = |order: [u8; 3]| {
            let mut builder = IndexBuilder::new(&Env::system());
            order.iter().for_each(|digest| builder.add(&pack(*digest), PackState::Kept).unwrap());
            let index = builder.finish(BTreeSet::new()).unwrap();
            index.packs[index.get(&chunk(9).id).unwrap().pack as usize].digest
        };
        for order in [[4, 8, 12], [12, 8, 4], [8, 12, 4]] {
            assert_eq!(read_from(order), [4; 32], "{order:?}");
        }
    }

    #[test]
    fn a_condemned_chunk_is_read_from_its_new_pack() {
        // FAILURES 19
        let chunk = |n| PackedChunk { id: ChunkId::from_bytes([n; 32]), stored_len: 300, raw_len: 5 };
        let pack = |digest, chunks: &[u8]| Pack {
            digest: [digest; 32],
            seal: None,
            chunks: chunks.iter().map(|n| chunk(*n)).collect(),
        };
        let mut builder = IndexBuilder::new(&Env::system());
        builder.add(&pack(1, &[1, 2]), PackState::Condemned).unwrap();
        builder.add(&pack(2, &[3]), PackState::Kept).unwrap();
        let mut index = builder.finish(BTreeSet::new()).unwrap();
        index.add(&pack(3, &[2, 3, 4])).unwrap();
        index.add(&pack(4, &[2, 4])).unwrap();
        let place = |n| index.get(&chunk(n).id).map(|at| (at.pack, at.state));
        let (kept, condemned) = (PackState::Kept, PackState::Condemned);
        let places = [(1, (0, condemned)), (2, (2, kept)), (3, (1, kept)), (4, (2, kept))];
        places.iter().for_each(|(n, at)| assert_eq!(place(*n), Some(*at), "{n}"));
        let mut all: Vec<_> = index.iter().map(|(id, at)| (id.as_bytes()[0], (at.pack, at.state))).collect();
        all.sort_unstable();
        assert_eq!(all, places);
        assert_eq!(index.len(), 4);
    }

    #[test]
    fn a_large_index_is_spread_over_objects() {
        let pack = |n: usize| Pack {
            digest: [0; 32],
            seal: None,
            chunks: vec![PackedChunk { id: ChunkId::ZERO, stored_len: 16, raw_len: 0 }; n],
        };
        let taken = |sizes: &[usize]| {
            let mut packs: Vec<Pack> = sizes.iter().map(|n| pack(*n)).collect();
            (take_full(&mut packs).map_or(0, |full| full.len()), packs.len())
        };
        assert_eq!(taken(&[CHUNKS_MAX, 1]), (1, 1));
        assert_eq!(taken(&[CHUNKS_MAX - 2, 2, 3, 4]), (2, 2));
        assert_eq!(taken(&[CHUNKS_MAX + 1, 1]), (1, 1));
        assert_eq!(taken(&[1, 2, 3]), (0, 3));
        assert_eq!(taken(&[]), (0, 0));
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/index.md; a change of this is a change of the format.
        let chunk = PackedChunk { id: ChunkId::from_bytes([9; 32]), stored_len: 300, raw_len: 5 };
        let rest = [&[1][..], &[9; 32], &[0xac, 0x02, 5]].concat();
        let plain = [&[1][..], &[7; 32], &[0], &rest].concat();
        let sealed = [&[1][..], &[7; 32], &[2], &[3; 16], &rest].concat();
        let pack = |seal| Pack { digest: [7; 32], seal, chunks: vec![chunk] };
        assert_eq!(encode(&[pack(None)]), plain);
        assert_eq!(encode(&[pack(Some(Seal { key: 2, salt: [3; 16] }))]), sealed);
    }
}
