//! Chunks of overlays, kept while neighbouring extents need them.

use crate::{Error, Result};
use pitr_dedup::ChunkId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Keeps the chunks used last, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: HashMap<ChunkId, (u64, Arc<Vec<u8>>)>,
    bytes: usize,
    clock: u64,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        ChunkCache { bytes_max, state: Mutex::default() }
    }

    /// The chunk, read by `read` if it is not at hand. Threads that miss at once may each read it.
    pub(crate) fn get(&self, id: &ChunkId, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        if let Some(chunk) = self.lookup(id)? {
            return Ok(chunk);
        }
        let chunk = Arc::new(read()?);
        self.insert(*id, &chunk)?;
        Ok(chunk)
    }

    fn lookup(&self, id: &ChunkId) -> Result<Option<Arc<Vec<u8>>>> {
        let mut state = self.state.lock().map_err(|_| Error::Died)?;
        state.clock += 1;
        let now = state.clock;
        Ok(state.chunks.get_mut(id).map(|(used, chunk)| {
            *used = now;
            Arc::clone(chunk)
        }))
    }

    fn insert(&self, id: ChunkId, chunk: &Arc<Vec<u8>>) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| Error::Died)?;
        state.clock += 1;
        let now = state.clock;
        if state.chunks.insert(id, (now, Arc::clone(chunk))).is_none() {
            state.bytes += chunk.len();
        }
        while state.bytes > self.bytes_max {
            let oldest = state.chunks.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            match oldest.and_then(|id| state.chunks.remove(&id)) {
                Some((_, gone)) => state.bytes -= gone.len(),
                None => break,
            }
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
