//! Merges one node of an increment from the parent and the delta, and decides which extents to
//! rewrite.

use crate::assemble::{Parts, check_len};
use crate::cache::ChunkCache;
use crate::collect::CollectedFile;
use crate::manifest::Node;
use crate::overlay::{Overlay, OverlayBlock, Place};
use crate::shape::{EXTENT_BYTES, GROUP_EXTENTS, Geometry, NODE_EXTENTS, extent_len, extents_of_node};
use crate::tree;
use crate::{Error, Result, SnapshotId};
use pitr_dedup::{ChunkId, ChunkStore, ChunkWriter};
use pitr_vfs::Buffers;
use std::collections::HashSet;

/// Maximum number of chunks over which the blocks of one extent are spread. It bounds what a
/// restore reads for an extent.
const SPREAD_MAX: usize = 128;
/// Size of the overlay chunks cached during rewrites, bytes.
const CACHE_BYTES: usize = 64 << 20;

/// Rewrites extents.
pub(crate) struct Rewriter {
    parent: SnapshotId,
    chunks: ChunkCache,
}

impl Rewriter {
    pub(crate) fn new(parent: SnapshotId) -> Self {
        Rewriter { parent, chunks: ChunkCache::new(CACHE_BYTES) }
    }

    /// Stores the extent that consists of `base` and its overlay. Returns its chunk.
    fn rewrite(&self, writer: &ChunkWriter, base: ChunkId, parts: &Parts<'_>) -> Result<ChunkId> {
        let whole = || -> Result<Vec<u8>> {
            let mut bytes = if base == ChunkId::ZERO {
                Vec::new()
            } else {
                writer.read_into(&base, |len| vec![0; len])?
            };
            check_len(base, bytes.len())?;
            bytes.resize(parts.len, 0);
            let read = |id: &ChunkId, buffers: &Buffers| Ok(writer.read_into(id, |len| buffers.lend(len))?);
            parts.assemble(&mut bytes, |id| self.chunks.get(id, read))?;
            Ok(bytes)
        };
        let bytes = whole().map_err(Error::parent(self.parent))?;
        if crate::source::is_zero(&bytes) { Ok(ChunkId::ZERO) } else { Ok(writer.put(&bytes)?) }
    }
}

/// The inputs of a node.
pub(crate) struct NodeMerge<'a> {
    pub(crate) store: &'a ChunkStore,
    pub(crate) file: &'a CollectedFile,
    /// Number of bytes at the start of the file that may still be those of the parent.
    pub(crate) kept: u64,
    /// Length of the parent's file, and its node.
    pub(crate) before: Option<(u64, &'a Node)>,
    pub(crate) number: u64,
}

impl NodeMerge<'_> {
    pub(crate) fn write(&self, writer: &ChunkWriter, rewriter: &mut Rewriter) -> Result<Node> {
        let mut ids = self.extent_ids().map_err(Error::parent(rewriter.parent))?;
        let mut overlays = Vec::new();
        for group in 0..(ids.len() as u64).div_ceil(GROUP_EXTENTS) {
            let mut overlay = self.overlay(group, &ids).map_err(Error::parent(rewriter.parent))?;
            self.rewrite_full_extents(group, &mut ids, &mut overlay, writer, rewriter)?;
            if !overlay.blocks.is_empty() {
                let id = writer.put(&overlay.encode(self.geometry()))?;
                overlays.push((group as u8, id)); // at most 16 groups per node
            }
        }
        Ok(Node { extents: tree::put_extents(writer, &ids)?, overlays })
    }

    fn geometry(&self) -> Geometry {
        self.file.shape.geometry()
    }

    fn first_extent(&self) -> u64 {
        self.number * NODE_EXTENTS
    }

    /// The chunks of the parent as far as they are kept, then the extents stored whole, zeros for
    /// the rest.
    fn extent_ids(&self) -> Result<Vec<ChunkId>> {
        let first = self.first_extent();
        let count = extents_of_node(self.file.shape.len, self.number);
        let mut ids = match self.before {
            None => Vec::new(),
            Some((len, node)) => tree::extent_ids(self.store, node, extents_of_node(len, self.number))?,
        };
        let kept = self.kept.div_ceil(EXTENT_BYTES).saturating_sub(first).min(count);
        ids.truncate(kept as usize);
        ids.resize(count as usize, ChunkId::ZERO);
        for (extent, id) in self.file.wholes_in(first, first + count) {
            ids[(extent - first) as usize] = *id; // indexes within this node
        }
        Ok(ids)
    }

    /// The overlay of a group: kept blocks of the parent without a newer image, the blocks of the
    /// delta, and zeros in place of bytes that the file lost when it was cut.
    fn overlay(&self, group: u64, ids: &[ChunkId]) -> Result<Overlay> {
        let geometry = self.geometry();
        let first_extent = self.first_extent() + group * GROUP_EXTENTS;
        let first_block = first_extent * geometry.blocks_per_extent();
        let end_block = first_block + geometry.blocks_per_group();
        let mut overlay = match self.before {
            None => Overlay::default(),
            Some((_, node)) => tree::overlay(self.store, node, group, geometry)?,
        };
        overlay.blocks.retain(|entry| {
            let block = first_block + u64::from(entry.block);
            block * geometry.block_bytes < self.kept && !self.file.has(block)
        });
        // In the table, chunks of the delta follow those of the parent.
        let offset = overlay.chunks.len() as u32;
        overlay.chunks.extend_from_slice(&self.file.chunks);
        for entry in self.file.range(first_block, end_block) {
            let place = match entry.slot() {
                None => Place::Zero,
                Some((chunk, slot)) => Place::Slot { chunk: offset + chunk, slot },
            };
            overlay.blocks.push(OverlayBlock { block: (entry.block - first_block) as u32, place });
        }
        for block in self.lost_blocks(ids)?.filter(|block| (first_block..end_block).contains(block)) {
            if !self.file.has(block) {
                overlay.blocks.push(OverlayBlock { block: (block - first_block) as u32, place: Place::Zero });
            }
        }
        // Zeros over an extent of zeros are redundant.
        overlay.blocks.retain(|entry| {
            let extent = group * GROUP_EXTENTS + u64::from(entry.block) / geometry.blocks_per_extent();
            entry.place != Place::Zero || ids.get(extent as usize).is_some_and(|id| *id != ChunkId::ZERO)
        });
        overlay.blocks.sort_unstable_by_key(|entry| entry.block);
        Ok(overlay)
    }

    /// FAILURES 45: the blocks after a cut, which the chunk of the cut extent still holds, if the
    /// file has grown over them again. Extents entirely after the cut have already lost their
    /// chunks.
    fn lost_blocks(&self, ids: &[ChunkId]) -> Result<std::ops::Range<u64>> {
        let geometry = self.geometry();
        let extent = self.kept / EXTENT_BYTES;
        let start = extent * EXTENT_BYTES;
        let id = extent.checked_sub(self.first_extent()).and_then(|at| ids.get(at as usize));
        let is_whole = !self.file.wholes_in(extent, extent + 1).is_empty();
        match id {
            Some(id)
                if *id != ChunkId::ZERO
                    && !is_whole
                    && self.kept > start
                    && self.kept < self.file.shape.len =>
            {
                let held = start + u64::from(self.store.raw_len(id)?);
                Ok(geometry.blocks(self.kept)..geometry.blocks(held.min(self.file.shape.len)))
            }
            _ => Ok(0..0),
        }
    }

    /// Rewrites the extents of which more than half is overlaid, or whose blocks are spread over
    /// too many chunks.
    fn rewrite_full_extents(
        &self,
        group: u64,
        ids: &mut [ChunkId],
        overlay: &mut Overlay,
        writer: &ChunkWriter,
        rewriter: &Rewriter,
    ) -> Result<()> {
        let geometry = self.geometry();
        let per_extent = geometry.blocks_per_extent();
        let mut left = Vec::with_capacity(overlay.blocks.len());
        for blocks in
            overlay.blocks.chunk_by(|a, b| u64::from(a.block) / per_extent == u64::from(b.block) / per_extent)
        {
            let in_group = u64::from(blocks[0].block) / per_extent; // a run is never empty
            let in_node = group * GROUP_EXTENTS + in_group;
            let len = extent_len(self.file.shape.len, self.first_extent() + in_node);
            if !is_full(blocks, geometry.blocks(len as u64)) {
                left.extend_from_slice(blocks);
                continue;
            }
            let first_block = in_group * per_extent;
            let parts = Parts { geometry, len, first_block, blocks, chunks: &overlay.chunks };
            let id = &mut ids[in_node as usize]; // the overlay has no blocks after the file's end
            *id = rewriter.rewrite(writer, *id, &parts)?;
        }
        overlay.blocks = left;
        Ok(())
    }
}

fn is_full(blocks: &[OverlayBlock], blocks_of_extent: u64) -> bool {
    let chunks = blocks.iter().filter_map(|entry| match entry.place {
        Place::Zero => None,
        Place::Slot { chunk, .. } => Some(chunk),
    });
    blocks.len() as u64 * 2 > blocks_of_extent || chunks.collect::<HashSet<_>>().len() > SPREAD_MAX
}
