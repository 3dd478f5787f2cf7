//! Roots in the repository: publishing one, finding those of a source.
//!
//! Roots are listed in the order of timeline, epoch and consistent point ([`RootName`]). Finding the newest one reads one root,
//! however many there are. Loading all keeps what each says of its snapshot, and not its files.

use crate::file_leaf;
use crate::{Error, FileEntry, Manifest, Result, Sizes, Snapshot, SnapshotMeta};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_dedup::{ChunkId, ChunkStore};
use pitr_format::{DecodeError, SourceName};
use pitr_objects::layout::{RootName, SourceObject};
use pitr_objects::{ErrorKind, Objects};
use rayon::prelude::*;
use std::sync::Arc;

/// Roots that are read at once: each may take 16 MiB while it is.
const ROOTS_AT_ONCE: usize = 4;

impl Snapshot {
    /// Path of its root in this repository.
    #[must_use]
    pub fn path(&self, objects: &Objects) -> String {
        let SnapshotMeta { timeline, epoch, consistent_at, ref source, .. } = self.meta;
        let root = RootName { timeline, epoch, consistent_at, id: self.id.front() };
        objects.source_folder(source).path(&SourceObject::Snapshot(root))
    }

    /// Reads what the root at this path tells.
    ///
    /// # Errors
    /// Those of the repository; [`Error::Root`] when it doesn't parse or belongs elsewhere.
    pub fn load(objects: &Objects, path: &str) -> Result<Self> {
        Ok(Self::read(objects, path, drop)?.0)
    }

    /// Reads its files.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`Error::Gone`]; [`Error::Leaf`], and those of reading chunks.
    pub fn manifest(&self, store: &ChunkStore) -> Result<Manifest> {
        let mut files = Vec::new();
        let (snapshot, leaves) = self.root(store.objects(), |file| files.push(file))?;
        if !leaves.is_empty() {
            files = file_leaf::read_all(store, &leaves)?;
        }
        Ok(Manifest { snapshot, files: Arc::new(files), leaves })
    }

    /// As [`manifest`](Self::manifest), for another one to build on.
    ///
    /// # Errors
    /// [`Error::Parent`] when it is damaged: take a full one. Those of a repository that can't be reached.
    pub fn as_parent(&self, store: &ChunkStore) -> Result<Manifest> {
        self.manifest(store).map_err(Error::parent(self.id))
    }

    /// Reads its root: the files that it holds are handed out, the leaves of others returned.
    pub(crate) fn root(
        &self,
        objects: &Objects,
        take: impl FnMut(FileEntry),
    ) -> Result<(Snapshot, Vec<ChunkId>)> {
        Self::read(objects, &self.path(objects), take).map_err(|error| match error {
            Error::Objects(error) if error.kind() == ErrorKind::Missing => Error::Gone { snapshot: self.id },
            other => other,
        })
    }

    fn read(objects: &Objects, path: &str, take: impl FnMut(FileEntry)) -> Result<(Snapshot, Vec<ChunkId>)> {
        let footer = objects.get_footer(path, ObjectKind::Manifest)?;
        let wrong = |source| Error::Root { path: path.to_owned(), source };
        let (snapshot, leaves) = Snapshot::decode(&footer, take).map_err(wrong)?;
        if snapshot.path(objects) != path {
            // FAILURES 29: swapped objects.
            return Err(wrong(DecodeError::Range { what: "path of a root, which is another's", value: 0 }));
        }
        Ok((snapshot, leaves))
    }
}

impl Manifest {
    /// Puts the root, after which the snapshot exists. Its chunks and their index must have been stored through this store,
    /// as [`write_full`](crate::write_full) and [`write_increment`](crate::write_increment) do, and its parent must have
    /// been listed after the store was opened. Returns the snapshot with the root's own bytes counted in `sizes.stored`.
    ///
    /// If the store's lease has lapsed meanwhile what the snapshot relies on may be gone: then it does not exist.
    ///
    /// # Errors
    /// [`Error::Publish`] when it is too large for one object; [`ErrorKind::Lapsed`](crate::ErrorKind::Lapsed); those of
    /// the repository.
    pub fn publish(mut self, store: &ChunkStore) -> Result<Manifest> {
        let (objects, lease) = (store.objects(), store.lease()?);
        let meta = &self.snapshot.meta;
        if !meta.engine_fits() {
            let bytes = meta.engine.len() as u64;
            return Err(Error::Publish(CodecError::TooLarge { what: "engine name", bytes, most: 64 }));
        }
        self.files.iter().try_for_each(|file| file.shape.check())?;
        // Not compressed: it is mostly hashes, and its length must not depend on its content.
        let path = self.snapshot.path(objects);
        let make = |root: &Manifest| {
            let builder = objects.builder(&path, ObjectKind::Manifest, Codec::None)?;
            builder.finish(&root.encode()).map_err(Error::Publish)
        };
        self.snapshot.sizes.stored += make(&self)?.len() as u64;
        let root = make(&self)?;
        // Where folders hide names, a root in one without a name would be nobody's.
        objects.register_source(&self.snapshot.meta.source)?;
        lease.check()?;
        objects.put_container(&path, ObjectKind::Manifest, root)?;
        // FAILURES 21: who was held up in between takes back what he has put, before anybody is told of it.
        if let Err(error) = lease.check() {
            objects.delete(&path)?;
            return Err(error.into());
        }
        let Snapshot { id, kind, sizes: Sizes { logical, changed, stored }, .. } = &self.snapshot;
        tracing::info!(snapshot = %id, ?kind, logical, changed, stored, "a snapshot is there");
        Ok(self)
    }
}

/// Lists the roots of a source, by timeline, epoch and consistent point; reads none. Who takes one of them as a parent lists
/// them after he has opened his store.
///
/// # Errors
/// Those of the listing.
pub fn list(objects: &Objects, source: &SourceName) -> Result<Vec<RootName>> {
    let folder = objects.source_folder(source);
    let entries = objects.list(&folder.snapshots())?;
    let roots = entries.iter().filter_map(|entry| match folder.object_at(&entry.path)? {
        SourceObject::Snapshot(root) => Some(root),
        _ => None,
    });
    Ok(roots.collect())
}

/// The last of these roots that can be read and fits. Those behind it were read in vain, and none before it was read.
///
/// # Errors
/// Those of a repository that can't be reached. A root that can't be read, or is not there any more, is passed over.
pub fn newest<'n>(
    objects: &Objects,
    source: &SourceName,
    names: impl IntoIterator<Item = &'n RootName, IntoIter: DoubleEndedIterator>,
    fits: impl Fn(&Snapshot) -> bool,
) -> Result<Option<Snapshot>> {
    let folder = objects.source_folder(source);
    for name in names.into_iter().rev() {
        match Snapshot::load(objects, &folder.path(&SourceObject::Snapshot(*name))) {
            Ok(snapshot) if fits(&snapshot) => return Ok(Some(snapshot)),
            Ok(_) => {}
            Err(error) if error.kind().is_of_one_object() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The snapshots of a source.
#[derive(Debug)]
pub struct Roots {
    /// Those of which the roots can be read, by timeline, epoch and consistent point.
    pub snapshots: Vec<Snapshot>,
    /// Unreadable roots. Reported, but never block the use of the others.
    pub damaged: Vec<DamagedRoot>,
}

/// A root that can't be read.
#[derive(Debug)]
pub struct DamagedRoot {
    /// What its path tells of the snapshot.
    pub name: RootName,
    /// Its path.
    pub path: String,
    /// What is wrong with it.
    pub error: Error,
}

/// Reads all roots of a source. Files whose names are not those of roots are not read (FAILURES 59).
///
/// # Errors
/// Those of the listing. A root that can't be read is in [`Roots::damaged`], unless the repository can't be reached.
pub fn load_all(objects: &Objects, source: &SourceName) -> Result<Roots> {
    let mut roots = Roots { snapshots: Vec::new(), damaged: Vec::new() };
    let folder = objects.source_folder(source);
    let path = |name: &RootName| folder.path(&SourceObject::Snapshot(*name));
    for wave in list(objects, source)?.chunks(ROOTS_AT_ONCE) {
        let read = |name: &RootName| Snapshot::load(objects, &path(name));
        let read: Vec<Result<Snapshot>> = wave.par_iter().map(read).collect();
        for (name, root) in wave.iter().zip(read) {
            let path = path(name);
            match root {
                Ok(snapshot) => roots.snapshots.push(snapshot),
                // Retention took it away since the listing.
                Err(error) if error.kind() == ErrorKind::Missing && !objects.exists(&path)? => {}
                Err(error) if error.kind().is_of_one_object() => {
                    roots.damaged.push(DamagedRoot { name: *name, path, error })
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(roots)
}
