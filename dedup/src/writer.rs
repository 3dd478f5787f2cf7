//! Storing chunks.

use crate::filling::Filling;
use crate::index::put_index;
use crate::pack::{Name, OpenPack};
use crate::puts::Puts;
use crate::store::read_at;
use crate::{CHUNK_BYTES_MAX, ChunkId, ChunkIds, ChunkStore, Error, Result};
use pitr_codec::Codec;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex, OnceLock};

/// What a writer stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Their bytes before compression.
    pub raw_new: u64,
    /// Bytes added to the repository: packs and index.
    pub stored: u64,
    /// Packs added.
    pub packs: u64,
}

/// Stores chunks that the repository does not have yet, from any number of threads.
///
/// Whoever puts a chunk hashes it, looks it up, and compresses it into a pack that is his until he is done: no bytes change
/// hands. As many packs are open as rayon has threads, whoever calls beside them waits; a writer holds those, of 16 MiB, and
/// two that are being put.
///
/// What the repository has is relied on only as far as it is not condemned; what is relied on stays while the store's
/// lease does.
///
/// Nothing is found by others before [`finish`](Self::finish). A writer that is dropped instead leaves at most packs
/// that no index names.
#[derive(Debug)]
pub struct ChunkWriter {
    store: ChunkStore,
    codec: Codec,
    ids: ChunkIds,
    /// Chunks that lie in these packs are stored again.
    replaced: BTreeSet<u32>,
    /// Chunks of this writer, packed or on their way.
    fresh: Mutex<HashSet<ChunkId>>,
    filling: Filling,
    puts: Puts,
    failed: OnceLock<Arc<Error>>,
}

impl ChunkWriter {
    pub(crate) fn start(store: ChunkStore, codec: Codec, replaced: BTreeSet<u32>) -> Self {
        let puts = Puts::new(store.objects().clone());
        let filling = Filling::new(rayon::current_num_threads());
        let (fresh, failed) = (Mutex::default(), OnceLock::new());
        let ids = store.ids();
        ChunkWriter { store, codec, ids, replaced, fresh, filling, puts, failed }
    }

    /// Stores a chunk, unless it is there already, and returns its id.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::NoLease`]; whatever went wrong with this chunk or one before it.
    pub fn put(&self, raw: &[u8]) -> Result<ChunkId> {
        if raw.len() > CHUNK_BYTES_MAX {
            return Err(Error::TooLarge { bytes: raw.len(), most: CHUNK_BYTES_MAX });
        }
        let name = Name::of(&self.ids, raw);
        self.unless_failed(|| {
            if self.is_new(name.id)? {
                self.pack(&name, raw)?;
            }
            Ok(name.id)
        })
    }

    /// Stores many chunks in parallel; their ids come in the same order.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_many(&self, chunks: &[Vec<u8>]) -> Result<Vec<ChunkId>> {
        chunks.par_iter().map(|raw| self.put(raw)).collect()
    }

    fn is_new(&self, id: ChunkId) -> Result<bool> {
        Ok(!self.store.keeps(&id, &self.replaced)? && self.fresh.lock().map_err(|_| Error::Died)?.insert(id))
    }

    /// Compresses a chunk into an open pack, and hands the pack over first if it is full.
    fn pack(&self, name: &Name, raw: &[u8]) -> Result<()> {
        let owner = self.store.lease()?.owner();
        let new = || OpenPack::new(self.store.objects(), owner, self.codec, self.puts.spare()?);
        let mut place = self.filling.place()?;
        let mut pack = place.pack.take().map_or_else(new, Ok)?;
        if !pack.takes(raw.len()) {
            self.puts.begin(pack)?;
            pack = new()?;
        }
        pack.append(name, raw, self.codec)?;
        place.pack = Some(pack);
        Ok(())
    }

    /// The first error ends the writer: what was on its way then may be missing.
    fn unless_failed<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.failed.get() {
            Some(error) => Err(Error::Failed(Arc::clone(error))),
            None => work().map_err(|error| {
                let error = Arc::new(error);
                Error::Failed(Arc::clone(self.failed.get_or_init(|| error)))
            }),
        }
    }

    /// Puts every chunk so far, so that [`read_into`](Self::read_into) finds them. They stay unknown to others.
    ///
    /// # Errors
    /// Whatever went wrong with a chunk so far.
    pub fn flush(&self) -> Result<()> {
        self.unless_failed(|| {
            let packs = self.filling.take()?;
            packs.into_iter().filter(|pack| !pack.is_empty()).try_for_each(|pack| self.puts.begin(pack))?;
            self.puts.settle_all()
        })
    }

    /// Reads a chunk of the store or of this writer, into the room that `room` gives for so many bytes; one of its own that is
    /// still on its way is flushed first.
    ///
    /// # Errors
    /// As [`ChunkStore::read`].
    pub fn read_into<R: DerefMut<Target = [u8]>>(
        &self,
        id: &ChunkId,
        room: impl FnOnce(usize) -> R,
    ) -> Result<R> {
        if !self.fresh.lock().map_err(|_| Error::Died)?.contains(id) {
            return self.store.read_into(id, room);
        }
        let mut found = self.puts.find(id)?;
        if found.is_none() {
            self.flush()?;
            found = self.puts.find(id)?;
        }
        let (pack, location) = found.ok_or(Error::Unknown { id: *id })?;
        read_at(self.store.objects(), id, &pack, &location, room)
    }

    /// Puts what is left, then the index: from here on others find the chunks.
    ///
    /// # Errors
    /// Whatever went wrong with a chunk or with the index.
    pub fn finish(self) -> Result<Written> {
        self.flush()?;
        let packed = self.puts.take()?;
        if packed.chunks() != self.fresh.lock().map_err(|_| Error::Died)?.len() as u64 {
            return Err(Error::Died); // a caller took a pack and did not come back with it
        }
        let owner = self.store.lease()?.owner();
        let index = put_index(self.store.objects(), owner, &packed.packs)?;
        self.store.add(&packed.packs)?;
        Ok(Written {
            chunks_new: packed.chunks(),
            raw_new: packed.raw(),
            stored: packed.stored + index,
            packs: packed.packs.len() as u64,
        })
    }
}
