//! The piece sums of stored chunks, from the footers of packs. The chunks are not read.

use crate::location::Location;
use crate::pack::PackFooter;
use crate::{ChunkId, ChunkStore, Error, PieceSum, Result};
use lru::LruCache;
use pitr_codec::ObjectKind;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// Approximate size of the cached footers, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Minimum number of cached footers, whatever their size. Neighbouring extents are in as many packs
/// as there were threads and later increments. If data compresses well, a footer takes more than a
/// megabyte, and reading it takes as long as reading an extent.
const KEPT_MIN: usize = 8;

/// Returns the piece sums of stored chunks, to any number of threads. Caches the footers of the
/// packs that were used last: about 1 MiB, and at least eight.
#[derive(Debug)]
pub struct ChunkSums {
    store: ChunkStore,
    kept: Mutex<Kept>,
    /// Held while a footer is read.
    reading: Mutex<()>,
}

/// Cached footers by the number of their pack.
#[derive(Debug)]
struct Kept {
    packs: LruCache<u32, Arc<PackFooter>>,
    weight: usize,
}

/// The sums of a chunk's pieces of [`PIECE_BYTES`](crate::PIECE_BYTES), in order.
#[derive(Debug, Clone)]
pub struct SumsOfChunk {
    footer: Arc<PackFooter>,
    frame: usize,
}

impl Deref for SumsOfChunk {
    type Target = [PieceSum];

    fn deref(&self) -> &[PieceSum] {
        self.footer.sums(self.frame).unwrap_or_default()
    }
}

impl ChunkStore {
    /// A cache of the piece sums of chunks.
    #[must_use]
    pub fn sums(&self) -> ChunkSums {
        let kept = Mutex::new(Kept { packs: LruCache::unbounded(), weight: 0 });
        ChunkSums { store: self.clone(), kept, reading: Mutex::default() }
    }
}

impl ChunkSums {
    /// The piece sums of a chunk in the index.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::WrongContent`] and other errors with the pack if its footer is
    /// damaged; errors of the repository.
    pub fn of(&self, id: &ChunkId) -> Result<SumsOfChunk> {
        let at = self.store.locate(id)?;
        let footer = match self.kept(at.pack)? {
            Some(footer) => footer,
            None => self.read(&at)?,
        };
        let frame = at.frame as usize;
        if footer.ids.get(frame) == Some(id) {
            return Ok(SumsOfChunk { footer, frame });
        }
        Err(Error::WrongContent { id: *id, pack: self.store.pack(&at)?.path })
    }

    /// One thread at a time: threads that miss a footer at the same time need the same footer, and
    /// only the first reads it.
    fn read(&self, at: &Location) -> Result<Arc<PackFooter>> {
        let _reading = self.reading.lock().map_err(|_| Error::Died)?;
        if let Some(footer) = self.kept(at.pack)? {
            return Ok(footer);
        }
        let path = self.store.pack(at)?.path;
        let index = self.store.objects().index(&path, ObjectKind::Pack)?;
        self.keep(at.pack, PackFooter::decode(&path, &index)?)
    }

    fn kept(&self, pack: u32) -> Result<Option<Arc<PackFooter>>> {
        Ok(self.kept.lock().map_err(|_| Error::Died)?.packs.get(&pack).cloned())
    }

    fn keep(&self, pack: u32, footer: PackFooter) -> Result<Arc<PackFooter>> {
        let footer = Arc::new(footer);
        let mut kept = self.kept.lock().map_err(|_| Error::Died)?;
        kept.weight += footer.weight();
        kept.packs.put(pack, Arc::clone(&footer)); // the footer was not in the cache
        while kept.weight > KEPT_BYTES_MAX && kept.packs.len() > KEPT_MIN {
            let Some((_, oldest)) = kept.packs.pop_lru() else { break };
            kept.weight -= oldest.weight();
        }
        Ok(footer)
    }
}
