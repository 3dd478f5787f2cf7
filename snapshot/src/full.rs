//! Takes a snapshot by reading the whole source.

use crate::compare::Compared;
use crate::extent_leaf::{self, CutExtent};
use crate::file_leaf;
use crate::increment::{increment, sorted_shapes};
use crate::manifest::{Cut, Node};
use crate::pipeline::{Extent, each_extent};
use crate::shape::{NODE_EXTENTS, extents_of_node};
use crate::source::is_zero;
use crate::tree;
use crate::{
    BlockSource, FileEntry, FileShape, Manifest, Result, Sizes, Snapshot, SnapshotId, SnapshotKind,
    SnapshotMeta,
};
use pitr_dedup::{ChunkId, ChunkStore, ChunkWriter};
use pitr_tracker::{BlockSize, ChangeSet};
use pitr_vfs::Spawn;
use std::sync::Arc;

/// Reads all files of `source` and stores what the repository does not have.
///
/// With a parent, extents are compared with it and the snapshot is incremental. Unchanged data adds
/// nothing. Of changed files only the changed blocks are stored, or the new extents if the file has
/// no blocks.
///
/// The snapshot exists once it is [published](Manifest::publish).
///
/// # Errors
/// [`Error::Parent`](crate::Error::Parent) if the parent is damaged: take a snapshot without it.
/// [`Error::Source`](crate::Error::Source), [`Error::Shape`](crate::Error::Shape); errors of the
/// repository.
pub fn write_full(
    store: &ChunkStore,
    source: &dyn BlockSource,
    meta: SnapshotMeta,
    parent: Option<&Manifest>,
) -> Result<Manifest> {
    let shapes = sorted_shapes(source.files())?;
    if let Some(parent) = parent {
        let (of_blocks, others) = shapes.into_iter().partition(FileShape::has_blocks);
        let mut delta = Compared::new(store, source, parent, of_blocks);
        let mut new = 0;
        let others = |writer: &ChunkWriter| {
            let files;
            (files, new) = write_cut_files(store, writer, source, others, parent)?;
            Ok(files)
        };
        let mut manifest = increment(store, parent, &mut delta, meta, others)?;
        manifest.snapshot.sizes.changed = new + delta.changed();
        return Ok(manifest);
    }
    let writer = store.writer(meta.codec);
    let files = write_whole(store.objects().env().spawn, &writer, source, shapes, |_, _| Ok(()))?;
    let logical = files.iter().map(|file| file.shape.len).sum();
    let leaves = file_leaf::put(&writer, &files)?;
    let stored = writer.finish()?.stored;
    let id = SnapshotId(store.objects().random_bytes()?);
    let sizes = Sizes { logical, changed: logical, stored };
    Ok(Manifest {
        snapshot: Snapshot { id, kind: SnapshotKind::Full, parent: None, meta, sizes },
        files: Arc::new(files),
        leaves,
    })
}

/// Stores all extents of these files. Calls `stored` for each.
fn write_whole(
    spawn: Spawn,
    writer: &ChunkWriter,
    source: &dyn BlockSource,
    shapes: Vec<FileShape>,
    mut stored: impl FnMut(ChunkId, usize) -> Result<()>,
) -> Result<Vec<FileEntry>> {
    let mut trees: Vec<Tree> = shapes.iter().map(Tree::new).collect();
    let put = |extent: &Extent<'_>| match is_zero(extent.bytes()) {
        true => Ok(ChunkId::ZERO),
        false => Ok(writer.put(extent.bytes())?),
    };
    each_extent(
        spawn,
        source,
        &shapes,
        |_, _| true,
        put,
        |extent, id| {
            stored(id, extent.bytes().len())?;
            // At most 1 MiB.
            trees[extent.file].set(writer, extent.number, (id, extent.bytes().len() as u32))
        },
    )?;
    shapes.into_iter().zip(trees).map(|(shape, tree)| tree.finish(writer, shape)).collect()
}

/// Stores files without blocks. Unchanged files are taken from the parent, the others are read
/// whole. Returns also the number of their bytes that the repository did not have.
fn write_cut_files(
    store: &ChunkStore,
    writer: &ChunkWriter,
    source: &dyn BlockSource,
    shapes: Vec<FileShape>,
    parent: &Manifest,
) -> Result<(Vec<FileEntry>, u64)> {
    let as_before = |shape: &FileShape| {
        let before = parent.file(shape.file).filter(|entry| entry.shape == *shape);
        let is_same =
            |changes: &ChangeSet| changes.blocks(shape.file, BlockSize::DEFAULT, shape.len).next().is_none();
        before.filter(|_| source.changes(shape.file).is_some_and(is_same))
    };
    let (mut files, mut to_read, mut new) = (Vec::new(), Vec::new(), 0);
    for shape in shapes {
        match as_before(&shape) {
            Some(entry) => files.push(entry.clone()),
            None => to_read.push(shape),
        }
    }
    files.extend(write_whole(store.objects().env().spawn, writer, source, to_read, |id, len| {
        if id != ChunkId::ZERO && store.place(&id)?.is_none() {
            new += len as u64;
        }
        Ok(())
    })?);
    Ok((files, new))
}

/// The tree of a file whose extents arrive in any order.
///
/// A node is stored as soon as it is complete. There is one `Tree` per file, and most files have
/// one node, so a `Tree` takes little more memory than that node.
struct Tree {
    /// Length of a file with blocks, which determines its number of extents.
    len: Option<u64>,
    /// Incomplete nodes. There are few at a time.
    growing: Vec<Growing>,
    /// Complete nodes, in any order.
    nodes: Vec<Grown>,
}

struct Growing {
    number: u64,
    extents: Vec<CutExtent>,
    missing: usize,
}

struct Grown {
    number: u64,
    node: Node,
    extents: u64,
    bytes: u64,
}

impl Tree {
    fn new(shape: &FileShape) -> Self {
        let len = shape.has_blocks().then_some(shape.len);
        Tree { len, growing: Vec::new(), nodes: Vec::new() }
    }

    fn set(&mut self, writer: &ChunkWriter, number: u64, extent: CutExtent) -> Result<()> {
        let node = number / NODE_EXTENTS;
        let at = self.growing.iter().position(|growing| growing.number == node).unwrap_or_else(|| {
            // At most NODE_EXTENTS.
            let whole = self.len.map_or(NODE_EXTENTS, |len| extents_of_node(len, node)) as usize;
            self.growing.push(Growing {
                number: node,
                extents: vec![(ChunkId::ZERO, 0); whole],
                missing: whole,
            });
            self.growing.len() - 1
        });
        let growing = &mut self.growing[at];
        growing.extents[(number % NODE_EXTENTS) as usize] = extent; // index within the node
        growing.missing -= 1;
        if growing.missing == 0 {
            self.put(writer, at)?;
        }
        Ok(())
    }

    /// Stores the leaf of a node that has all its extents.
    fn put(&mut self, writer: &ChunkWriter, at: usize) -> Result<()> {
        let Growing { number, mut extents, missing } = self.growing.swap_remove(at);
        if self.growing.is_empty() {
            self.growing = Vec::new();
        }
        extents.truncate(extents.len() - missing);
        let leaf = match self.len {
            Some(_) => tree::put_extents(writer, &extents.iter().map(|(id, _)| *id).collect::<Vec<_>>())?,
            None => writer.put(&extent_leaf::encode_cut(&extents))?,
        };
        if self.nodes.is_empty() {
            self.nodes.reserve_exact(1);
        }
        self.nodes.push(Grown {
            number,
            node: Node { extents: leaf, overlays: Vec::new() },
            extents: extents.len() as u64,
            bytes: extents.iter().map(|(_, len)| u64::from(*len)).sum(),
        });
        Ok(())
    }

    /// Returns the file, after every extent was set.
    fn finish(mut self, writer: &ChunkWriter, shape: FileShape) -> Result<FileEntry> {
        // The end of a file without blocks is known only now.
        if !self.growing.is_empty() {
            self.put(writer, 0)?;
        }
        debug_assert!(self.growing.is_empty());
        self.nodes.sort_unstable_by_key(|grown| grown.number);
        let ends = self.nodes.iter().scan(0, |end, grown| {
            *end += grown.bytes;
            Some(*end)
        });
        let extents = self.nodes.iter().map(|grown| grown.extents).sum();
        let cut = self.len.is_none().then(|| Cut { ends: ends.collect(), extents });
        Ok(FileEntry { shape, nodes: self.nodes.into_iter().map(|grown| grown.node).collect(), cut })
    }
}
