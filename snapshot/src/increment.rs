//! Taking a snapshot by what changed since another one.

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

/// Stores what `delta` hands out and makes a snapshot of it and of `parent`, which need not be kept for it. Of the
/// parent its leaves are read, and each chunk that they name must be known; and extents that are written whole because
/// what lies over them has passed half.
///
/// The snapshot exists once it is [published](Manifest::publish).
///
/// # Errors
/// [`Error::Parent`] when the parent is damaged: take a full one. [`Error::Delta`], [`Error::Image`],
/// [`Error::Shape`]; those of the repository.
pub fn write_increment(
    store: &ChunkStore,
    parent: &Manifest,
    delta: &mut dyn Delta,
    meta: SnapshotMeta,
) -> Result<Manifest> {
    increment(store, parent, delta, meta, |_| Ok(Vec::new()))
}

/// As [`write_increment`], together with other files, which are stored first.
pub(crate) fn increment(
    store: &ChunkStore,
    parent: &Manifest,
    delta: &mut dyn Delta,
    meta: SnapshotMeta,
    others: impl FnOnce(&ChunkWriter) -> Result<Vec<FileEntry>>,
) -> Result<Manifest> {
    let shapes = in_order(delta.files())?;
    if let Some(shape) = shapes.iter().find(|shape| !shape.has_blocks()) {
        return Err(Error::Shape { file: shape.file, what: "it has no blocks, of which a delta consists" });
    }
    check_tree(store, parent).map_err(Error::parent(parent.snapshot.id))?;
    let writer = store.writer(meta.codec);
    let mut files = others(&writer)?;
    let mut collector = Collector::new(&writer, shapes);
    delta.for_each_image(&mut |file, block, image| collector.push(file, block, image))?;
    collector.settle()?;
    let kept: Vec<u64> = collector.files().iter().map(|file| kept(parent, delta, &file.shape)).collect();
    cut_blocks(&SnapshotReader::open(store.clone(), parent.clone()), &mut collector, &kept)?;
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
    let id = SnapshotId(pitr_objects::random_bytes()?);
    let sizes = Sizes { logical, changed, stored };
    let snapshot =
        Snapshot { id, kind: SnapshotKind::Incremental, parent: Some(parent.snapshot.id), meta, sizes };
    Ok(Manifest { snapshot, files: Arc::new(files), leaves })
}

/// The files by number, checked.
pub(crate) fn in_order(mut shapes: Vec<FileShape>) -> Result<Vec<FileShape>> {
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

/// Bytes at the begin of the file that may still be the parent's.
fn kept(parent: &Manifest, delta: &dyn Delta, shape: &FileShape) -> u64 {
    let had = parent_file(parent, shape).map_or(0, |entry| entry.shape.len);
    had.min(delta.zeroed_from(shape.file)).min(shape.len)
}

/// A file that was cut within a block and has grown since: of that block the front is the parent's and the rest zeros.
/// Unless the delta has its image, the block is made here.
fn cut_blocks(parent: &SnapshotReader, collector: &mut Collector<'_>, kept: &[u64]) -> Result<()> {
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
    let mut written = Vec::with_capacity(nodes as usize); // of 4 GiB each
    for number in 0..nodes {
        let before = old.and_then(|entry| Some((entry.shape.len, entry.nodes.get(number as usize)?)));
        written.push(match before {
            Some((len, node)) if is_untouched(file, kept, len, number) => node.clone(),
            _ => NodeMerge { store, file, kept, before, number }.write(writer, rewriter)?,
        });
    }
    Ok(written)
}

/// True if a node of the parent, whose file was `len_before` bytes long, can be taken over as it is.
fn is_untouched(file: &CollectedFile, kept: u64, len_before: u64, node: u64) -> bool {
    let len = file.shape.len;
    let (first, end) = (node * NODE_EXTENTS, (node + 1) * NODE_EXTENTS);
    let per_extent = file.shape.geometry().blocks_per_extent();
    // Between `kept` and the old length stands what must not come back now that the file is longer.
    let is_cut = kept < len && kept < end * EXTENT_BYTES && first * EXTENT_BYTES < len_before;
    !is_cut
        && extents_of_node(len, node) == extents_of_node(len_before, node)
        && file.range(first * per_extent, end * per_extent).is_empty()
        && file.wholes_in(first, end).is_empty()
}
