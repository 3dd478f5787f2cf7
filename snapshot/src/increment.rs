//! Takes a snapshot from the changes since another one.

use crate::SnapshotReader;
use crate::collect::{CollectedFile, Collector};
use crate::file_leaf;
use crate::manifest::Node;
use crate::merge::{NodeMerge, Rewriter};
use crate::shape::{EXTENT_BYTES, NODE_EXTENTS, extents_of_node, nodes};
use crate::walk::check_tree;
use crate::{
    Delta, Error, FileEntry, FileShape, Manifest, Result, Sizes, Snapshot, SnapshotId, SnapshotKind,
    SnapshotMeta,
};
use pitr_dedup::{ChunkStore, ChunkWriter};
use std::sync::Arc;

/// Stores the images of `delta` and combines them with `parent` to a snapshot, which does not
/// depend on the parent.
///
/// Reads the leaves of the parent, and checks that every chunk they refer to is known. Also reads
/// the extents that are rewritten because more than half of them is overlaid.
///
/// The snapshot exists once it is [published](Manifest::publish).
///
/// # Errors
/// [`Error::Parent`] if the parent is damaged: take a full snapshot. [`Error::Delta`],
/// [`Error::Image`], [`Error::Shape`]; errors of the repository.
pub fn write_increment(
    store: &ChunkStore,
    parent: &Manifest,
    delta: &mut dyn Delta,
    meta: SnapshotMeta,
) -> Result<Manifest> {
    increment(store, parent, delta, meta, |_| Ok(Vec::new()))
}

/// Like [`write_increment`], with additional files, which are stored first.
pub(crate) fn increment(
    store: &ChunkStore,
    parent: &Manifest,
    delta: &mut dyn Delta,
    meta: SnapshotMeta,
    others: impl FnOnce(&ChunkWriter) -> Result<Vec<FileEntry>>,
) -> Result<Manifest> {
    let shapes = sorted_shapes(delta.files())?;
    if let Some(shape) = shapes.iter().find(|shape| !shape.has_blocks()) {
        return Err(Error::Shape {
            file: shape.file,
            what: "it has no blocks, but a delta consists of blocks",
        });
    }
    check_tree(store, parent).map_err(Error::parent(parent.snapshot.id))?;
    let writer = store.writer(meta.codec);
    let mut files = others(&writer)?;
    let mut collector = Collector::new(&writer, shapes);
    delta.for_each_image(&mut |file, block, image| collector.push(file, block, image))?;
    collector.settle()?;
    let kept: Vec<u64> = collector.files().iter().map(|file| kept(parent, delta, &file.shape)).collect();
    fill_cut_blocks(&SnapshotReader::open(store.clone(), parent.clone()), &mut collector, &kept)?;
    let collected = collector.into_files();

    let mut rewriter = Rewriter::new(parent.snapshot.id);
    files.reserve_exact(collected.len());
    for (file, kept) in collected.iter().zip(kept) {
        let old = parent_file(parent, &file.shape);
        let nodes = write_nodes(store, &writer, &mut rewriter, old, file, kept)?;
        files.push(FileEntry { shape: file.shape.clone(), nodes, cut: None });
    }
    files.sort_by_key(|file| file.shape.file);
    let logical = files.iter().map(|file| file.shape.len).sum();
    let changed = collected.iter().map(CollectedFile::changed).sum();
    let leaves = file_leaf::put(&writer, &files)?;
    let stored = writer.finish()?.stored;
    let id = SnapshotId(store.objects().random_bytes()?);
    let sizes = Sizes { logical, changed, stored };
    let snapshot =
        Snapshot { id, kind: SnapshotKind::Incremental, parent: Some(parent.snapshot.id), meta, sizes };
    Ok(Manifest { snapshot, files: Arc::new(files), leaves })
}

/// Checks the files and sorts them by number.
pub(crate) fn sorted_shapes(mut shapes: Vec<FileShape>) -> Result<Vec<FileShape>> {
    shapes.iter().try_for_each(FileShape::check)?;
    shapes.sort_by_key(|shape| shape.file);
    match shapes.windows(2).find(|pair| pair[0].file == pair[1].file) {
        Some(pair) => Err(Error::Shape { file: pair[0].file, what: "another file has the same number" }),
        None => Ok(shapes),
    }
}

/// The file in the parent, if its blocks are comparable.
fn parent_file<'p>(parent: &'p Manifest, shape: &FileShape) -> Option<&'p FileEntry> {
    parent.file(shape.file).filter(|entry| entry.shape.block_bytes == shape.block_bytes)
}

/// Number of bytes at the start of the file that may still be those of the parent.
fn kept(parent: &Manifest, delta: &dyn Delta, shape: &FileShape) -> u64 {
    let had = parent_file(parent, shape).map_or(0, |entry| entry.shape.len);
    had.min(delta.zeroed_from(shape.file)).min(shape.len)
}

/// Creates the block in which a file was cut, if the file has grown since and the delta has no
/// image of the block. Its start is that of the parent, its rest is zeros.
fn fill_cut_blocks(parent: &SnapshotReader, collector: &mut Collector<'_>, kept: &[u64]) -> Result<()> {
    let mut made = Vec::new();
    for (file, kept) in collector.files().iter().zip(kept) {
        let block_bytes = file.shape.geometry().block_bytes;
        let (block, front) = (kept / block_bytes, kept % block_bytes);
        if front > 0 && *kept < file.shape.len && !file.has(block) {
            let mut image = vec![0; block_bytes as usize];
            let read = parent.read_at(file.shape.file, block * block_bytes, &mut image[..front as usize]);
            read.map_err(Error::parent(parent.manifest().snapshot.id))?;
            made.push((file.shape.file, block, image));
        }
    }
    for (file, block, image) in &made {
        collector.push(*file, *block, image)?;
    }
    if made.is_empty() { Ok(()) } else { collector.settle() }
}

fn write_nodes(
    store: &ChunkStore,
    writer: &ChunkWriter,
    rewriter: &mut Rewriter,
    old: Option<&FileEntry>,
    file: &CollectedFile,
    kept: u64,
) -> Result<Vec<Node>> {
    let nodes = nodes(file.shape.len);
    let mut written = Vec::with_capacity(nodes as usize); // each covers 4 GiB
    for number in 0..nodes {
        let before = old.and_then(|entry| Some((entry.shape.len, entry.nodes.get(number as usize)?)));
        written.push(match before {
            Some((len, node)) if is_untouched(file, kept, len, number) => node.clone(),
            _ => NodeMerge { store, file, kept, before, number }.write(writer, rewriter)?,
        });
    }
    Ok(written)
}

/// True if a node of the parent can be reused. `len_before` is the length of the parent's file,
/// bytes.
fn is_untouched(file: &CollectedFile, kept: u64, len_before: u64, node: u64) -> bool {
    let len = file.shape.len;
    let (first, end) = (node * NODE_EXTENTS, (node + 1) * NODE_EXTENTS);
    let per_extent = file.shape.geometry().blocks_per_extent();
    // Truncated bytes, between `kept` and the old length, must not reappear when the file grows.
    let is_cut = kept < len && kept < end * EXTENT_BYTES && first * EXTENT_BYTES < len_before;
    !is_cut
        && extents_of_node(len, node) == extents_of_node(len_before, node)
        && file.range(first * per_extent, end * per_extent).is_empty()
        && file.wholes_in(first, end).is_empty()
}
