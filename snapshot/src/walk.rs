//! All chunks that a snapshot needs.

use crate::{Error, Manifest, Result, tree};
use pitr_dedup::{ChunkId, ChunkStore};
use std::collections::HashSet;

/// Is shown the chunks of a snapshot: leaves of its tree, and those that they name. Some come more than once.
pub trait Visit {
    /// A leaf. Unless this returns true it is not read, and what it names is not shown.
    fn leaf(&mut self, id: &ChunkId) -> bool;

    /// A chunk of content, named by the leaf that was shown last.
    fn content(&mut self, id: &ChunkId);

    /// A leaf that can't be read: what it names is not known.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn broken(&mut self, id: &ChunkId, error: crate::Error) -> Result<()>;
}

/// Errors unless every leaf of a snapshot can be read and every chunk that it names is in a pack that the index knows and
/// that is not condemned: what is taken over from it can be relied on as far as names tell.
///
/// # Errors
/// Those of reading leaves; [`pitr_dedup::Error::Unknown`].
pub(crate) fn check_tree(store: &ChunkStore, manifest: &Manifest) -> Result<()> {
    let mut look = Look { store, seen: HashSet::new(), missing: None };
    walk(store, manifest, &mut look)?;
    look.missing.map_or(Ok(()), Err)
}

struct Look<'a> {
    store: &'a ChunkStore,
    seen: HashSet<ChunkId>,
    missing: Option<Error>,
}

impl Visit for Look<'_> {
    fn leaf(&mut self, id: &ChunkId) -> bool {
        let is_new = self.seen.insert(*id);
        if is_new {
            self.content(id);
        }
        is_new
    }

    fn content(&mut self, id: &ChunkId) {
        let found = self.store.relies_on(id).map_err(Error::from);
        let unknown = || Error::from(pitr_dedup::Error::Unknown { id: *id });
        if let Err(error) = found.and_then(|found| if found { Ok(()) } else { Err(unknown()) }) {
            self.missing.get_or_insert(error);
        }
    }

    fn broken(&mut self, _: &ChunkId, error: Error) -> Result<()> {
        Err(error)
    }
}

/// Walks the tree of a snapshot.
///
/// # Errors
/// Those of [`Visit::broken`].
pub fn walk(store: &ChunkStore, manifest: &Manifest, visit: &mut impl Visit) -> Result<()> {
    for file in &manifest.files {
        for (number, node) in file.nodes.iter().enumerate() {
            if node.extents != ChunkId::ZERO && visit.leaf(&node.extents) {
                match tree::extents_of(store, file, number as u64) {
                    Ok((ids, _)) => {
                        ids.iter().filter(|id| **id != ChunkId::ZERO).for_each(|id| visit.content(id))
                    }
                    Err(error) => visit.broken(&node.extents, error)?,
                }
            }
            for (group, id) in &node.overlays {
                if visit.leaf(id) {
                    match tree::overlay(store, node, u64::from(*group), file.shape.geometry()) {
                        Ok(overlay) => overlay.chunks.iter().for_each(|id| visit.content(id)),
                        Err(error) => visit.broken(id, error)?,
                    }
                }
            }
        }
    }
    Ok(())
}
