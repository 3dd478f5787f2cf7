//! Walks all chunks that a snapshot needs.

use crate::{Error, FileEntry, Manifest, Result, Snapshot, file_leaf, tree};
use pitr_dedup::{ChunkId, ChunkStore};
use std::collections::HashSet;

/// Receives the chunks of a snapshot: the leaves of its tree, and the chunks that they refer to.
/// Some occur more than once.
pub trait Visit {
    /// Visits a leaf. Return true to read it and visit what it refers to.
    fn leaf(&mut self, id: &ChunkId) -> bool;

    /// Like [`leaf`](Self::leaf), for a leaf of files. It refers to leaves, which are visited like
    /// others.
    fn files(&mut self, id: &ChunkId) -> bool {
        self.leaf(id)
    }

    /// Visits a content chunk, to which the last visited leaf refers.
    fn content(&mut self, id: &ChunkId);

    /// Visits a leaf that cannot be read. The chunks that it refers to are unknown.
    ///
    /// # Errors
    /// Any error ends the walk.
    fn broken(&mut self, id: &ChunkId, error: crate::Error) -> Result<()>;
}

/// Checks that every leaf of a snapshot's files can be read, and that every chunk they refer to is
/// in a pack that the index contains and that is not condemned. If so, the chunks can be reused.
/// Their content is not read.
///
/// # Errors
/// Errors of reading leaves; [`pitr_dedup::Error::Unknown`].
pub(crate) fn check_tree(store: &ChunkStore, manifest: &Manifest) -> Result<()> {
    let mut check = TreeCheck { store, seen: HashSet::new(), missing: None };
    walk_files(store, &manifest.files, &mut check)?;
    check.missing.map_or(Ok(()), Err)
}

struct TreeCheck<'a> {
    store: &'a ChunkStore,
    seen: HashSet<ChunkId>,
    missing: Option<Error>,
}

impl Visit for TreeCheck<'_> {
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

/// Walks the tree of a snapshot. It holds only the files of one root or leaf in memory at a time.
///
/// # Errors
/// Errors of reading the root; errors of [`Visit::broken`].
pub fn walk(store: &ChunkStore, snapshot: &Snapshot, visit: &mut impl Visit) -> Result<()> {
    let mut files = Vec::new();
    let (_, leaves) = snapshot.root(store.objects(), |file| files.push(file))?;
    walk_files(store, &files, visit)?;
    for id in &leaves {
        if visit.files(id) {
            match file_leaf::read(store, id) {
                Ok(files) => walk_files(store, &files, visit)?,
                Err(error) => visit.broken(id, error)?,
            }
        }
    }
    Ok(())
}

fn walk_files(store: &ChunkStore, files: &[FileEntry], visit: &mut impl Visit) -> Result<()> {
    for file in files {
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
