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
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

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
/// Packs are named by an index object as soon as they fill one, or once a minute, the last ones by [`finish`](Self::finish): from
/// then on others find their chunks. What a writer that died had named, the next one need not store again; what it had not is rubbish.
#[derive(Debug)]
pub struct ChunkWriter {
    store: ChunkStore,
    codec: Codec,
    ids: ChunkIds,
    /// Chunks that lie in these packs are stored again.
    replaced: BTreeSet<u32>,
    /// Chunks of this writer that no index names yet.
    fresh: Mutex<HashSet<ChunkId>>,
    filling: Filling,
    puts: Puts,
    failed: OnceLock<Arc<Error>>,
}

impl ChunkWriter {
    /// At most `open` packs are filled side by side.
    pub(crate) fn start(store: ChunkStore, codec: Codec, replaced: BTreeSet<u32>, open: usize) -> Self {
        let puts = Puts::new(store.objects().clone());
        let filling = Filling::new(rayon::current_num_threads().min(open));
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
        let is_kept = || self.store.keeps(&id, &self.replaced);
        if is_kept()? || !self.fresh()?.insert(id) {
            return Ok(false);
        }
        // Of another thread that had it named since the first look.
        if is_kept()? {
            self.fresh()?.remove(&id);
            return Ok(false);
        }
        Ok(true)
    }

    fn fresh(&self) -> Result<MutexGuard<'_, HashSet<ChunkId>>> {
        self.fresh.lock().map_err(|_| Error::Died)
    }

    /// Compresses a chunk into an open pack, and hands the pack over first if it is full.
    fn pack(&self, name: &Name, raw: &[u8]) -> Result<()> {
        let owner = self.store.lease()?.owner();
        let new = || OpenPack::new(self.store.objects(), owner, self.codec, self.puts.spare()?);
        let mut place = self.filling.place()?;
        let mut pack = place.pack.take().map_or_else(new, Ok)?;
        if !pack.takes(raw.len()) {
            self.puts.begin(pack)?;
            self.name(false)?;
            pack = new()?;
        }
        pack.append(name, raw, self.codec)?;
        place.pack = Some(pack);
        Ok(())
    }

    /// Has index objects name packs that were put: those that fill one, or all.
    fn name(&self, all: bool) -> Result<()> {
        let lease = self.store.lease()?;
        self.puts.name(all, |packs| {
            // Without it they may have been collected as rubbish. It can end behind this line too: whoever reads an index
            // sees for himself what is there of what it names.
            lease.check()?;
            let stored = put_index(self.store.objects(), lease.owner(), packs)?;
            self.store.add(packs)?;
            let mut fresh = self.fresh()?; // not before: until then they are looked for in here
            for chunk in packs.iter().flat_map(|pack| &pack.chunks) {
                fresh.remove(&chunk.id);
            }
            Ok(stored)
        })
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

    /// Puts every chunk so far, so that [`read_into`](Self::read_into) finds them. Others find them once an index names them.
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
        if !self.fresh()?.contains(id) {
            return self.store.read_into(id, room);
        }
        let mut found = self.puts.find(id)?;
        if found.is_none() {
            self.flush()?;
            found = self.puts.find(id)?;
        }
        match found {
            Some((pack, location)) => read_at(self.store.objects(), id, &pack, &location, room),
            None => self.store.read_into(id, room), // it was named meanwhile
        }
    }

    /// Puts what is left, then the index: from here on others find the chunks.
    ///
    /// # Errors
    /// Whatever went wrong with a chunk or with the index.
    pub fn finish(self) -> Result<Written> {
        self.flush()?;
        self.unless_failed(|| self.name(true))?;
        if !self.fresh()?.is_empty() {
            return Err(Error::Died); // a caller took a pack and did not come back with it
        }
        self.puts.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_objects::Objects;
    use std::time::Duration;

    #[test]
    fn what_is_held_of_new_chunks_does_not_follow_their_number() {
        // Law 9. Chunks of which 800 or so fit a pack, and of which an index object names some thousand.
        const BYTES: usize = 20_000;
        let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
        let writer = store.writer(Codec::None);
        let raw = |n: u32| n.to_le_bytes().repeat(BYTES / 4);
        let mut most = 0;
        for n in 0..8_000 {
            writer.put(&raw(n)).unwrap();
            most = most.max(writer.fresh().unwrap().len());
        }
        let in_flight = 5 * 840; // a pack that is filled, two on their way, and what does not fill an index object
        assert!((2_000..in_flight).contains(&most), "{most}");
        let kept = store.len().unwrap();
        assert!(kept + in_flight > 8_000, "{kept}");
        // And nothing is lost or stored twice on its way from here to there.
        let again: Vec<ChunkId> = (0..8_000).map(|n| writer.put(&raw(n)).unwrap()).collect();
        assert_eq!(writer.finish().unwrap().chunks_new, 8_000);
        assert!((0..).zip(&again).all(|(n, id)| store.read(id).unwrap() == raw(n)));
    }

    #[test]
    fn after_some_time_packs_are_named_that_do_not_fill_an_index_object() {
        // FAILURES 23: a writer to a slow repository, killed.
        for (every, named) in [(Duration::from_secs(60), 0), (Duration::ZERO, 15)] {
            let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
            let mut writer = store.writer(Codec::None);
            writer.puts.named_every = every;
            // A mebibyte each: fifteen fit a pack, the fourth pack waits for the first to be there.
            for n in 0..60u32 {
                writer.put(&n.to_le_bytes().repeat(1 << 18)).unwrap();
            }
            drop(writer);
            assert_eq!(store.len().unwrap(), named);
        }
    }
}
