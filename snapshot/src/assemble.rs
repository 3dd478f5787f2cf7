//! Assembles an extent from its chunk and the blocks that overlay it.

use crate::overlay::{OverlayBlock, Place};
use crate::shape::{EXTENT_BYTES, Geometry};
use crate::{Error, Result};
use pitr_dedup::ChunkId;
use std::ops::Deref;
use std::sync::Arc;

/// Returns an error if a chunk of this length is larger than an extent.
pub(crate) fn check_len(id: ChunkId, len: usize) -> Result<()> {
    match len as u64 <= EXTENT_BYTES {
        true => Ok(()),
        false => Err(Error::Misused { id, what: "it is larger than an extent" }),
    }
}

/// The overlay of an extent, and the extent's size.
pub(crate) struct Parts<'a> {
    pub(crate) geometry: Geometry,
    /// Length of the extent, bytes.
    pub(crate) len: usize,
    /// First block of the extent, in the numbering of the overlay.
    pub(crate) first_block: u64,
    /// Blocks that overlay the extent.
    pub(crate) blocks: &'a [OverlayBlock],
    /// The chunk table that the blocks refer to.
    pub(crate) chunks: &'a [ChunkId],
}

impl Parts<'_> {
    /// Copies the overlay blocks over `out`, which holds the extent's chunk, truncated or padded
    /// with zeros.
    pub(crate) fn assemble<C: Deref<Target = [u8]>>(
        &self,
        out: &mut [u8],
        mut fetch: impl FnMut(&ChunkId) -> Result<Arc<C>>,
    ) -> Result<()> {
        debug_assert_eq!(out.len(), self.len);
        let block_bytes = self.geometry.block_bytes as usize; // at most 64 KiB
        let mut current: Option<(u32, Arc<C>)> = None;
        for entry in self.blocks {
            // Within the extent.
            let start = (u64::from(entry.block) - self.first_block) as usize * block_bytes;
            if start >= out.len() {
                break; // after the end of the file
            }
            let end = out.len().min(start + block_bytes);
            let target = &mut out[start..end];
            match entry.place {
                Place::Zero => target.fill(0),
                Place::Slot { chunk, slot } => {
                    let id = &self.chunks[chunk as usize]; // an entry's index is within its table
                    let bytes = match &current {
                        Some((number, bytes)) if *number == chunk => bytes,
                        _ => &current.insert((chunk, fetch(id)?)).1,
                    };
                    let from = slot as usize * block_bytes;
                    let block = bytes.get(from..from + target.len());
                    target.copy_from_slice(
                        block
                            .ok_or(Error::Misused { id: *id, what: "it ends before the referenced block" })?,
                    );
                }
            }
        }
        Ok(())
    }
}
