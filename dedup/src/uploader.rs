//! Uploads packs, and keeps the index of uploaded packs that no index object lists yet.

use crate::index::{Index, take_full};
use crate::location::{Location, PackAt};
use crate::pack::{OpenPack, Pack, Stored};
use crate::{ChunkId, Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_objects::Objects;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Maximum number of packs that are uploaded in parallel: one is synced while another is written.
const UPLOADS_MAX: usize = 2;
/// After this time, packs get an index object even if they do not fill one. A killed writer to a
/// slow repository loses at most this much work.
const INDEX_INTERVAL: Duration = Duration::from_secs(60);

/// What a writer has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Bytes of these chunks before compression.
    pub raw_new: u64,
    /// Bytes added to the repository: packs and index objects.
    pub stored: u64,
    /// Packs added.
    pub packs: u64,
}

/// Uploaded packs.
#[derive(Debug)]
struct Uploaded {
    written: Written,
    /// Monotonic time of the last index object, or of the writer's start.
    indexed: Duration,
    /// Packs that no index object lists.
    unindexed: Vec<Pack>,
    /// The index of the chunks in these packs.
    index: Index,
}

impl Uploaded {
    fn take(&mut self, pack: Pack, stored: u64) -> Result<()> {
        self.written.packs += 1;
        self.written.stored += stored;
        self.written.chunks_new += pack.chunks.len() as u64;
        self.written.raw_new += pack.chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum::<u64>();
        self.index.add(&pack)?;
        self.unindexed.push(pack);
        Ok(())
    }
}

/// Uploads packs in a few long-lived threads: each new thread would get its own memory from the
/// allocator. If all are busy, a caller with another pack waits for one of them.
#[derive(Debug)]
pub(crate) struct PackUploader {
    objects: Objects,
    /// `None` once no pack follows.
    packs: Option<Sender<OpenPack>>,
    to_upload: Receiver<OpenPack>,
    outcome: Sender<Result<Stored>>,
    outcomes: Receiver<Result<Stored>>,
    running: Mutex<Running>,
    uploaded: RwLock<Uploaded>,
    pub(crate) index_interval: Duration,
    /// Buffers of uploaded packs.
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Running {
    uploads: usize,
    threads: Vec<JoinHandle<()>>,
}

impl PackUploader {
    pub(crate) fn new(objects: Objects) -> Self {
        let (packs, to_upload) = bounded(UPLOADS_MAX);
        let (outcome, outcomes) = bounded(UPLOADS_MAX);
        let uploaded = Uploaded {
            written: Written::default(),
            indexed: objects.env().clock.monotonic(),
            unindexed: Vec::new(),
            index: Index::new(objects.env()),
        };
        PackUploader {
            objects,
            packs: Some(packs),
            to_upload,
            outcome,
            outcomes,
            running: Mutex::default(),
            uploaded: RwLock::new(uploaded),
            index_interval: INDEX_INTERVAL,
            spare: Mutex::default(),
        }
    }

    /// Starts the upload of a pack.
    ///
    /// # Errors
    /// The error of an earlier upload.
    pub(crate) fn start(&self, pack: OpenPack) -> Result<()> {
        let mut running = self.running.lock().map_err(|_| Error::Died)?;
        if running.uploads == UPLOADS_MAX {
            self.wait_for_one(&mut running)?;
        }
        if running.threads.len() <= running.uploads {
            match self.thread().map_err(Error::Thread)? {
                Some(thread) => running.threads.push(thread),
                // Without threads the upload is done on return.
                None => return self.take(pack.put(&self.objects)?),
            }
        }
        running.uploads += 1;
        self.packs.as_ref().and_then(|packs| packs.send(pack).ok()).ok_or(Error::Died)
    }

    /// Waits for all uploads, even if one failed: no upload continues after the return.
    pub(crate) fn wait_for_all(&self) -> Result<()> {
        let mut running = self.running.lock().map_err(|_| Error::Died)?;
        (0..running.uploads).map(|_| self.wait_for_one(&mut running)).fold(Ok(()), Result::and)
    }

    fn thread(&self) -> io::Result<Option<JoinHandle<()>>> {
        let (objects, packs, outcomes) = (self.objects.clone(), self.to_upload.clone(), self.outcome.clone());
        self.objects.env().spawn.thread("pitr-upload", move || {
            for pack in packs {
                // The caller must not wait for ever.
                let put = catch_unwind(AssertUnwindSafe(|| pack.put(&objects)));
                let _ = outcomes.send(put.unwrap_or(Err(Error::Died))); // there is room for it
            }
        })
    }

    fn wait_for_one(&self, running: &mut Running) -> Result<()> {
        running.uploads -= 1; // both callers have counted
        self.take(self.outcomes.recv().map_err(|_| Error::Died)??)
    }

    fn take(&self, Stored { pack, stored, buffer }: Stored) -> Result<()> {
        self.spare.lock().map_err(|_| Error::Died)?.extend(buffer);
        self.uploaded.write().map_err(|_| Error::Died)?.take(pack, stored)
    }

    /// Calls `put_index` for packs that no index object lists. `put_index` puts an index object and
    /// returns its size. It gets all packs that fill an index object. If `all` is set, or if the
    /// last index object is old, it also gets the other packs.
    pub(crate) fn index(&self, all: bool, put_index: impl Fn(&[Pack]) -> Result<u64>) -> Result<()> {
        let mut uploaded = self.uploaded.write().map_err(|_| Error::Died)?;
        let now = self.objects.env().clock.monotonic();
        let all = all || now.saturating_sub(uploaded.indexed) >= self.index_interval;
        let before = uploaded.unindexed.len();
        while let Some(full) = take_full(&mut uploaded.unindexed) {
            uploaded.written.stored += put_index(&full)?;
        }
        if all {
            uploaded.written.stored += put_index(&std::mem::take(&mut uploaded.unindexed))?;
        }
        if uploaded.unindexed.len() < before {
            uploaded.indexed = now;
            uploaded.index = Index::new(self.objects.env());
            let Uploaded { unindexed, index, .. } = &mut *uploaded;
            unindexed.iter().try_for_each(|pack| index.add(pack))?;
        }
        Ok(())
    }

    /// The buffer of an uploaded pack, to be used for another pack.
    pub(crate) fn spare_buffer(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.spare.lock().map_err(|_| Error::Died)?.pop())
    }

    /// The place of an uploaded chunk that no index object lists yet.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<(PackAt, Location)>> {
        let uploaded = self.uploaded.read().map_err(|_| Error::Died)?;
        let Some(location) = uploaded.index.get(id) else { return Ok(None) };
        Ok(Some((uploaded.index.pack(&location, &self.objects)?, location)))
    }

    /// Totals of the uploads so far.
    pub(crate) fn written(&self) -> Result<Written> {
        Ok(self.uploaded.read().map_err(|_| Error::Died)?.written)
    }
}

impl Drop for PackUploader {
    /// Waits for running uploads, so that none outlives the writer.
    fn drop(&mut self) {
        self.packs = None;
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        running.threads.drain(..).for_each(|thread| drop(thread.join())); // no receiver
    }
}
