//! Chunks of overlays, kept while neighbouring extents need them.

use crate::{Error, Result};
use lru::LruCache;
use pitr_dedup::ChunkId;
use std::sync::{Arc, Mutex};

/// Keeps the chunks used last, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: LruCache<ChunkId, Arc<Vec<u8>>>,
    bytes: usize,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        ChunkCache { bytes_max, state: Mutex::new(State { chunks: LruCache::unbounded(), bytes: 0 }) }
    }

    /// The chunk, read by `read` if it is not at hand. Threads that miss at once may each read it.
    pub(crate) fn get(&self, id: &ChunkId, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        if let Some(chunk) = self.state.lock().map_err(|_| Error::Died)?.chunks.get(id) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = Arc::new(read()?);
        self.insert(*id, &chunk)?;
        Ok(chunk)
    }

    fn insert(&self, id: ChunkId, chunk: &Arc<Vec<u8>>) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| Error::Died)?;
        state.bytes += chunk.len();
        if let Some(same) = state.chunks.put(id, Arc::clone(chunk)) {
            state.bytes -= same.len();
        }
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.chunks.pop_lru() else { break };
            state.bytes -= oldest.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let cache = ChunkCache::new(30);
        let id = |n: u8| ChunkId::of(&[n]);
        let fetch = |n: u8| {
            let mut read = false;
            let chunk = cache.get(&id(n), || {
                read = true;
                Ok(vec![n; 10])
            });
            assert_eq!(*chunk.unwrap(), vec![n; 10]);
            read
        };
        assert!(fetch(1) && fetch(2) && fetch(3));
        assert!(!fetch(1));
        assert!(fetch(4), "the fourth pushes out the second");
        assert!(!fetch(1) && !fetch(3) && !fetch(4));
        assert!(fetch(2));
        assert!(cache.state.lock().unwrap().bytes <= 30);
    }
}
