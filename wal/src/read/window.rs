//! Reads a segment file in large steps, up to a limit that only grows.
//!
//! Bytes above the limit may still change, so they are neither read nor kept. Holds at most one
//! window.

use crate::{Error, Result};
use pitr_vfs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at once, unless the caller requests more.
const READ_BYTES: usize = 256 << 10;

/// A window of a segment file.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn File>,
    path: PathBuf,
    begin: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf) -> Self {
        Window { file, path, begin: 0, bytes: Vec::new() }
    }

    /// `len` bytes from `offset` on, fewer if `limit` comes first.
    pub(crate) fn get(&mut self, offset: u64, len: usize, limit: u64) -> Result<&[u8]> {
        let len = len.min(usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX));
        let held = offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64;
        if !held {
            self.fill(offset, len, limit)?;
        }
        let from = (offset - self.begin) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + len)])
    }

    fn fill(&mut self, offset: u64, len: usize, limit: u64) -> Result<()> {
        let most = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.bytes.resize(len.max(READ_BYTES).min(most), 0);
        self.begin = offset;
        let read = self.file.read_up_to_at(&mut self.bytes, offset);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop).map_err(Error::io("read", &self.path))
    }
}
