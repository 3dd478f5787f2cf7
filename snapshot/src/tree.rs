//! Leaves of the tree, read and checked.

use crate::extent_leaf;
use crate::manifest::Node;
use crate::overlay::Overlay;
use crate::shape::{Geometry, NODE_GROUPS};
use crate::{Error, Result};
use pitr_dedup::{ChunkId, ChunkStore};

/// The chunk ids of a node of so many extents.
pub(crate) fn extent_ids(store: &ChunkStore, node: &Node, extents: u64) -> Result<Vec<ChunkId>> {
    if node.extents == ChunkId::ZERO {
        return Ok(vec![ChunkId::ZERO; extents as usize]); // at most NODE_EXTENTS
    }
    let leaf = store.read(&node.extents)?;
    extent_leaf::decode(&leaf, extents).map_err(|source| Error::Leaf { id: node.extents, source })
}

/// The overlay of one group of a node; an empty one if it has none.
pub(crate) fn overlay(store: &ChunkStore, node: &Node, group: u64, geometry: Geometry) -> Result<Overlay> {
    match node.overlays.iter().find(|(number, _)| u64::from(*number) == group) {
        None => Ok(Overlay::default()),
        Some((_, id)) => {
            let leaf = store.read(id)?;
            Overlay::decode(&leaf, geometry).map_err(|source| Error::Leaf { id: *id, source })
        }
    }
}

/// All of a node.
#[derive(Debug)]
pub(crate) struct LoadedNode {
    pub(crate) ids: Vec<ChunkId>,
    /// By group.
    pub(crate) overlays: Vec<Overlay>,
}

impl LoadedNode {
    pub(crate) fn load(store: &ChunkStore, node: &Node, extents: u64, geometry: Geometry) -> Result<Self> {
        let ids = extent_ids(store, node, extents)?;
        let overlays =
            (0..NODE_GROUPS).map(|group| overlay(store, node, group, geometry)).collect::<Result<_>>()?;
        Ok(LoadedNode { ids, overlays })
    }
}
