//! Storing chunks.

use crate::index::put_index;
use crate::open_packs::OpenPacks;
use crate::pack::{Name, OpenPack};
use crate::store::read_at;
use crate::uploader::{PackUploader, Written};
use crate::{CHUNK_BYTES_MAX, ChunkId, ChunkIds, ChunkStore, Error, Result};
use pitr_codec::Codec;
use pitr_objects::parallel;
use std::collections::{BTreeSet, HashSet};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// Stores chunks that the repository does not have yet, from any number of threads.
///
/// A calling thread hashes its chunk, looks it up, and compresses it into an open pack, which it
/// owns for that time. No bytes move to another thread. There are as many open packs as rayon has
/// threads; further callers wait. The memory is that of the open packs of 16 MiB and of two packs
/// that are being uploaded.
///
/// A stored chunk is relied on only if its pack is not condemned. Such a pack is kept as long as
/// the store's lease.
///
/// Packs get an index object when they fill one, or once a minute, and the last ones in
/// [`finish`](Self::finish). From then on other writers find their chunks. After a crash, the next
/// writer reuses indexed packs; packs without an index object are unreferenced.
#[derive(Debug)]
pub struct ChunkWriter {
    store: ChunkStore,
    codec: Codec,
    ids: ChunkIds,
    /// Chunks in these packs are stored again.
    replaced: BTreeSet<u32>,
    /// Chunks of this writer that no index object lists yet.
    unindexed: Mutex<HashSet<ChunkId>>,
    open_packs: OpenPacks,
    uploader: PackUploader,
    failed: OnceLock<Arc<Error>>,
}

impl ChunkStore {
    /// Starts storing chunks.
    #[must_use]
    pub fn writer(&self, codec: Codec) -> ChunkWriter {
        ChunkWriter::new(self.clone(), codec, BTreeSet::new(), usize::MAX)
    }

    /// A writer that stores chunks of these packs again, and has at most `open` open packs at a
    /// time.
    pub(crate) fn writer_replacing(&self, packs: BTreeSet<u32>, codec: Codec, open: usize) -> ChunkWriter {
        ChunkWriter::new(self.clone(), codec, packs, open)
    }
}

impl ChunkWriter {
    /// Has at most `open` open packs at a time.
    fn new(store: ChunkStore, codec: Codec, replaced: BTreeSet<u32>, open: usize) -> Self {
        let uploader = PackUploader::new(store.objects().clone());
        let threads = parallel::threads(store.objects().env().spawn);
        let open_packs = OpenPacks::new(threads.min(open));
        let (unindexed, failed) = (Mutex::default(), OnceLock::new());
        let ids = store.ids();
        ChunkWriter { store, codec, ids, replaced, unindexed, open_packs, uploader, failed }
    }

    /// Stores a chunk that the repository does not have, and returns its id.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::NoLease`]; the error of this or of an earlier chunk.
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

    /// Stores many chunks in parallel. Returns their ids in the same order.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub fn put_many(&self, chunks: &[Vec<u8>]) -> Result<Vec<ChunkId>> {
        parallel::map(self.store.objects().env().spawn, chunks, |raw| self.put(raw))
    }

    fn is_new(&self, id: ChunkId) -> Result<bool> {
        let is_kept = || self.store.keeps(&id, &self.replaced);
        if is_kept()? || !self.unindexed()?.insert(id) {
            return Ok(false);
        }
        // Another thread has indexed the chunk since the first check.
        if is_kept()? {
            self.unindexed()?.remove(&id);
            return Ok(false);
        }
        Ok(true)
    }

    fn unindexed(&self) -> Result<MutexGuard<'_, HashSet<ChunkId>>> {
        self.unindexed.lock().map_err(|_| Error::Died)
    }

    /// Compresses a chunk into an open pack. A full pack is uploaded first.
    fn pack(&self, name: &Name, raw: &[u8]) -> Result<()> {
        let owner = self.store.lease()?.owner();
        let new = || OpenPack::new(self.store.objects(), owner, self.codec, self.uploader.spare_buffer()?);
        let mut slot = self.open_packs.slot()?;
        let mut pack = slot.pack.take().map_or_else(new, Ok)?;
        if !pack.takes(raw.len()) {
            self.uploader.start(pack)?;
            self.index(false)?;
            pack = new()?;
        }
        pack.append(name, raw, self.codec)?;
        slot.pack = Some(pack);
        Ok(())
    }

    /// Puts index objects for uploaded packs: for those that fill one, or for all.
    fn index(&self, all: bool) -> Result<()> {
        let lease = self.store.lease()?;
        self.uploader.index(all, |packs| {
            // Without the lease the packs may have been collected as unreferenced. The lease can
            // end after this line too; readers of an index therefore check which of its packs
            // exist.
            lease.check()?;
            let stored = put_index(self.store.objects(), lease.owner(), packs)?;
            self.store.add(packs)?;
            // Removed only now, because readers find the chunks here until the index object exists.
            let mut unindexed = self.unindexed()?;
            for chunk in packs.iter().flat_map(|pack| &pack.chunks) {
                unindexed.remove(&chunk.id);
            }
            Ok(stored)
        })
    }

    /// The first error ends the writer: chunks in flight may be missing.
    fn unless_failed<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.failed.get() {
            Some(error) => Err(Error::Failed(Arc::clone(error))),
            None => work().map_err(|error| {
                let error = Arc::new(error);
                Error::Failed(Arc::clone(self.failed.get_or_init(|| error)))
            }),
        }
    }

    /// Uploads all chunks so far, so that [`read_into`](Self::read_into) finds them. Other
    /// processes find them when an index object lists them.
    ///
    /// # Errors
    /// The error of a chunk so far.
    pub fn flush(&self) -> Result<()> {
        self.unless_failed(|| {
            let packs = self.open_packs.take()?;
            packs
                .into_iter()
                .filter(|pack| !pack.is_empty())
                .try_for_each(|pack| self.uploader.start(pack))?;
            self.uploader.wait_for_all()
        })
    }

    /// Reads a chunk of the store or of this writer, into the buffer that `room` returns for this
    /// number of bytes. Chunks of this writer in open packs are flushed first.
    ///
    /// # Errors
    /// Those of [`ChunkStore::read`].
    pub fn read_into<R: DerefMut<Target = [u8]>>(
        &self,
        id: &ChunkId,
        room: impl FnOnce(usize) -> R,
    ) -> Result<R> {
        if !self.unindexed()?.contains(id) {
            return self.store.read_into(id, room);
        }
        let mut found = self.uploader.find(id)?;
        if found.is_none() {
            self.flush()?;
            found = self.uploader.find(id)?;
        }
        match found {
            Some((pack, location)) => read_at(self.store.objects(), id, &pack, &location, room),
            None => self.store.read_into(id, room), // another thread has indexed the chunk
        }
    }

    /// Uploads the last packs, then their index objects. From now on other processes find the
    /// chunks.
    ///
    /// # Errors
    /// The error of a chunk or of an index object.
    pub fn finish(self) -> Result<Written> {
        self.flush()?;
        self.unless_failed(|| self.index(true))?;
        if !self.unindexed()?.is_empty() {
            return Err(Error::Died); // a thread panicked with an open pack
        }
        self.uploader.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_objects::Objects;
    use std::time::Duration;

    #[test]
    fn the_memory_for_new_chunks_is_bounded() {
        // Law 9. About 800 of these chunks fit a pack, and an index object lists a thousand.
        const BYTES: usize = 20_000;
        let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
        let writer = store.writer(Codec::None);
        let raw = |n: u32| n.to_le_bytes().repeat(BYTES / 4);
        let mut most = 0;
        for n in 0..8_000 {
            writer.put(&raw(n)).unwrap();
            most = most.max(writer.unindexed().unwrap().len());
        }
        // Not indexed yet: an open pack, two uploads, and packs that do not fill an index object.
        let in_flight = 5 * 840;
        assert!((2_000..in_flight).contains(&most), "{most}");
        let kept = store.len().unwrap();
        assert!(kept + in_flight > 8_000, "{kept}");
        // No chunk is lost, and none is stored twice.
        let again: Vec<ChunkId> = (0..8_000).map(|n| writer.put(&raw(n)).unwrap()).collect();
        assert_eq!(writer.finish().unwrap().chunks_new, 8_000);
        assert!((0..).zip(&again).all(|(n, id)| store.read(id).unwrap() == raw(n)));
    }

    #[test]
    fn after_some_time_packs_that_do_not_fill_an_index_object_are_indexed() {
        // FAILURES 23: a writer to a slow repository, killed.
        for (every, indexed) in [(Duration::from_secs(60), 0), (Duration::ZERO, 15)] {
            let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
            let mut writer = store.writer(Codec::None);
            writer.uploader.index_interval = every;
            // Each chunk has a mebibyte, so a pack holds fifteen. The fourth pack waits for the
            // first.
            for n in 0..60u32 {
                writer.put(&n.to_le_bytes().repeat(1 << 18)).unwrap();
            }
            drop(writer);
            assert_eq!(store.len().unwrap(), indexed);
        }
    }
}
