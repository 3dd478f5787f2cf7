//! The thread behind a writer: takes encoded chunks in the order they were put, fills packs, puts them.
//!
//! Each job carries the receiving end of its own encoding, which runs on rayon: so encodings finish in any order and
//! packs are filled in one. The queue's length is the bound on what is in flight.

use crate::index::Index;
use crate::pack::{OpenPack, Pack};
use crate::{ChunkId, Error, Result};
use pitr_codec::{Codec, EncodedFrame};
use pitr_objects::Objects;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

/// Packs that are being put while the next one is filled.
const PUTS_MAX: usize = 2;

/// What the writer asks of its packer.
pub(crate) enum Job {
    /// Pack this chunk when its encoding is there.
    Chunk { id: ChunkId, frame: Receiver<Result<EncodedFrame>> },
    /// Put everything so far, then answer.
    Flush(SyncSender<()>),
}

/// What was put.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) packs: Vec<Pack>,
    pub(crate) chunks: u64,
    pub(crate) raw: u64,
    pub(crate) stored: u64,
}

type Put = JoinHandle<Result<(Pack, u64)>>;

pub(crate) struct Packer {
    pub(crate) objects: Objects,
    pub(crate) codec: Codec,
    /// Packs that were put, for the writer to read from.
    pub(crate) readable: Arc<RwLock<Index>>,
    /// Set when the writer was dropped: what is left is wanted by nobody.
    pub(crate) abandoned: Arc<AtomicBool>,
}

impl Packer {
    pub(crate) fn run(self, jobs: &Receiver<Job>) -> Result<Packed> {
        let mut packed = Packed::default();
        let mut puts = VecDeque::new();
        let result = self.fill(jobs, &mut puts, &mut packed);
        // Also after an error no put goes on behind the writer's back.
        let ended = puts.into_iter().try_for_each(|put| self.settle(put, &mut packed));
        result.and(ended).map(|()| packed)
    }

    fn fill(&self, jobs: &Receiver<Job>, puts: &mut VecDeque<Put>, packed: &mut Packed) -> Result<()> {
        let mut open = self.open();
        for job in jobs {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(());
            }
            match job {
                Job::Chunk { id, frame } => {
                    let frame = frame.recv().map_err(|_| Error::Died)??;
                    if !open.takes(&frame) {
                        self.put(std::mem::replace(&mut open, self.open()), puts, packed)?;
                    }
                    open.push(id, &frame);
                }
                Job::Flush(answer) => {
                    self.put(std::mem::replace(&mut open, self.open()), puts, packed)?;
                    while let Some(put) = puts.pop_front() {
                        self.settle(put, packed)?;
                    }
                    // A writer that is gone needs no answer.
                    let _ = answer.send(());
                }
            }
        }
        if self.abandoned.load(Ordering::Relaxed) { Ok(()) } else { self.put(open, puts, packed) }
    }

    fn open(&self) -> OpenPack {
        OpenPack::new(&self.objects, self.codec)
    }

    /// Puts a pack on a thread of its own, once fewer than [`PUTS_MAX`] are under way.
    fn put(&self, pack: OpenPack, puts: &mut VecDeque<Put>, packed: &mut Packed) -> Result<()> {
        if pack.is_empty() {
            return Ok(());
        }
        while puts.len() >= PUTS_MAX {
            if let Some(put) = puts.pop_front() {
                self.settle(put, packed)?;
            }
        }
        let objects = self.objects.clone();
        puts.push_back(std::thread::spawn(move || pack.put(&objects)));
        Ok(())
    }

    fn settle(&self, put: Put, packed: &mut Packed) -> Result<()> {
        let (pack, stored) = put.join().map_err(|_| Error::Died)??;
        packed.chunks += pack.chunks.len() as u64;
        packed.raw += pack.chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum::<u64>();
        packed.stored += stored;
        self.readable.write().map_err(|_| Error::Died)?.add(&pack);
        packed.packs.push(pack);
        Ok(())
    }
}
