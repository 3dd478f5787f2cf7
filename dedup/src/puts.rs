//! Packs on their way to the repository.

use crate::index::{Index, Location, PackAt};
use crate::pack::{OpenPack, Pack, Stored};
use crate::{ChunkId, Error, Result};
use pitr_objects::Objects;
use std::collections::VecDeque;
use std::sync::{Mutex, RwLock};
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

/// Puts packs on threads of their own, a few at once. Who brings one more waits for the oldest.
#[derive(Debug)]
pub(crate) struct Puts {
    objects: Objects,
    under_way: Mutex<VecDeque<JoinHandle<Result<Stored>>>>,
    packed: RwLock<Packed>,
    /// Buffers of packs that were put.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Puts {
    pub(crate) fn new(objects: Objects) -> Self {
        Puts { objects, under_way: Mutex::default(), packed: RwLock::default(), spare: Mutex::default() }
    }

    /// Begins to put a pack.
    ///
    /// # Errors
    /// What went wrong with one before it.
    pub(crate) fn begin(&self, pack: OpenPack) -> Result<()> {
        loop {
            let mut under_way = self.under_way.lock().map_err(|_| Error::Died)?;
            let oldest = if under_way.len() < PUTS_MAX { None } else { under_way.pop_front() };
            let Some(oldest) = oldest else {
                let objects = self.objects.clone();
                under_way.push_back(std::thread::spawn(move || pack.put(&objects)));
                return Ok(());
            };
            drop(under_way);
            self.settle(oldest)?;
        }
    }

    /// Waits for all puts, also after one that failed: none goes on behind the caller's back.
    pub(crate) fn settle_all(&self) -> Result<()> {
        let under_way = std::mem::take(&mut *self.under_way.lock().map_err(|_| Error::Died)?);
        under_way.into_iter().map(|put| self.settle(put)).fold(Ok(()), Result::and)
    }

    /// A buffer for another pack, if one has served.
    pub(crate) fn spare(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.spare.lock().map_err(|_| Error::Died)?.pop())
    }

    fn settle(&self, put: JoinHandle<Result<Stored>>) -> Result<()> {
        let Stored { pack, stored, buffer } = put.join().map_err(|_| Error::Died)??;
        self.spare.lock().map_err(|_| Error::Died)?.extend(buffer);
        let mut packed = self.packed.write().map_err(|_| Error::Died)?;
        packed.stored += stored;
        packed.index.add(&pack);
        packed.packs.push(pack);
        Ok(())
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
