//! Roots in the repository: publishing one, finding all of a source.
//!
//! A root stands at `<source's folder>/snapshots/<timeline>/<epoch>/<consistent_at>-<id>`, numbers in hexadecimal and padded
//! with zeros, so that a listing is in order.

use crate::{Error, Manifest, Result, Sizes};
use pitr_codec::{Codec, CodecError, ObjectKind};
use pitr_dedup::ChunkStore;
use pitr_format::SourceName;
use pitr_objects::{ErrorKind, Objects};

impl Manifest {
    /// Path of the root in this repository.
    #[must_use]
    pub fn path(&self, objects: &Objects) -> String {
        let meta = &self.meta;
        format!(
            "{}/{:08x}/{:016x}/{:016x}-{}",
            folder(objects, &meta.source),
            meta.timeline.get(),
            meta.epoch.get(),
            meta.consistent_at.get(),
            self.id.short()
        )
    }

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
        if !self.meta.engine_fits() {
            let bytes = self.meta.engine.len() as u64;
            return Err(Error::Publish(CodecError::TooLarge { what: "engine name", bytes, most: 64 }));
        }
        self.files.iter().try_for_each(|file| file.shape.check())?;
        // Not compressed: it is mostly hashes, and its length must not depend on its content.
        let path = self.path(objects);
        let make = |root: &Manifest| {
            let builder = objects.builder(&path, ObjectKind::Manifest, Codec::None)?;
            builder.finish(&root.encode()).map_err(Error::Publish)
        };
        self.sizes.stored += make(&self)?.len() as u64;
        let root = make(&self)?;
        // Where folders hide names, a root in one without a name would be nobody's.
        objects.register_source(&self.meta.source)?;
        lease.check()?;
        objects.put_container(&path, ObjectKind::Manifest, root)?;
        // FAILURES 21: who was held up in between takes back what he has put, before anybody is told of it.
        if let Err(error) = lease.check() {
            objects.delete(&path)?;
            return Err(error.into());
        }
        let Sizes { logical, changed, stored } = self.sizes;
        tracing::info!(snapshot = %self.id, kind = ?self.kind, logical, changed, stored, "a snapshot is there");
        Ok(self)
    }
}

fn folder(objects: &Objects, source: &SourceName) -> String {
    objects.source_folder(source) + "/snapshots"
}

/// Reads the root at this path.
///
/// # Errors
/// Those of the repository; [`Error::Root`] when it doesn't parse or belongs elsewhere.
pub fn load(objects: &Objects, path: &str) -> Result<Manifest> {
    let footer = objects.get_footer(path, ObjectKind::Manifest)?;
    let wrong = |source| Error::Root { path: path.to_owned(), source };
    let manifest = Manifest::decode(&footer).map_err(wrong)?;
    if manifest.path(objects) != path {
        // FAILURES 29: swapped objects.
        return Err(wrong(pitr_format::DecodeError::Range {
            what: "path of a root, which is another's",
            value: 0,
        }));
    }
    Ok(manifest)
}

/// The snapshots of a source.
#[derive(Debug)]
pub struct Roots {
    /// Those that can be read, by timeline, epoch and consistent point.
    pub manifests: Vec<Manifest>,
    /// Those that can't: path and error. They must not keep the others from being used, nor go unmentioned.
    pub damaged: Vec<(String, Error)>,
}

impl Roots {
    /// The engine that took one of them and is not this one: another kind of source has the name.
    #[must_use]
    pub fn of_other_engine(&self, engine: &str) -> Option<&str> {
        self.manifests.iter().map(|root| root.meta.engine.as_str()).find(|taker| *taker != engine)
    }
}

/// Reads all roots of a source. Who takes one of them as a parent lists them after he has opened his store.
///
/// # Errors
/// Those of the listing. A root that can't be read is in [`Roots::damaged`], unless the repository can't be reached.
pub fn load_all(objects: &Objects, source: &SourceName) -> Result<Roots> {
    let mut roots = Roots { manifests: Vec::new(), damaged: Vec::new() };
    for entry in objects.list(&folder(objects, source))? {
        match load(objects, &entry.path) {
            Ok(manifest) => roots.manifests.push(manifest),
            // Retention took it away since the listing.
            Err(error) if error.kind() == ErrorKind::Missing && !objects.exists(&entry.path)? => {}
            Err(error) if error.kind().is_of_one_object() => roots.damaged.push((entry.path, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(roots)
}
