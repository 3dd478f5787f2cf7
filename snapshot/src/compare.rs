//! The delta between a source that is read whole and a snapshot of it.
//!
//! An extent is the same if its hash is its chunk's; if blocks lie over the chunk, or the hash differs, the parent's
//! extent is read and both are compared block by block.

use crate::increment::in_order;
use crate::pipeline::{Extent, each_extent};
use crate::shape::{EXTENT_BYTES, extent_len};
use crate::source::is_zero;
use crate::{BlockSource, Delta, Error, FileShape, ImageSink, Manifest, Result, SnapshotReader};
use pitr_dedup::ChunkStore;
use pitr_format::FileId;

pub(crate) struct Compared<'a> {
    source: &'a dyn BlockSource,
    shapes: Vec<FileShape>,
    before: Before,
    changed: u64,
}

impl<'a> Compared<'a> {
    pub(crate) fn new(store: &ChunkStore, source: &'a dyn BlockSource, parent: &Manifest) -> Result<Self> {
        let before = Before { parent: SnapshotReader::open(store.clone(), parent.clone()) };
        Ok(Compared { source, shapes: in_order(source.files())?, before, changed: 0 })
    }

    /// Bytes of the blocks that differ.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }
}

/// The snapshot that is compared with.
struct Before {
    parent: SnapshotReader,
}

/// What became of an extent.
struct Difference {
    /// Blocks to hand out, counted from the extent's first.
    blocks: Vec<usize>,
    /// Bytes that differ.
    changed: u64,
}

impl Before {
    /// Bytes at the begin of the file that the parent has too.
    fn shared(&self, shape: &FileShape) -> u64 {
        match self.parent.manifest().file(shape.file) {
            Some(entry) if entry.shape.block_bytes == shape.block_bytes => entry.shape.len.min(shape.len),
            _ => 0,
        }
    }

    fn difference(&self, shape: &FileShape, extent: u64, now: &[u8]) -> Result<Difference> {
        let shared = extent_len(self.shared(shape), extent);
        // A chunk may hold more than the parent's file had of it: that the rest is the same by chance means nothing.
        let is_same = |now| self.parent.is_extent(shape.file, extent, now);
        let damaged = Error::parent(self.parent.manifest().id);
        // The last extent of a file that grew is longer than it was.
        if shared == now.len() && is_same(now).map_err(damaged)? {
            return Ok(Difference { blocks: Vec::new(), changed: 0 });
        }
        let mut before = Vec::new();
        if shared > 0 {
            let read = self.parent.read_extent(shape.file, extent);
            before = read.map_err(Error::parent(self.parent.manifest().id))?;
            before.truncate(shared);
        }
        Ok(differing(&before, now, shape.block_bytes as usize))
    }
}

/// Compares with what was before, behind which there are zeros. If more than half differs all blocks are handed out:
/// the extent is written whole.
fn differing(before: &[u8], now: &[u8], block_bytes: usize) -> Difference {
    let same = |no: usize, block: &[u8]| {
        let start = no * block_bytes;
        let had = before.get(start..).unwrap_or(&[]);
        let had = &had[..had.len().min(block.len())];
        block[..had.len()] == *had && is_zero(&block[had.len()..])
    };
    let mut blocks = Vec::new();
    let mut changed = 0;
    let count = now.len().div_ceil(block_bytes);
    for (no, block) in now.chunks(block_bytes).enumerate() {
        if !same(no, block) {
            blocks.push(no);
            changed += block.len() as u64;
        }
    }
    if blocks.len() * 2 > count {
        blocks = (0..count).collect();
    }
    Difference { blocks, changed }
}

impl Delta for Compared<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.shapes.clone()
    }

    fn zeroed_from(&self, file: FileId) -> u64 {
        let at = self.shapes.binary_search_by_key(&file, |shape| shape.file);
        at.map_or(0, |at| self.before.shared(&self.shapes[at]))
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        let before = &self.before;
        let changed = &mut self.changed;
        let compare = |extent: &Extent<'_>| before.difference(extent.shape, extent.number, &extent.bytes);
        let same_shape = |shape: &FileShape| {
            before.parent.manifest().file(shape.file).is_some_and(|entry| entry.shape == *shape)
        };
        let to_read: Vec<FileShape> = self
            .shapes
            .iter()
            .filter(|shape| !(self.source.is_unchanged(shape.file) && same_shape(shape)))
            .cloned()
            .collect();
        each_extent(self.source, &to_read, compare, |extent, difference| {
            let block_bytes = extent.shape.block_bytes as usize;
            let per_extent = EXTENT_BYTES / u64::from(extent.shape.block_bytes);
            *changed += difference.changed;
            for no in difference.blocks {
                let start = no * block_bytes;
                let block = &extent.bytes[start..extent.bytes.len().min(start + block_bytes)];
                sink(extent.shape.file, extent.number * per_extent + no as u64, block)?;
            }
            Ok(())
        })
    }
}
