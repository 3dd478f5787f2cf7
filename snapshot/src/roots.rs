//! Roots in the repository: publishing a root, and finding the roots of a source.
//!
//! A listing of roots is sorted by timeline, epoch and consistent point ([`RootName`]). A search
//! for the newest root reads only that root, however many there are. Loading all roots keeps the
//! description of each snapshot, but no files.

use crate::file_leaf;
use crate::{Error, FileEntry, Manifest, Result, Sizes, Snapshot, SnapshotMeta};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_dedup::{ChunkId, ChunkStore};
use pitr_format::{DecodeError, SourceName};
use pitr_objects::layout::{RootName, SourceObject};
use pitr_objects::{ErrorKind, Objects, parallel};
use std::sync::Arc;

/// Number of roots that are read in parallel. Each may take 16 MiB during the read.
const ROOTS_AT_ONCE: usize = 8;

impl Snapshot {
    /// Path of the snapshot's root in this repository.
    #[must_use]
    pub fn path(&self, objects: &Objects) -> String {
        let SnapshotMeta { timeline, epoch, consistent_at, ref source, .. } = self.meta;
        let root = RootName { timeline, epoch, consistent_at, id: self.id.front() };
        objects.source_folder(source).path(&SourceObject::Snapshot(root))
    }

    /// Reads the snapshot's description from the root at this path.
    ///
    /// # Errors
    /// Errors of the repository; [`Error::Root`] if the root cannot be decoded or belongs to
    /// another path.
    pub fn load(objects: &Objects, path: &str) -> Result<Self> {
        Ok(Self::read(objects, path, drop)?.0)
    }

    /// Reads the snapshot's files.
    ///
    /// # Errors
    /// Like [`load`](Self::load), and [`Error::Gone`]; [`Error::Leaf`], and errors of reading
    /// chunks.
    pub fn manifest(&self, store: &ChunkStore) -> Result<Manifest> {
        let mut files = Vec::new();
        let (snapshot, leaves) = self.root(store.objects(), |file| files.push(file))?;
        if !leaves.is_empty() {
            files = file_leaf::read_all(store, &leaves)?;
        }
        Ok(Manifest { snapshot, files: Arc::new(files), leaves })
    }

    /// Like [`manifest`](Self::manifest), for use as a parent.
    ///
    /// # Errors
    /// [`Error::Parent`] if the snapshot is damaged: take a full snapshot. Errors of an unreachable
    /// repository.
    pub fn as_parent(&self, store: &ChunkStore) -> Result<Manifest> {
        self.manifest(store).map_err(Error::parent(self.id))
    }

    /// Reads the root. Passes the files that it holds to `take`, and returns the leaves of other
    /// files.
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
            return Err(wrong(DecodeError::Range { what: "path of another root", value: 0 }));
        }
        Ok((snapshot, leaves))
    }
}

impl Manifest {
    /// Puts the root. From then on the snapshot exists.
    ///
    /// Its chunks and their index must have been stored through this store, as
    /// [`write_full`](crate::write_full) and [`write_increment`](crate::write_increment) do. Its
    /// parent must have been listed after the store was opened. Returns the snapshot, with the
    /// root's own size included in `sizes.stored`.
    ///
    /// If the store's lease has lapsed, data that the snapshot needs may be deleted. Then the
    /// snapshot is not published.
    ///
    /// # Errors
    /// [`Error::Publish`] if the root is too large for one object;
    /// [`ErrorKind::Lapsed`](crate::ErrorKind::Lapsed); errors of the repository.
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
        // If folders hide names, a root in a folder without a name object could not be attributed
        // to a source.
        objects.register_source(&self.snapshot.meta.source)?;
        lease.check()?;
        objects.put_container(&path, ObjectKind::Manifest, root)?;
        // FAILURES 21: a writer that was delayed past its lease removes its root before it reports
        // success.
        if let Err(error) = lease.check() {
            objects.delete(&path)?;
            return Err(error.into());
        }
        let Snapshot { id, kind, sizes: Sizes { logical, changed, stored }, .. } = &self.snapshot;
        tracing::info!(snapshot = %id, ?kind, logical, changed, stored, "snapshot published");
        Ok(self)
    }
}

/// Lists the roots of a source, sorted by timeline, epoch and consistent point. Reads none of them.
///
/// To use one as a parent, list the roots after the store was opened.
///
/// # Errors
/// Errors of the listing.
pub fn list(objects: &Objects, source: &SourceName) -> Result<Vec<RootName>> {
    let folder = objects.source_folder(source);
    let entries = objects.list(&folder.snapshots())?;
    let roots = entries.iter().filter_map(|entry| match folder.object_at(&entry.path)? {
        SourceObject::Snapshot(root) => Some(root),
        _ => None,
    });
    Ok(roots.collect())
}

/// The last of these roots that can be read and that `fits` accepts. Later roots are read too,
/// earlier ones are not.
///
/// # Errors
/// Errors of an unreachable repository. An unreadable or missing root is skipped.
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
    /// Snapshots with a readable root, sorted by timeline, epoch and consistent point.
    pub snapshots: Vec<Snapshot>,
    /// Unreadable roots. Reported, but never block the use of the others.
    pub damaged: Vec<DamagedRoot>,
}

/// A root that cannot be read.
#[derive(Debug)]
pub struct DamagedRoot {
    /// The snapshot's properties in the path.
    pub name: RootName,
    /// Path of the root.
    pub path: String,
    /// Why the root cannot be read.
    pub error: Error,
}

/// Reads all roots of a source. Files without the name of a root are not read (FAILURES 59).
///
/// # Errors
/// Errors of the listing, and of an unreachable repository. Other unreadable roots are in
/// [`Roots::damaged`].
pub fn load_all(objects: &Objects, source: &SourceName) -> Result<Roots> {
    let mut roots = Roots { snapshots: Vec::new(), damaged: Vec::new() };
    let folder = objects.source_folder(source);
    let path = |name: &RootName| folder.path(&SourceObject::Snapshot(*name));
    for wave in list(objects, source)?.chunks(ROOTS_AT_ONCE) {
        let read = |name: &RootName| Ok::<_, Error>(Snapshot::load(objects, &path(name)));
        let read = parallel::requests(objects.env().spawn, wave, read)?;
        for (name, root) in wave.iter().zip(read) {
            let path = path(name);
            match root {
                Ok(snapshot) => roots.snapshots.push(snapshot),
                // Retention removed the root after the listing.
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
