//! Storing chunks.

use crate::encode::{Name, encode};
use crate::index::{Index, put_index};
use crate::packer::{Job, Packed, Packer};
use crate::store::read_at;
use crate::{CHUNK_BYTES_MAX, ChunkId, ChunkStore, Error, Result};
use pitr_codec::Codec;
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

/// Chunks being encoded or waiting for their place in a pack.
const IN_FLIGHT_MAX: usize = 24;

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

/// Stores chunks that the repository does not have yet.
///
/// Chunks are encoded on rayon and packed on a thread of the writer's own while the caller makes the next ones; puts
/// block when 24 chunks are in flight. With those, one pack being filled and two being put, a writer holds up to 200
/// MiB for chunks of 4 MiB and 100 MiB for chunks of 1 MiB. It must not be called from a rayon worker: that would wait
/// for encodings that it keeps from running.
///
/// Nothing is found by others before [`finish`](Self::finish). A writer that is dropped instead leaves at most packs
/// that no index names.
#[derive(Debug)]
pub struct ChunkWriter {
    store: ChunkStore,
    codec: Codec,
    /// Chunks of this writer, packed or on their way.
    fresh: HashSet<ChunkId>,
    readable: Arc<RwLock<Index>>,
    abandoned: Arc<AtomicBool>,
    state: State,
}

#[derive(Debug)]
enum State {
    Running { jobs: SyncSender<Job>, packer: JoinHandle<Result<Packed>> },
    Failed(Arc<Error>),
    Ended,
}

impl ChunkWriter {
    pub(crate) fn start(store: ChunkStore, codec: Codec) -> Self {
        let readable = Arc::new(RwLock::new(Index::default()));
        let abandoned = Arc::new(AtomicBool::new(false));
        let packer = Packer {
            objects: store.objects().clone(),
            codec,
            readable: Arc::clone(&readable),
            abandoned: Arc::clone(&abandoned),
        };
        let (jobs, queue) = sync_channel(IN_FLIGHT_MAX);
        let packer = std::thread::spawn(move || packer.run(&queue));
        let state = State::Running { jobs, packer };
        ChunkWriter { store, codec, fresh: HashSet::new(), readable, abandoned, state }
    }

    /// Stores a chunk, unless it is there already, and returns its id.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; whatever went wrong with this chunk or one before it.
    pub fn put(&mut self, raw: &[u8]) -> Result<ChunkId> {
        check_len(raw.len())?;
        let name = Name::of(raw);
        if self.is_new(name.id)? {
            self.submit(name, raw.to_vec())?;
        }
        Ok(name.id)
    }

    /// Stores many chunks, hashed in parallel; their ids come in the same order.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_many(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<ChunkId>> {
        chunks.iter().try_for_each(|raw| check_len(raw.len()))?;
        let names: Vec<Name> = chunks.par_iter().map(|raw| Name::of(raw)).collect();
        for (name, raw) in names.iter().zip(chunks) {
            if self.is_new(name.id)? {
                self.submit(*name, raw)?;
            }
        }
        Ok(names.into_iter().map(|name| name.id).collect())
    }

    fn is_new(&mut self, id: ChunkId) -> Result<bool> {
        Ok(!self.store.contains(&id)? && self.fresh.insert(id))
    }

    fn submit(&mut self, name: Name, raw: Vec<u8>) -> Result<()> {
        let (done, frame) = sync_channel(1);
        let codec = self.codec;
        rayon::spawn(move || {
            // The packer may have ended over an earlier error.
            let _ = done.send(encode(name, &raw, codec));
        });
        self.send(Job::Chunk { id: name.id, frame })
    }

    fn send(&mut self, job: Job) -> Result<()> {
        match &self.state {
            State::Running { jobs, .. } => match jobs.send(job) {
                Ok(()) => Ok(()),
                Err(_) => Err(self.failed()),
            },
            State::Failed(error) => Err(Error::Failed(Arc::clone(error))),
            State::Ended => Err(Error::Died),
        }
    }

    /// The packer has ended too early: takes its error.
    fn failed(&mut self) -> Error {
        let error = match self.join() {
            Ok(_) => Error::Died,
            Err(error) => error,
        };
        let error = Arc::new(error);
        self.state = State::Failed(Arc::clone(&error));
        Error::Failed(error)
    }

    fn join(&mut self) -> Result<Packed> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Running { jobs, packer } => {
                drop(jobs);
                packer.join().map_err(|_| Error::Died)?
            }
            State::Failed(error) => {
                self.state = State::Failed(Arc::clone(&error));
                Err(Error::Failed(error))
            }
            State::Ended => Err(Error::Died),
        }
    }

    /// Puts every chunk so far, so that [`read`](Self::read) finds them. They stay unknown to others.
    ///
    /// # Errors
    /// Whatever went wrong with a chunk so far.
    pub fn flush(&mut self) -> Result<()> {
        let (answer, flushed) = sync_channel(1);
        self.send(Job::Flush(answer))?;
        match flushed.recv() {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failed()),
        }
    }

    /// Reads a chunk of the store or of this writer; one of its own that is still on its way is flushed first.
    ///
    /// # Errors
    /// As [`ChunkStore::read`].
    pub fn read(&mut self, id: &ChunkId) -> Result<Vec<u8>> {
        if !self.fresh.contains(id) {
            return self.store.read(id);
        }
        let find = |readable: &RwLock<Index>| {
            let index = readable.read().map_err(|_| Error::Died)?;
            Ok::<_, Error>(index.get(id).map(|location| (index.pack_path(&location), location)))
        };
        let mut found = find(&self.readable)?;
        if found.is_none() {
            self.flush()?;
            found = find(&self.readable)?;
        }
        let (pack, location) = found.ok_or(Error::Unknown { id: *id })?;
        read_at(self.store.objects(), id, pack, &location)
    }

    /// Puts what is left, then the index: from here on others find the chunks.
    ///
    /// # Errors
    /// Whatever went wrong with a chunk or with the index.
    pub fn finish(mut self) -> Result<Written> {
        let packed = self.join()?;
        let index = put_index(self.store.objects(), self.codec, &packed.packs)?;
        self.store.add(&packed.packs)?;
        Ok(Written {
            chunks_new: packed.chunks,
            raw_new: packed.raw,
            stored: packed.stored + index,
            packs: packed.packs.len() as u64,
        })
    }
}

impl Drop for ChunkWriter {
    /// Waits for puts that are under way, so that none outlives the writer.
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
        let _ = self.join(); // nobody is left to be told
    }
}

fn check_len(bytes: usize) -> Result<()> {
    if bytes <= CHUNK_BYTES_MAX { Ok(()) } else { Err(Error::TooLarge { bytes, most: CHUNK_BYTES_MAX }) }
}
