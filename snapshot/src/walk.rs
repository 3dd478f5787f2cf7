//! All chunks that a snapshot needs.

use crate::{Error, FileEntry, Manifest, Result, Snapshot, file_leaf, tree};
use pitr_dedup::{ChunkId, ChunkStore};
use std::collections::HashSet;

/// Is shown the chunks of a snapshot: leaves of its tree, and those that they name. Some come more than once.
pub trait Visit {
    /// A leaf. Unless this returns true it is not read, and what it names is not shown.
    fn leaf(&mut self, id: &ChunkId) -> bool;

    /// As [`leaf`](Self::leaf), of a leaf that holds files: what it names are leaves, which are shown as others are.
    fn files(&mut self, id: &ChunkId) -> bool {
        self.leaf(id)
    }

    /// A chunk of content, named by the leaf that was shown last.
    fn content(&mut self, id: &ChunkId);

    /// A leaf that can't be read: what it names is not known.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn broken(&mut self, id: &ChunkId, error: crate::Error) -> Result<()>;
}

/// Errors unless every leaf of the files of a snapshot can be read and every chunk that it names is in a pack that the index
/// knows and that is not condemned: what is taken over from it can be relied on as far as names tell.
///
/// # Errors
/// Those of reading leaves; [`pitr_dedup::Error::Unknown`].
pub(crate) fn check_tree(store: &ChunkStore, manifest: &Manifest) -> Result<()> {
    let mut look = Look { store, seen: HashSet::new(), missing: None };
    walk_files(store, &manifest.files, &mut look)?;
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

/// Walks the tree of a snapshot, of which it holds as many files at a time as its root or a leaf does.
///
/// # Errors
/// Those of reading the root; those of [`Visit::broken`].
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
