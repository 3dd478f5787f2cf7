//! Collects the images of a delta and packs changed blocks into chunks.
//!
//! Images arrive in any order. A window of them is sorted before it is packed, so that neighbouring
//! blocks share a chunk. An extent whose blocks are all within one window is stored whole at once.

use crate::shape::{EXTENT_BYTES, Geometry, extent_len};
use crate::source::is_zero;
use crate::{Error, FileShape, Result};
use pitr_dedup::{ChunkId, ChunkWriter};
use pitr_format::FileId;
use std::collections::HashMap;

/// Size of the images that are sorted together, bytes.
const WINDOW_BYTES: usize = 32 << 20;
/// Number of images that are sorted together, including those of zeros.
const WINDOW_IMAGES: usize = 128 << 10;
/// Number of chunks that all threads store together.
const CHUNKS_AT_ONCE: usize = 16;
/// Stands in for a chunk number: the block is all zeros.
const ZERO: u32 = u32::MAX;

/// Where a changed block is stored. These 16 bytes per block are the only memory that grows with
/// the delta.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed {
    pub(crate) block: u64,
    chunk: u32,
    slot: u32,
}

impl Changed {
    /// Chunk and slot, or `None` for a block of zeros.
    pub(crate) fn slot(&self) -> Option<(u32, u32)> {
        (self.chunk != ZERO).then_some((self.chunk, self.slot))
    }
}

/// The collected changes of one file.
#[derive(Debug)]
pub(crate) struct CollectedFile {
    pub(crate) shape: FileShape,
    /// Changed blocks. Sorted after `settle`.
    pub(crate) blocks: Vec<Changed>,
    /// The chunks that the blocks refer to.
    pub(crate) chunks: Vec<ChunkId>,
    /// Extents that were stored whole. Sorted after `settle`.
    pub(crate) wholes: Vec<(u64, ChunkId)>,
}

impl CollectedFile {
    fn geometry(&self) -> Geometry {
        self.shape.geometry()
    }

    /// Number of the file's bytes in a block.
    fn block_len(&self, block: u64) -> u64 {
        self.shape.len.saturating_sub(block * self.geometry().block_bytes).min(self.geometry().block_bytes)
    }

    /// Total size of the collected blocks and extents, bytes.
    pub(crate) fn changed(&self) -> u64 {
        let blocks: u64 = self.blocks.iter().map(|entry| self.block_len(entry.block)).sum();
        let wholes: u64 =
            self.wholes.iter().map(|(extent, _)| extent_len(self.shape.len, *extent) as u64).sum();
        blocks + wholes
    }

    /// The changed blocks from `first` (inclusive) to `end` (exclusive).
    pub(crate) fn range(&self, first: u64, end: u64) -> &[Changed] {
        let at = |block: u64| self.blocks.partition_point(|entry| entry.block < block);
        &self.blocks[at(first)..at(end)]
    }

    /// The whole extents from `first` (inclusive) to `end` (exclusive).
    pub(crate) fn wholes_in(&self, first: u64, end: u64) -> &[(u64, ChunkId)] {
        let at = |extent: u64| self.wholes.partition_point(|(number, _)| *number < extent);
        &self.wholes[at(first)..at(end)]
    }

    /// True if an image of the block was collected.
    pub(crate) fn has(&self, block: u64) -> bool {
        let extent = block / self.geometry().blocks_per_extent();
        !self.range(block, block + 1).is_empty() || !self.wholes_in(extent, extent + 1).is_empty()
    }

    fn settle(&mut self) -> Result<()> {
        self.blocks.sort_unstable_by_key(|entry| entry.block);
        self.wholes.sort_unstable_by_key(|(extent, _)| *extent);
        let file = self.shape.file;
        let per_extent = self.geometry().blocks_per_extent();
        let twice = |block| Err(Error::Image { file, block, what: "the delta returns its image twice" });
        if let Some(pair) = self.blocks.windows(2).find(|pair| pair[0].block == pair[1].block) {
            return twice(pair[0].block);
        }
        if let Some(pair) = self.wholes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return twice(pair[0].0 * per_extent);
        }
        let in_both =
            |extent: &u64| self.range(extent * per_extent, (extent + 1) * per_extent).first().copied();
        match self.wholes.iter().find_map(|(extent, _)| in_both(extent)) {
            Some(entry) => twice(entry.block),
            None => Ok(()),
        }
    }
}

/// An image in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Image {
    file: u32,
    /// Offset of the image's bytes in the window; [`ZERO`] for zeros.
    at: u32,
    block: u64,
}

#[derive(Debug)]
pub(crate) struct Collector<'w> {
    writer: &'w ChunkWriter,
    files: Vec<CollectedFile>,
    numbers: HashMap<FileId, u32>,
    images: Vec<Image>,
    bytes: Vec<u8>,
    /// The chunk that is being filled, and the index of its file.
    open: Vec<u8>,
    open_file: usize,
    /// Chunks that are ready to be stored, and for each the place where its id will be entered.
    full: Vec<Vec<u8>>,
    pending_ids: Vec<PendingId>,
}

/// The use of a chunk's id.
#[derive(Debug, Clone, Copy)]
struct PendingId {
    file: usize,
    /// The extent whose whole content the chunk is. `None` for a chunk of blocks, whose id is
    /// appended to the file's table.
    extent: Option<u64>,
}

impl<'w> Collector<'w> {
    pub(crate) fn new(writer: &'w ChunkWriter, shapes: Vec<FileShape>) -> Self {
        let numbers = shapes.iter().enumerate().map(|(no, shape)| (shape.file, no as u32)).collect();
        let files = shapes
            .into_iter()
            .map(|shape| CollectedFile { shape, blocks: Vec::new(), chunks: Vec::new(), wholes: Vec::new() })
            .collect();
        let (images, bytes, open) = (Vec::new(), Vec::new(), Vec::new());
        let (full, pending_ids) = (Vec::new(), Vec::new());
        Collector { writer, files, numbers, images, bytes, open, open_file: 0, full, pending_ids }
    }

    pub(crate) fn files(&self) -> &[CollectedFile] {
        &self.files
    }

    /// Collects an image.
    pub(crate) fn push(&mut self, file: FileId, block: u64, image: &[u8]) -> Result<()> {
        let wrong = |what| Error::Image { file, block, what };
        let number = *self.numbers.get(&file).ok_or(wrong("the delta does not name the file"))?;
        let shape = &self.files[number as usize].shape;
        let block_bytes = shape.geometry().block_bytes;
        let Some(start) = block.checked_mul(block_bytes).filter(|start| *start < shape.len) else {
            return Ok(()); // after the end of the file
        };
        let within = (shape.len - start).min(block_bytes) as usize;
        if image.len() != block_bytes as usize && image.len() != within {
            return Err(wrong("the image does not have the length of a block"));
        }
        let image = &image[..within];
        if is_zero(image) {
            self.images.push(Image { file: number, at: ZERO, block });
        } else {
            // Below WINDOW_BYTES.
            self.images.push(Image { file: number, at: self.bytes.len() as u32, block });
            self.bytes.extend_from_slice(image);
            self.bytes.resize(self.bytes.len() + block_bytes as usize - within, 0);
        }
        if self.bytes.len() >= WINDOW_BYTES || self.images.len() >= WINDOW_IMAGES {
            self.pack()
        } else {
            Ok(())
        }
    }

    /// Packs the rest and sorts everything.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.pack()?;
        self.close()?;
        self.store()?;
        self.files.iter_mut().try_for_each(CollectedFile::settle)
    }

    pub(crate) fn into_files(self) -> Vec<CollectedFile> {
        self.files
    }

    /// Packs the window.
    fn pack(&mut self) -> Result<()> {
        let mut images = std::mem::take(&mut self.images);
        let bytes = std::mem::take(&mut self.bytes);
        images.sort_unstable_by_key(|image| (image.file, image.block));
        let extent_of = |image: &Image| {
            let geometry = self.files[image.file as usize].geometry();
            (image.file, image.block / geometry.blocks_per_extent())
        };
        let runs: Vec<&[Image]> = images.chunk_by(|a, b| extent_of(a) == extent_of(b)).collect();
        for run in runs {
            self.pack_extent(run, &bytes)?;
        }
        images.clear();
        self.images = images;
        self.bytes = bytes;
        self.bytes.clear();
        Ok(())
    }

    /// Packs the images of one extent: as a whole extent if they cover it.
    fn pack_extent(&mut self, run: &[Image], bytes: &[u8]) -> Result<()> {
        let Some(first) = run.first() else { return Ok(()) };
        let number = first.file as usize;
        let file = &self.files[number];
        let geometry = file.geometry();
        let extent = first.block / geometry.blocks_per_extent();
        let len = extent_len(file.shape.len, extent);
        let block_bytes = geometry.block_bytes as usize;
        let in_order = run.windows(2).all(|pair| pair[0].block < pair[1].block);
        if in_order && run.len() as u64 == geometry.blocks(len as u64) {
            return self.put_whole(number, extent, whole_extent(run, bytes, block_bytes, len));
        }
        for image in run {
            let entry = match image.at {
                ZERO => Changed { block: image.block, chunk: ZERO, slot: 0 },
                at => self.append(number, image.block, &bytes[at as usize..at as usize + block_bytes])?,
            };
            self.files[number].blocks.push(entry);
        }
        Ok(())
    }

    fn put_whole(&mut self, file: usize, extent: u64, bytes: Vec<u8>) -> Result<()> {
        if is_zero(&bytes) {
            self.files[file].wholes.push((extent, ChunkId::ZERO));
            Ok(())
        } else {
            self.put(PendingId { file, extent: Some(extent) }, bytes)
        }
    }

    /// Appends a block to the open chunk of its file.
    fn append(&mut self, file: usize, block: u64, bytes: &[u8]) -> Result<Changed> {
        if self.open_file != file || self.open.len() as u64 == EXTENT_BYTES {
            self.close()?;
            self.open_file = file;
        }
        // All blocks of a file have the same size.
        let slot = (self.open.len() / bytes.len()) as u32;
        self.open.extend_from_slice(bytes);
        let chunk = self.files[file].chunks.len() + self.waiting(file);
        Ok(Changed { block, chunk: chunk as u32, slot })
    }

    /// Number of chunks for the file's table that have no id yet.
    fn waiting(&self, file: usize) -> usize {
        self.pending_ids.iter().filter(|one| one.file == file && one.extent.is_none()).count()
    }

    fn close(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.open);
        self.put(PendingId { file: self.open_file, extent: None }, chunk)
    }

    fn put(&mut self, pending: PendingId, chunk: Vec<u8>) -> Result<()> {
        self.full.push(chunk);
        self.pending_ids.push(pending);
        if self.full.len() < CHUNKS_AT_ONCE { Ok(()) } else { self.store() }
    }

    /// Stores the ready chunks, on all threads.
    fn store(&mut self) -> Result<()> {
        let ids = self.writer.put_many(&self.full)?;
        self.full.clear();
        for (PendingId { file, extent }, id) in self.pending_ids.drain(..).zip(ids) {
            match extent {
                Some(extent) => self.files[file].wholes.push((extent, id)),
                None => self.files[file].chunks.push(id),
            }
        }
        Ok(())
    }
}

/// The bytes of an extent of which every block has an image.
fn whole_extent(run: &[Image], bytes: &[u8], block_bytes: usize, len: usize) -> Vec<u8> {
    let mut extent = Vec::with_capacity(run.len() * block_bytes);
    for image in run {
        match image.at {
            ZERO => extent.resize(extent.len() + block_bytes, 0),
            at => extent.extend_from_slice(&bytes[at as usize..at as usize + block_bytes]),
        }
    }
    extent.truncate(len);
    extent
}
