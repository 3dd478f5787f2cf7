//! A cache of overlay chunks for neighbouring extents. It reuses its buffers.

use crate::{Error, Result};
use lru::LruCache;
use pitr_dedup::ChunkId;
use pitr_vfs::{Buffers, Loan};
use std::sync::{Arc, Mutex};

/// Keeps the most recently used chunks, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    bytes_max: usize,
    buffers: Buffers,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: LruCache<ChunkId, Arc<Loan>>,
    bytes: usize,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = Mutex::new(State { chunks: LruCache::unbounded(), bytes: 0 });
        ChunkCache { bytes_max, buffers: Buffers::default(), state }
    }

    /// Returns the chunk. On a miss, `read` reads it into a buffer from the cache's pool. Threads
    /// that miss at the same time may each read it.
    pub(crate) fn get(
        &self,
        id: &ChunkId,
        read: impl FnOnce(&ChunkId, &Buffers) -> Result<Loan>,
    ) -> Result<Arc<Loan>> {
        if let Some(chunk) = self.state.lock().map_err(|_| Error::Died)?.chunks.get(id) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = Arc::new(read(id, &self.buffers)?);
        self.insert(*id, &chunk)?;
        Ok(chunk)
    }

    fn insert(&self, id: ChunkId, chunk: &Arc<Loan>) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| Error::Died)?;
        state.bytes += chunk.capacity();
        if let Some(same) = state.chunks.put(id, Arc::clone(chunk)) {
            state.bytes -= same.capacity();
        }
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.chunks.pop_lru() else { break };
            state.bytes -= oldest.capacity();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_recently_used_chunks_stay() {
        let cache = ChunkCache::new(30);
        let id = |n: u8| ChunkId::of(&[n]);
        let fetch = |n: u8| {
            let mut read = false;
            let chunk = cache.get(&id(n), |_, buffers| {
                read = true;
                let mut chunk = buffers.lend(10);
                chunk.fill(n);
                Ok(chunk)
            });
            assert_eq!(chunk.unwrap()[..], [n; 10]);
            read
        };
        assert!(fetch(1) && fetch(2) && fetch(3));
        assert!(!fetch(1));
        assert!(fetch(4), "the fourth evicts the second");
        assert!(!fetch(1) && !fetch(3) && !fetch(4));
        assert!(fetch(2));
        assert!(cache.state.lock().unwrap().bytes <= 30);
    }
}
