//! The handle of a repository's objects: opening, listing.

use crate::lease::RENEWAL;
use crate::listing::{self, Listing, Stray};
use crate::local::{LocalFolder, Readers, create_folder, readers};
use crate::runtime::Requests;
use crate::{Error, REPOSITORY_PATH, Result};
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use pitr_codec::{Keys, Secret};
use pitr_format::OwnerToken;
use std::collections::BTreeSet;
use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Maximum number of foreign paths to warn about; `verify` reports all of them.
const WARNINGS_MAX: usize = 20;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its path within the repository.
    pub path: String,
    /// Its size, bytes.
    pub size: u64,
}

/// The objects of one repository; clones share their connection and their owner token.
#[derive(Debug, Clone)]
pub struct Objects {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) requests: Requests,
    pub(crate) local: Option<LocalFolder>,
    pub(crate) owner: OwnerToken,
    pub(crate) place: String,
    /// The repository object was seen through this handle: from then on an empty listing is not believed unless it
    /// is still there.
    pub(crate) seen: AtomicBool,
    /// The repository object says that it is encrypted.
    pub(crate) is_encrypted: AtomicBool,
    pub(crate) encryption: RwLock<Option<Arc<Encryption>>>,
    /// Paths of what was warned of.
    pub(crate) warned: Mutex<BTreeSet<String>>,
    /// Microseconds between two renewals of a lease.
    pub(crate) renewal: AtomicU64,
}

/// The open keys of an encrypted repository.
#[derive(Debug)]
pub(crate) struct Encryption {
    pub(crate) repository: [u8; 16],
    pub(crate) master: Secret,
    pub(crate) keys: Arc<Keys>,
    /// Number of the ring that they come from.
    pub(crate) ring: u64,
}

impl Objects {
    /// The objects in a folder that exists.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is no such folder.
    pub fn local(folder: &Path) -> Result<Self> {
        let place = folder.display().to_string();
        let root = match folder.canonicalize() {
            Ok(root) if root.is_dir() => root,
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Folder { path: folder.to_owned(), source });
            }
            _ => return Err(Error::NotARepository { place }),
        };
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|source| Error::from_store(&place, source))?
            .with_fsync(true)
            .with_automatic_cleanup(false);
        Self::new(Arc::new(store), Some(LocalFolder::new(&root)), place)
    }

    /// The objects in a folder, which is made, durably and for its owner alone, if it is missing; one that is there and empty is
    /// made private.
    ///
    /// # Errors
    /// [`Error::Folder`] when it can't be made.
    pub fn create_local(folder: &Path) -> Result<Self> {
        create_folder(folder, None)?;
        Self::local(folder)
    }

    /// As [`create_local`](Self::create_local), for those whom `files`, the permissions of the repository's files, lets in. They
    /// stand in the permissions of the folder, which every later file follows.
    ///
    /// # Errors
    /// As [`create_local`](Self::create_local).
    pub fn create_local_for(folder: &Path, files: u32) -> Result<Self> {
        create_folder(folder, Some(files))?;
        Self::local(folder)
    }

    /// The objects in any store that can create an object only if it is absent. `place` is its name for people.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Random`].
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let place = store.to_string();
        Self::new(store, None, place)
    }

    /// Objects in memory, for tests and examples.
    ///
    /// # Errors
    /// As [`with_store`](Self::with_store).
    pub fn memory() -> Result<Self> {
        Self::with_store(Arc::new(InMemory::new()))
    }

    fn new(store: Arc<dyn ObjectStore>, local: Option<LocalFolder>, place: String) -> Result<Self> {
        let requests = Requests::start()?;
        let owner = OwnerToken(random_bytes()?);
        let (seen, is_encrypted) = (AtomicBool::new(false), AtomicBool::new(false));
        let encryption = RwLock::default();
        let renewal = AtomicU64::new(RENEWAL.as_micros() as u64); // seconds
        let warned = Mutex::default();
        let inner =
            Inner { store, requests, local, owner, place, seen, is_encrypted, encryption, warned, renewal };
        Ok(Objects { inner: Arc::new(inner) })
    }

    /// The token that every object made through this handle or its clones bears; random for each handle.
    #[must_use]
    pub fn owner(&self) -> OwnerToken {
        self.inner.owner
    }

    /// Where the repository is, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The folder on this machine that the repository is in, if it is in one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.inner.local.as_ref().map(LocalFolder::root)
    }

    /// Who may read the repository besides its owner; `None` if nobody may, or if it is not in a folder of this machine.
    ///
    /// # Errors
    /// [`Error::Folder`] when that can't be told.
    pub fn readers(&self) -> Result<Option<Readers>> {
        self.folder().map_or(Ok(None), readers)
    }

    /// The objects below `prefix`, sorted by path; all of them for "". The prefix is matched by whole path segments:
    /// `db1` does not list what is below `db10`.
    ///
    /// # Errors
    /// Those of the store; nothing is returned of a listing that broke off. [`Error::NotARepository`] when nothing is
    /// listed and the repository object, once seen, is gone: an unmounted folder does not read as an empty one.
    ///
    /// Foreign entries of a local folder are left out, with one warning each. [`Error::Hidden`] if an entry that can't be read may
    /// contain objects.
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let Listing { entries, strays } = self.listing(prefix)?;
        for stray in strays {
            if stray.may_hide_objects {
                let Stray { path, what, .. } = stray;
                return Err(Error::Hidden { path, what });
            }
            self.warn_of(&stray);
        }
        Ok(entries)
    }

    /// As [`list`](Self::list), with the foreign entries. Some of them may hide objects, so this listing proves neither that an
    /// object is missing nor that one is unreferenced.
    ///
    /// # Errors
    /// Those of the store; [`Error::NotARepository`].
    pub fn listing(&self, prefix: &str) -> Result<Listing> {
        exact_path(prefix)?;
        let listing = match &self.inner.local {
            Some(folder) => listing::list(folder.root(), prefix),
            None => Listing { entries: self.list_remote(prefix)?, strays: Vec::new() },
        };
        let is_empty = listing.entries.is_empty();
        if is_empty && self.inner.seen.load(Ordering::Relaxed) && !self.exists(REPOSITORY_PATH)? {
            return Err(Error::NotARepository { place: self.inner.place.clone() });
        }
        Ok(listing)
    }

    fn warn_of(&self, stray: &Stray) {
        let mut warned = self.inner.warned.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded, so that many foreign files take no memory.
        if warned.len() < WARNINGS_MAX && warned.insert(stray.path.clone()) {
            let (place, Stray { path, what, .. }) = (&self.inner.place, stray);
            tracing::warn!("{place}: {path} is not an object of the repository and is left alone: {what}");
        }
    }

    fn list_remote(&self, prefix: &str) -> Result<Vec<Entry>> {
        let folder = exact_path(prefix)?;
        let store = Arc::clone(&self.inner.store);
        let listed = self.inner.requests.run(async move {
            let below = (!folder.is_root()).then_some(&folder);
            let is_below = |meta: &ObjectMeta| {
                // Not every store that calls itself one of these matches by segments.
                let is_below =
                    meta.location.prefix_match(&folder).is_some_and(|mut rest| rest.next().is_some());
                ready(is_below)
            };
            let listed = store.list(below).try_filter(is_below);
            let entries = listed.map_ok(|meta| Entry { path: meta.location.into(), size: meta.size });
            entries.try_collect::<Vec<_>>().await
        })?;
        let mut entries = listed.map_err(|source| Error::from_store(prefix, source))?;
        entries.sort();
        Ok(entries)
    }

    /// True if the repository, once it was opened, is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.inner.is_encrypted.load(Ordering::Relaxed)
    }

    /// Deletes an object; one that is gone already is no error. Who calls this has proof that nobody needs it (law 7).
    ///
    /// # Errors
    /// Those of the store.
    pub fn delete(&self, path: &str) -> Result<()> {
        let location = object_path(path)?;
        let store = Arc::clone(&self.inner.store);
        let deleted = self.inner.requests.run(async move { store.delete(&location).await })?;
        match deleted.map_err(|source| Error::from_store(path, source)) {
            Ok(()) | Err(Error::Missing { .. }) => {
                tracing::debug!(path, "deleted");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// True if there is an object at the path.
    ///
    /// # Errors
    /// Those of the store.
    pub fn exists(&self, path: &str) -> Result<bool> {
        match self.size(path) {
            Ok(_) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size of an object, bytes.
    ///
    /// # Errors
    /// [`Error::Missing`] and those of the store.
    pub fn size(&self, path: &str) -> Result<u64> {
        let location = object_path(path)?;
        if let Some(folder) = &self.inner.local {
            return folder.size(path).map_err(|error| Error::from_folder(folder, path, error));
        }
        let store = Arc::clone(&self.inner.store);
        let meta = self.inner.requests.run(async move { store.head(&location).await })?;
        Ok(meta.map_err(|source| Error::from_store(path, source))?.size)
    }
}

/// The path of an object as the store takes it: as it is or not at all.
pub(crate) fn object_path(path: &str) -> Result<object_store::path::Path> {
    exact_path(path).and_then(|parsed| match parsed.is_root() {
        false => Ok(parsed),
        true => Err(Error::Path { path: path.to_owned() }),
    })
}

pub(crate) fn exact_path(path: &str) -> Result<object_store::path::Path> {
    match object_store::path::Path::parse(path) {
        Ok(parsed) if parsed.as_ref() == path => Ok(parsed),
        _ => Err(Error::Path { path: path.to_owned() }),
    }
}

/// A random name of 16 hexadecimal digits.
///
/// # Errors
/// [`Error::Random`].
pub fn random_name() -> Result<String> {
    Ok(format!("{:016x}", u64::from_be_bytes(random_bytes()?)))
}

/// Random bytes from the system, for identities.
///
/// # Errors
/// [`Error::Random`].
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}
