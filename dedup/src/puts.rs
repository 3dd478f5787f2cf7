//! Packs on their way to the repository.

use crate::index::{Index, Location, PackAt};
use crate::pack::{OpenPack, Pack, Stored};
use crate::{ChunkId, Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_objects::Objects;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

/// Packs that are being put at once: while one is synced another is written.
const PUTS_MAX: usize = 2;

/// What was put.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) packs: Vec<Pack>,
    pub(crate) stored: u64,
    /// Where its chunks lie.
    index: Index,
}

impl Packed {
    pub(crate) fn chunks(&self) -> u64 {
        self.packs.iter().map(|pack| pack.chunks.len() as u64).sum()
    }

    pub(crate) fn raw(&self) -> u64 {
        self.packs.iter().flat_map(|pack| &pack.chunks).map(|chunk| u64::from(chunk.raw_len)).sum()
    }
}

/// Puts packs on a few threads, which stay: each new one would get memory of its own from the allocator. Who brings one pack more
/// than there are threads waits for one that was put.
#[derive(Debug)]
pub(crate) struct Puts {
    objects: Objects,
    /// Gone once no more is to come.
    to_put: Option<Sender<OpenPack>>,
    packs: Receiver<OpenPack>,
    put: Sender<Result<Stored>>,
    outcomes: Receiver<Result<Stored>>,
    under_way: Mutex<UnderWay>,
    packed: RwLock<Packed>,
    /// Buffers of packs that were put.
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    packs: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Puts {
    pub(crate) fn new(objects: Objects) -> Self {
        let (to_put, packs) = bounded(PUTS_MAX);
        let (put, outcomes) = bounded(PUTS_MAX);
        let (under_way, packed, spare) = (Mutex::default(), RwLock::default(), Mutex::default());
        Puts { objects, to_put: Some(to_put), packs, put, outcomes, under_way, packed, spare }
    }

    /// Begins to put a pack.
    ///
    /// # Errors
    /// What went wrong with one before it.
    pub(crate) fn begin(&self, pack: OpenPack) -> Result<()> {
        let mut under_way = self.under_way.lock().map_err(|_| Error::Died)?;
        if under_way.packs == PUTS_MAX {
            self.settle_one(&mut under_way)?;
        }
        under_way.packs += 1;
        if under_way.threads.len() < under_way.packs {
            under_way.threads.push(self.thread());
        }
        self.to_put.as_ref().and_then(|to_put| to_put.send(pack).ok()).ok_or(Error::Died)
    }

    /// Waits for all puts, also after one that failed: none goes on behind the caller's back.
    pub(crate) fn settle_all(&self) -> Result<()> {
        let mut under_way = self.under_way.lock().map_err(|_| Error::Died)?;
        (0..under_way.packs).map(|_| self.settle_one(&mut under_way)).fold(Ok(()), Result::and)
    }

    fn thread(&self) -> JoinHandle<()> {
        let (objects, packs, outcomes) = (self.objects.clone(), self.packs.clone(), self.put.clone());
        std::thread::spawn(move || {
            for pack in packs {
                // Whoever waits for the outcome must not wait for ever.
                let put = catch_unwind(AssertUnwindSafe(|| pack.put(&objects)));
                let _ = outcomes.send(put.unwrap_or(Err(Error::Died))); // there is room for it
            }
        })
    }

    fn settle_one(&self, under_way: &mut UnderWay) -> Result<()> {
        under_way.packs -= 1; // both callers have counted
        let Stored { pack, stored, buffer } = self.outcomes.recv().map_err(|_| Error::Died)??;
        self.spare.lock().map_err(|_| Error::Died)?.extend(buffer);
        let mut packed = self.packed.write().map_err(|_| Error::Died)?;
        packed.stored += stored;
        packed.index.add(&pack);
        packed.packs.push(pack);
        Ok(())
    }

    /// A buffer for another pack, if one has served.
    pub(crate) fn spare(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.spare.lock().map_err(|_| Error::Died)?.pop())
    }

    /// Where a chunk of these packs lies.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<(PackAt, Location)>> {
        let packed = self.packed.read().map_err(|_| Error::Died)?;
        let Some(location) = packed.index.get(id) else { return Ok(None) };
        Ok(Some((packed.index.pack(&location, &self.objects)?, location)))
    }

    /// What was put so far.
    pub(crate) fn take(&self) -> Result<Packed> {
        Ok(std::mem::take(&mut *self.packed.write().map_err(|_| Error::Died)?))
    }
}

impl Drop for Puts {
    /// Waits for puts that are under way, so that none outlives the writer.
    fn drop(&mut self) {
        self.to_put = None;
        let under_way = self.under_way.get_mut().unwrap_or_else(PoisonError::into_inner);
        under_way.threads.drain(..).for_each(|thread| drop(thread.join())); // nobody is left to be told
    }
}
