//! The delta between a source that is read whole and a snapshot of it.
//!
//! Pieces of 4 KiB are compared by their sums, which the repository keeps beside its chunks: nothing of the parent's content
//! is read. Only files of smaller blocks are compared block by block where a piece differs.

use crate::pipeline::{Extent, each_extent};
use crate::shape::{EXTENT_BYTES, extent_len};
use crate::source::is_zero;
use crate::{BlockSource, Delta, Error, FileShape, ImageSink, Manifest, Result, SnapshotReader};
use pitr_dedup::{ChunkStore, PIECE_BYTES};
use pitr_format::FileId;

pub(crate) struct Compared<'a> {
    source: &'a dyn BlockSource,
    shapes: Vec<FileShape>,
    before: Before,
    changed: u64,
}

impl<'a> Compared<'a> {
    /// Compares these files of the source, all of blocks and in order.
    pub(crate) fn new(
        store: &ChunkStore,
        source: &'a dyn BlockSource,
        parent: &Manifest,
        shapes: Vec<FileShape>,
    ) -> Self {
        let before = Before { parent: SnapshotReader::open(store.clone(), parent.clone()) };
        Compared { source, shapes, before, changed: 0 }
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
        let block_bytes = shape.block_bytes as usize;
        let shared = extent_len(self.shared(shape), extent);
        if shared == 0 {
            return Ok(differing(&[], now, block_bytes));
        }
        let damaged = Error::parent(self.parent.manifest().id);
        let pieces = self.parent.differing(shape.file, extent, now).map_err(damaged)?;
        if pieces.contains(&true) && block_bytes < PIECE_BYTES {
            let read = self.parent.read_extent(shape.file, extent);
            let mut before = read.map_err(Error::parent(self.parent.manifest().id))?;
            before.truncate(shared);
            return Ok(differing(&before, now, block_bytes));
        }
        let blocks =
            pieces.chunks((block_bytes / PIECE_BYTES).max(1)).map(|of_block| of_block.contains(&true));
        Ok(Difference::of(blocks, now.len(), block_bytes))
    }
}

impl Difference {
    /// Of blocks that differ or don't, in order. If more than half of them do all are handed out: the extent is written
    /// whole.
    fn of(differs: impl Iterator<Item = bool>, len: usize, block_bytes: usize) -> Self {
        let count = len.div_ceil(block_bytes);
        let mut blocks: Vec<usize> =
            differs.enumerate().filter(|(_, differs)| *differs).map(|(no, _)| no).collect();
        let changed = blocks.iter().map(|no| (len - no * block_bytes).min(block_bytes) as u64).sum();
        if blocks.len() * 2 > count {
            blocks = (0..count).collect();
        }
        Difference { blocks, changed }
    }
}

/// Compares with what was before, behind which there are zeros.
fn differing(before: &[u8], now: &[u8], block_bytes: usize) -> Difference {
    let same = |no: usize, block: &[u8]| {
        let start = no * block_bytes;
        let had = before.get(start..).unwrap_or(&[]);
        let had = &had[..had.len().min(block.len())];
        block[..had.len()] == *had && is_zero(&block[had.len()..])
    };
    let differs = now.chunks(block_bytes).enumerate().map(|(no, block)| !same(no, block));
    Difference::of(differs, now.len(), block_bytes)
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
