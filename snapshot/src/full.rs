//! Taking a snapshot by reading everything.

use crate::compare::Compared;
use crate::extent_leaf;
use crate::increment::{in_order, increment};
use crate::manifest::Node;
use crate::pipeline::{Extent, each_extent};
use crate::shape::{NODE_EXTENTS, extents_of_node};
use crate::source::is_zero;
use crate::{BlockSource, FileEntry, Kind, Manifest, Result, Sizes, SnapshotId, SnapshotMeta};
use pitr_dedup::{ChunkId, ChunkStore, ChunkWriter};
use std::collections::BTreeMap;

/// Reads all files of `source` and stores what the repository does not have. With a parent, extents are compared with
/// it and the snapshot is incremental: what did not change costs nothing, and of what did only the blocks are stored.
///
/// The snapshot exists once it is [published](Manifest::publish).
///
/// # Errors
/// [`Error::Parent`](crate::Error::Parent) when the parent is damaged: take one without it.
/// [`Error::Source`](crate::Error::Source), [`Error::Shape`](crate::Error::Shape); those of the
/// repository.
pub fn write_full(
    store: &ChunkStore,
    source: &dyn BlockSource,
    meta: SnapshotMeta,
    parent: Option<&Manifest>,
) -> Result<Manifest> {
    if let Some(parent) = parent {
        let mut delta = Compared::new(store, source, parent)?;
        let mut manifest = increment(store, parent, &mut delta, meta)?;
        manifest.sizes.changed = delta.changed();
        return Ok(manifest);
    }
    let shapes = in_order(source.files())?;
    let writer = store.writer(meta.codec);
    let mut trees: Vec<Tree> = shapes.iter().map(|shape| Tree::new(shape.len)).collect();
    let put = |extent: &Extent<'_>| match is_zero(&extent.bytes) {
        true => Ok(ChunkId::ZERO),
        false => Ok(writer.put(&extent.bytes)?),
    };
    each_extent(source, &shapes, put, |extent, id| trees[extent.file].set(&writer, extent.number, id))?;
    let files: Vec<FileEntry> = shapes
        .into_iter()
        .zip(trees)
        .map(|(shape, tree)| FileEntry { shape, nodes: tree.finish() })
        .collect();
    let logical = files.iter().map(|file| file.shape.len).sum();
    let stored = writer.finish()?.stored;
    let id = SnapshotId(pitr_objects::random_bytes()?);
    let sizes = Sizes { logical, changed: logical, stored };
    Ok(Manifest { id, kind: Kind::Full, parent: None, meta, sizes, files })
}

/// The tree of a file whose extents become known in any order. A node is stored as soon as it is complete.
struct Tree {
    len: u64,
    /// Ids of nodes that are not complete, and how many are missing.
    growing: BTreeMap<u64, (Vec<ChunkId>, usize)>,
    nodes: BTreeMap<u64, Node>,
}

impl Tree {
    fn new(len: u64) -> Self {
        Tree { len, growing: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    fn set(&mut self, writer: &ChunkWriter, extent: u64, id: ChunkId) -> Result<()> {
        let number = extent / NODE_EXTENTS;
        let extents = extents_of_node(self.len, number) as usize; // at most NODE_EXTENTS
        let (ids, missing) =
            self.growing.entry(number).or_insert_with(|| (vec![ChunkId::ZERO; extents], extents));
        ids[(extent % NODE_EXTENTS) as usize] = id; // an extent of this node
        *missing -= 1;
        if *missing == 0 {
            let node = Node { extents: put_extents(writer, ids)?, overlays: Vec::new() };
            self.growing.remove(&number);
            self.nodes.insert(number, node);
        }
        Ok(())
    }

    /// All nodes, in order, once every extent was set.
    fn finish(self) -> Vec<Node> {
        debug_assert!(self.growing.is_empty());
        self.nodes.into_values().collect()
    }
}

/// Stores an extent leaf; one of zeros only costs nothing.
pub(crate) fn put_extents(writer: &ChunkWriter, ids: &[ChunkId]) -> Result<ChunkId> {
    match ids.iter().all(|id| *id == ChunkId::ZERO) {
        true => Ok(ChunkId::ZERO),
        false => Ok(writer.put(&extent_leaf::encode(ids))?),
    }
}
