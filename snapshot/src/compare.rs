//! The delta between a source and a snapshot of it, found by comparison.
//!
//! Pieces of 4 KiB are compared by their sums, which the repository stores with its chunks. The
//! content of the parent is not read. Only files with smaller blocks are compared block by block
//! where a piece differs.
//!
//! If the source knows the changes of a file, only extents with mostly changed blocks are read
//! whole. In other extents only the changed blocks are read, and they are returned without a
//! comparison.

use crate::pipeline::{Extent, each_extent};
use crate::scattered::each_block;
use crate::shape::{EXTENT_BYTES, extent_len, extents};
use crate::source::is_zero;
use crate::tracked::block_size;
use crate::{BlockSource, Delta, Error, FileShape, ImageSink, Manifest, Result, SnapshotReader};
use pitr_dedup::{ChunkStore, PIECE_BYTES};
use pitr_format::FileId;
use pitr_tracker::{BlockSize, ChangeSet};
use pitr_vfs::Spawn;

pub(crate) struct Compared<'a> {
    spawn: Spawn,
    source: &'a dyn BlockSource,
    shapes: Vec<FileShape>,
    before: Before,
    changed: u64,
}

impl<'a> Compared<'a> {
    /// Compares these files of the source. All have blocks, and they are sorted.
    pub(crate) fn new(
        store: &ChunkStore,
        source: &'a dyn BlockSource,
        parent: &Manifest,
        shapes: Vec<FileShape>,
    ) -> Self {
        let before = Before { parent: SnapshotReader::open(store.clone(), parent.clone()) };
        Compared { spawn: store.objects().env().spawn, source, shapes, before, changed: 0 }
    }

    /// Total size of the blocks that differ, bytes.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }
}

/// The snapshot to compare with.
struct Before {
    parent: SnapshotReader,
}

/// A file whose changes the source knows. Extents with mostly changed blocks are read whole and
/// compared.
struct Known<'a> {
    changes: &'a ChangeSet,
    size: BlockSize,
    /// Number of blocks per extent.
    per_extent: u64,
    /// All extents from this one on are read, because the file grew there.
    grown: u64,
    /// The earlier extents in which more than half of the blocks changed, ascending.
    dense: Vec<u64>,
}

impl Known<'_> {
    fn is_dense(&self, extent: u64) -> bool {
        extent >= self.grown || self.dense.binary_search(&extent).is_ok()
    }

    /// The changed blocks of all other extents.
    fn scattered(&self, shape: &FileShape) -> impl Iterator<Item = u64> + Send {
        let blocks = self.changes.blocks(shape.file, self.size, shape.len);
        let before = blocks.take_while(|block| block / self.per_extent < self.grown);
        before.filter(|block| !self.is_dense(block / self.per_extent))
    }
}

/// The result of comparing an extent.
struct Difference {
    /// Blocks to return, counted from the extent's first.
    blocks: Vec<usize>,
    /// Size of the blocks that differ, bytes.
    changed: u64,
}

impl Before {
    /// Length of the file in the parent, if its blocks are comparable.
    fn has(&self, shape: &FileShape) -> Option<u64> {
        let entry = self.parent.manifest().file(shape.file);
        entry.filter(|entry| entry.shape.block_bytes == shape.block_bytes).map(|entry| entry.shape.len)
    }

    /// The file's known changes, if the source knows them and the parent has the file.
    fn known<'s>(&self, source: &'s dyn BlockSource, shape: &FileShape) -> Result<Option<Known<'s>>> {
        let Some((changes, had)) = source.changes(shape.file).zip(self.has(shape)) else { return Ok(None) };
        let (size, per_extent) = (block_size(shape)?, shape.geometry().blocks_per_extent());
        let grown = if had < shape.len { had / EXTENT_BYTES } else { extents(shape.len) };
        let mut known = Known { changes, size, per_extent, grown, dense: Vec::new() };
        let (mut dense, mut last) = (Vec::new(), (0, 0));
        for block in known.scattered(shape) {
            let extent = block / per_extent;
            last = if last.0 == extent { (extent, last.1 + 1) } else { (extent, 1) };
            if last.1 == per_extent / 2 + 1 {
                dense.push(extent);
            }
        }
        known.dense = dense;
        Ok(Some(known))
    }

    /// Number of bytes at the start of the file that the parent has too.
    fn shared(&self, shape: &FileShape) -> u64 {
        self.has(shape).map_or(0, |len| len.min(shape.len))
    }

    fn difference(&self, shape: &FileShape, extent: u64, now: &[u8]) -> Result<Difference> {
        let block_bytes = shape.block_bytes as usize;
        let shared = extent_len(self.shared(shape), extent);
        if shared == 0 {
            return Ok(differing(&[], now, block_bytes));
        }
        let damaged = Error::parent(self.parent.manifest().snapshot.id);
        let pieces = self.parent.differing(shape.file, extent, now).map_err(damaged)?;
        if pieces.contains(&true) && block_bytes < PIECE_BYTES {
            let read = self.parent.read_extent(shape.file, extent);
            let mut before = read.map_err(Error::parent(self.parent.manifest().snapshot.id))?;
            before.truncate(shared);
            return Ok(differing(&before, now, block_bytes));
        }
        let blocks =
            pieces.chunks((block_bytes / PIECE_BYTES).max(1)).map(|of_block| of_block.contains(&true));
        Ok(Difference::of(blocks, now.len(), block_bytes))
    }
}

impl Difference {
    /// Builds the result from a flag per block. If more than half of the blocks differ, all are
    /// returned: the extent is then stored whole.
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

/// Compares `now` with `before`, which continues with zeros after its end.
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
        let known: Vec<Option<Known<'_>>> =
            self.shapes.iter().map(|shape| before.known(self.source, shape)).collect::<Result<_>>()?;
        let blocks = self.shapes.iter().zip(&known).flat_map(|(shape, known)| {
            let scattered = known.iter().flat_map(|known| known.scattered(shape));
            scattered.map(move |block| (shape, block))
        });
        each_block(self.spawn, self.source, blocks, |shape, block, image| {
            *changed += image.len() as u64;
            sink(shape.file, block, image)
        })?;
        let is_read =
            |file: usize, extent: u64| known[file].as_ref().is_none_or(|known| known.is_dense(extent));
        let compare = |extent: &Extent<'_>| before.difference(extent.shape, extent.number, extent.bytes());
        each_extent(self.spawn, self.source, &self.shapes, is_read, compare, |extent, difference| {
            let block_bytes = extent.shape.block_bytes as usize;
            let per_extent = EXTENT_BYTES / u64::from(extent.shape.block_bytes);
            *changed += difference.changed;
            for no in difference.blocks {
                let start = no * block_bytes;
                let block = &extent.bytes()[start..extent.bytes().len().min(start + block_bytes)];
                sink(extent.shape.file, extent.number * per_extent + no as u64, block)?;
            }
            Ok(())
        })
    }
}
