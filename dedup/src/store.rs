//! Finding and reading chunks.

use crate::index::{INDEX_FOLDER, Index, Location, decode};
use crate::pack::Pack;
use crate::{ChunkId, ChunkWriter, Error, Result};
use pitr_codec::{Codec, ObjectKind, decode_frame};
use pitr_objects::Objects;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// Bytes between two wanted chunks of a pack that are read rather than asked for in two requests.
const GAP_BYTES_MAX: u32 = 256 << 10;
/// Most bytes of one request.
const REQUEST_BYTES_MAX: u32 = 8 << 20;
/// Requests whose answers are held at once.
const REQUESTS_MAX: usize = 4;

/// The chunks of a repository; clones share one index.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    objects: Objects,
    index: Arc<RwLock<Index>>,
}

impl ChunkStore {
    /// Reads the index of all packs.
    ///
    /// # Errors
    /// Those of the repository; an index object that can't be read is named.
    pub fn open(objects: Objects) -> Result<Self> {
        let entries = objects.list(INDEX_FOLDER)?;
        let mut index = Index::default();
        for wave in entries.chunks(64) {
            let packs: Vec<Vec<Pack>> = wave
                .par_iter()
                .map(|entry| {
                    let footer = objects.get_footer(&entry.path, ObjectKind::PackIndex)?;
                    decode(&footer).map_err(|source| Error::Index { path: entry.path.clone(), source })
                })
                .collect::<Result<_>>()?;
            packs.iter().flatten().for_each(|pack| index.add(pack));
        }
        Ok(ChunkStore { objects, index: Arc::new(RwLock::new(index)) })
    }

    /// The repository's objects.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Begins storing chunks.
    #[must_use]
    pub fn writer(&self, codec: Codec) -> ChunkWriter {
        ChunkWriter::start(self.clone(), codec)
    }

    /// True if the chunk is stored.
    ///
    /// # Errors
    /// [`Error::Died`] if a thread died while it changed the index.
    pub fn contains(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.index()?.get(id).is_some())
    }

    /// Length of a stored chunk, bytes.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn raw_len(&self, id: &ChunkId) -> Result<u32> {
        self.index()?.get(id).map(|location| location.raw_len).ok_or(Error::Unknown { id: *id })
    }

    /// Number of chunks stored.
    ///
    /// # Errors
    /// As [`contains`](Self::contains).
    pub fn len(&self) -> Result<usize> {
        Ok(self.index()?.len())
    }

    /// True if no chunk is stored.
    ///
    /// # Errors
    /// As [`contains`](Self::contains).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads a chunk and checks that it is the one.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Damaged`], [`Error::WrongContent`]; those of the repository.
    pub fn read(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let (pack, location) = self.find(id)?;
        read_at(&self.objects, id, pack, &location)
    }

    /// Reads many chunks, those of one pack in few requests and in parallel, and hands each to `sink` with its place in
    /// `ids`, in an order that suits the packs. At most 32 MiB of stored bytes are held at once, and what they decode to.
    ///
    /// # Errors
    /// As [`read`](Self::read); what `sink` returns. Nothing is handed out after an error.
    pub fn read_batch<E: From<Error>>(
        &self,
        ids: &[ChunkId],
        mut sink: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut wanted = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            let (pack, location) = self.find(id)?;
            wanted.push(Wanted { place, id: *id, pack, location });
        }
        wanted.sort_by_key(|one| (one.location.pack, one.location.offset));
        for wave in requests(&wanted).chunks(REQUESTS_MAX) {
            let chunks: Vec<(usize, Vec<u8>)> = wave
                .par_iter()
                .map(|range| self.request(&wanted[range.clone()]))
                .collect::<Result<Vec<_>>>()?
                .concat();
            for (place, raw) in chunks {
                sink(place, raw)?;
            }
        }
        Ok(())
    }

    /// Reads chunks of one pack with one request.
    fn request(&self, wanted: &[Wanted]) -> Result<Vec<(usize, Vec<u8>)>> {
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(Vec::new()) };
        let start = first.location.offset;
        let range = u64::from(start)..u64::from(last.location.offset) + u64::from(last.location.stored_len);
        let bytes = self.objects.get_range(&first.pack, range)?;
        let decode = |one: &Wanted| {
            let at = (one.location.offset - start) as usize; // sorted by offset
            let stored = &bytes[at..at + one.location.stored_len as usize];
            Ok((one.place, decode_chunk(&one.id, &one.pack, stored, one.location.raw_len)?))
        };
        wanted.par_iter().map(decode).collect()
    }

    fn find(&self, id: &ChunkId) -> Result<(String, Location)> {
        let index = self.index()?;
        let location = index.get(id).ok_or(Error::Unknown { id: *id })?;
        Ok((index.pack_path(&location), location))
    }

    pub(crate) fn add(&self, packs: &[Pack]) -> Result<()> {
        let mut index = self.index.write().map_err(|_| Error::Died)?;
        packs.iter().for_each(|pack| index.add(pack));
        Ok(())
    }

    fn index(&self) -> Result<RwLockReadGuard<'_, Index>> {
        self.index.read().map_err(|_| Error::Died)
    }
}

struct Wanted {
    place: usize,
    id: ChunkId,
    pack: String,
    location: Location,
}

/// Cuts what is wanted, sorted by place, into ranges that are worth one request each.
fn requests(wanted: &[Wanted]) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    for (no, one) in wanted.iter().enumerate() {
        let joins = requests.last().is_some_and(|last| {
            let (first, before) = (&wanted[last.start].location, &wanted[no - 1].location);
            let gap = one.location.offset.saturating_sub(before.offset + before.stored_len);
            let whole = one.location.offset + one.location.stored_len - first.offset;
            first.pack == one.location.pack && gap <= GAP_BYTES_MAX && whole <= REQUEST_BYTES_MAX
        });
        match requests.last_mut() {
            Some(last) if joins => last.end = no + 1,
            _ => requests.push(no..no + 1),
        }
    }
    requests
}

pub(crate) fn read_at(objects: &Objects, id: &ChunkId, pack: String, location: &Location) -> Result<Vec<u8>> {
    let start = u64::from(location.offset);
    let stored = objects.get_range(&pack, start..start + u64::from(location.stored_len))?;
    decode_chunk(id, &pack, &stored, location.raw_len)
}

fn decode_chunk(id: &ChunkId, pack: &str, stored: &[u8], raw_len: u32) -> Result<Vec<u8>> {
    let damaged = |source| Error::Damaged { id: *id, pack: pack.to_owned(), source };
    let raw = decode_frame(stored, raw_len as usize).map_err(damaged)?;
    if ChunkId::of(&raw) == *id {
        Ok(raw)
    } else {
        Err(Error::WrongContent { id: *id, pack: pack.to_owned() })
    }
}
