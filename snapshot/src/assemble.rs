//! An extent out of its chunk and the blocks that lie over it.

use crate::overlay::{OverlayBlock, Place};
use crate::shape::{EXTENT_BYTES, Geometry};
use crate::{Error, Result};
use pitr_dedup::ChunkId;
use std::ops::Deref;
use std::sync::Arc;

/// Errors unless a chunk of this length can be that of an extent.
pub(crate) fn check_len(id: ChunkId, len: usize) -> Result<()> {
    match len as u64 <= EXTENT_BYTES {
        true => Ok(()),
        false => Err(Error::Misused { id, what: "it is larger than an extent" }),
    }
}

/// What an extent consists of.
pub(crate) struct Parts<'a> {
    pub(crate) geometry: Geometry,
    /// Bytes that the extent has.
    pub(crate) len: usize,
    /// First block of the extent, counted as those of the overlay are.
    pub(crate) first_block: u64,
    /// Blocks over it.
    pub(crate) blocks: &'a [OverlayBlock],
    /// The table that they name.
    pub(crate) chunks: &'a [ChunkId],
}

impl Parts<'_> {
    /// Lays the blocks over the extent's bytes: those of its chunk, cut or followed by zeros.
    pub(crate) fn assemble<C: Deref<Target = [u8]>>(
        &self,
        out: &mut [u8],
        mut fetch: impl FnMut(&ChunkId) -> Result<Arc<C>>,
    ) -> Result<()> {
        debug_assert_eq!(out.len(), self.len);
        let block_bytes = self.geometry.block_bytes as usize; // at most 64 KiB
        let mut at_hand: Option<(u32, Arc<C>)> = None;
        for entry in self.blocks {
            let start = (u64::from(entry.block) - self.first_block) as usize * block_bytes; // within the extent
            if start >= out.len() {
                break; // cut off with the file
            }
            let end = out.len().min(start + block_bytes);
            let target = &mut out[start..end];
            match entry.place {
                Place::Zero => target.fill(0),
                Place::Slot { chunk, slot } => {
                    let id = &self.chunks[chunk as usize]; // the table that the entry was made for
                    let bytes = match &at_hand {
                        Some((number, bytes)) if *number == chunk => bytes,
                        _ => &at_hand.insert((chunk, fetch(id)?)).1,
                    };
                    let from = slot as usize * block_bytes;
                    let block = bytes.get(from..from + target.len());
                    target.copy_from_slice(block.ok_or(Error::Misused {
                        id: *id,
                        what: "it ends before the block that it should hold",
                    })?);
                }
            }
        }
        Ok(())
    }
}
