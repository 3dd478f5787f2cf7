//! Packs on their way to the repository, and those that are there and that no index names yet.

use crate::index::{Index, Location, PackAt, take_full};
use crate::pack::{OpenPack, Pack, Stored};
use crate::{ChunkId, Error, Result, Written};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_objects::Objects;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packs that are being put at once: while one is synced another is written.
const PUTS_MAX: usize = 2;
/// After so long packs get an index object even if they do not fill one: what a writer to a slow repository loses when it is killed.
const NAMED_EVERY: Duration = Duration::from_secs(60);

/// What was put.
#[derive(Debug)]
struct Packed {
    written: Written,
    /// When the last index object was put, or the writer began.
    named: Instant,
    /// Packs that no index names.
    nameless: Vec<Pack>,
    /// Where their chunks lie.
    index: Index,
}

impl Packed {
    fn take(&mut self, pack: Pack, stored: u64) -> Result<()> {
        self.written.packs += 1;
        self.written.stored += stored;
        self.written.chunks_new += pack.chunks.len() as u64;
        self.written.raw_new += pack.chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum::<u64>();
        self.index.add(&pack)?;
        self.nameless.push(pack);
        Ok(())
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
    pub(crate) named_every: Duration,
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
        let packed = Packed {
            written: Written::default(),
            named: Instant::now(),
            nameless: Vec::new(),
            index: Index::default(),
        };
        Puts {
            objects,
            to_put: Some(to_put),
            packs,
            put,
            outcomes,
            under_way: Mutex::default(),
            packed: RwLock::new(packed),
            named_every: NAMED_EVERY,
            spare: Mutex::default(),
        }
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
        self.packed.write().map_err(|_| Error::Died)?.take(pack, stored)
    }

    /// Has `name` put an index object of packs that no index names, and say how large it is: as often as they fill one, and
    /// of all that are left if it is the `last` time or long since another.
    pub(crate) fn name(&self, last: bool, name: impl Fn(&[Pack]) -> Result<u64>) -> Result<()> {
        let mut packed = self.packed.write().map_err(|_| Error::Died)?;
        let all = last || packed.named.elapsed() >= self.named_every;
        let before = packed.nameless.len();
        while let Some(full) = take_full(&mut packed.nameless) {
            packed.written.stored += name(&full)?;
        }
        if all {
            packed.written.stored += name(&std::mem::take(&mut packed.nameless))?;
        }
        if packed.nameless.len() < before {
            packed.named = Instant::now();
            packed.index = Index::default();
            let Packed { nameless, index, .. } = &mut *packed;
            nameless.iter().try_for_each(|pack| index.add(pack))?;
        }
        Ok(())
    }

    /// A buffer for another pack, if one has served.
    pub(crate) fn spare(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.spare.lock().map_err(|_| Error::Died)?.pop())
    }

    /// Where a chunk lies that was put and that no index names yet.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<(PackAt, Location)>> {
        let packed = self.packed.read().map_err(|_| Error::Died)?;
        let Some(location) = packed.index.get(id) else { return Ok(None) };
        Ok(Some((packed.index.pack(&location, &self.objects)?, location)))
    }

    /// What was put so far.
    pub(crate) fn written(&self) -> Result<Written> {
        Ok(self.packed.read().map_err(|_| Error::Died)?.written)
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
