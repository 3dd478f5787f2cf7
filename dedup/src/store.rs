//! Finding and reading chunks.

use crate::index::{INDEX_FOLDER, Index, Location, decode};
use crate::pack::Pack;
use crate::{ChunkId, ChunkWriter, Error, Result};
use pitr_codec::{Codec, ObjectKind, decode_frame_into};
use pitr_objects::Objects;
use rayon::prelude::*;
use std::sync::{Arc, RwLock, RwLockReadGuard};

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

    pub(crate) fn find(&self, id: &ChunkId) -> Result<(String, Location)> {
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

pub(crate) fn read_at(objects: &Objects, id: &ChunkId, pack: String, location: &Location) -> Result<Vec<u8>> {
    let start = u64::from(location.offset);
    let stored = objects.get_range(&pack, start..start + u64::from(location.stored_len))?;
    decode_chunk(id, &pack, &stored, location.raw_len)
}

fn decode_chunk(id: &ChunkId, pack: &str, stored: &[u8], raw_len: u32) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    decode_chunk_into(&mut raw, id, pack, stored, raw_len)?;
    Ok(raw)
}

pub(crate) fn decode_chunk_into(
    raw: &mut Vec<u8>,
    id: &ChunkId,
    pack: &str,
    stored: &[u8],
    raw_len: u32,
) -> Result<()> {
    let damaged = |source| Error::Damaged { id: *id, pack: pack.to_owned(), source };
    decode_frame_into(raw, stored, raw_len as usize).map_err(damaged)?;
    if ChunkId::of(raw) == *id { Ok(()) } else { Err(Error::WrongContent { id: *id, pack: pack.to_owned() }) }
}
