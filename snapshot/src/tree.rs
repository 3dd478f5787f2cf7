//! Reads and checks the leaves of the tree.

use crate::extent_leaf::{self, CutExtent};
use crate::manifest::Node;
use crate::overlay::Overlay;
use crate::shape::{Geometry, NODE_GROUPS};
use crate::{Error, FileEntry, Result};
use pitr_dedup::{ChunkId, ChunkStore, ChunkWriter};

/// Stores an extent leaf. A leaf of zeros is not stored.
pub(crate) fn put_extents(writer: &ChunkWriter, ids: &[ChunkId]) -> Result<ChunkId> {
    match ids.iter().all(|id| *id == ChunkId::ZERO) {
        true => Ok(ChunkId::ZERO),
        false => Ok(writer.put(&extent_leaf::encode(ids))?),
    }
}

/// The chunk ids of a node with `extents` extents.
pub(crate) fn extent_ids(store: &ChunkStore, node: &Node, extents: u64) -> Result<Vec<ChunkId>> {
    if node.extents == ChunkId::ZERO {
        return Ok(vec![ChunkId::ZERO; extents as usize]); // at most NODE_EXTENTS
    }
    let leaf = store.read(&node.extents)?;
    extent_leaf::decode(&leaf, extents).map_err(|source| Error::Leaf { id: node.extents, source })
}

/// The extents of a node of a file without blocks.
fn cut_extents(store: &ChunkStore, node: &Node, extents: u64, len: u64) -> Result<Vec<CutExtent>> {
    let leaf = store.read(&node.extents)?;
    extent_leaf::decode_cut(&leaf, extents, len).map_err(|source| Error::Leaf { id: node.extents, source })
}

/// The overlay of one group of a node, empty if it has none.
pub(crate) fn overlay(store: &ChunkStore, node: &Node, group: u64, geometry: Geometry) -> Result<Overlay> {
    match node.overlays.iter().find(|(number, _)| u64::from(*number) == group) {
        None => Ok(Overlay::default()),
        Some((_, id)) => {
            let leaf = store.read(id)?;
            Overlay::decode(&leaf, geometry).map_err(|source| Error::Leaf { id: *id, source })
        }
    }
}

/// The chunk ids of a file's node. For a file without blocks, also the start of each extent and the
/// end of the last.
pub(crate) fn extents_of(
    store: &ChunkStore,
    file: &FileEntry,
    number: u64,
) -> Result<(Vec<ChunkId>, Vec<u64>)> {
    let node = &file.nodes[number as usize]; // callers pass a valid index
    let extents = file.extents_of_node(number);
    let Some(cut) = &file.cut else { return Ok((extent_ids(store, node, extents)?, Vec::new())) };
    let span = cut.span(number);
    let (mut ids, mut bounds, mut at) = (Vec::new(), vec![span.start], span.start);
    for (id, len) in cut_extents(store, node, extents, span.end - span.start)? {
        at += u64::from(len);
        ids.push(id);
        bounds.push(at);
    }
    Ok((ids, bounds))
}

/// A node with all its leaves.
#[derive(Debug)]
pub(crate) struct LoadedNode {
    pub(crate) ids: Vec<ChunkId>,
    /// For a file without blocks: the start of each extent, and the end of the last.
    pub(crate) bounds: Vec<u64>,
    /// Indexed by group.
    pub(crate) overlays: Vec<Overlay>,
}

impl LoadedNode {
    pub(crate) fn load(store: &ChunkStore, file: &FileEntry, number: u64) -> Result<Self> {
        let (ids, bounds) = extents_of(store, file, number)?;
        // The index is valid, as above.
        let (node, geometry) = (&file.nodes[number as usize], file.shape.geometry());
        let overlays =
            (0..NODE_GROUPS).map(|group| overlay(store, node, group, geometry)).collect::<Result<_>>()?;
        Ok(LoadedNode { ids, bounds, overlays })
    }
}
