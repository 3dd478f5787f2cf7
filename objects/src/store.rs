//! The handle of a repository's objects.

use crate::layout::ShortId;
use crate::lease::RENEWAL;
use crate::local::{LocalStore, Readers, create_folder, readers};
use crate::put::WAITS;
use crate::runtime::Requests;
use crate::{Error, Location, Result};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use pitr_codec::{Keys, Secret};
use pitr_format::OwnerToken;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// The objects of one repository; clones share their connection and their owner token.
#[derive(Debug, Clone)]
pub struct Objects {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) requests: Requests,
    /// Waits between the attempts of a put that is not answered.
    pub(crate) put_waits: &'static [Duration],
    folder: Option<PathBuf>,
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

/// What differs between stores.
struct Parts {
    store: Arc<dyn ObjectStore>,
    requests: Requests,
    put_waits: &'static [Duration],
    folder: Option<PathBuf>,
    place: String,
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
    /// Opens the store at a location. A folder must exist.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is no such folder; [`Error::Folder`] when it can't be entered.
    pub fn open(location: &Location) -> Result<Self> {
        match location {
            Location::Folder(folder) => Self::local(folder),
            Location::Memory => Self::memory(),
        }
    }

    /// As [`open`](Self::open), for a new repository. A missing folder is created, durably. `files` are the permissions of the
    /// repository's files: the folder keeps them, and every later file follows. By default only the owner has access, and an existing
    /// empty folder is made private.
    ///
    /// # Errors
    /// [`Error::Folder`] when it can't be created.
    pub fn create(location: &Location, files: Option<u32>) -> Result<Self> {
        if let Location::Folder(folder) = location {
            create_folder(folder, files)?;
        }
        Self::open(location)
    }

    /// The objects in a folder that exists.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn local(folder: &Path) -> Result<Self> {
        let place = folder.display().to_string();
        let root = match folder.canonicalize() {
            Ok(root) if root.is_dir() => root,
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Folder { path: folder.to_owned(), source });
            }
            _ => return Err(Error::NotARepository { place }),
        };
        let store = Arc::new(LocalStore::new(root.clone(), place.clone()));
        // A folder loses no replies, and a second attempt must not hide a failed fsync.
        let parts = Parts { store, requests: Requests::Caller, put_waits: &[], folder: Some(root), place };
        Self::new(parts)
    }

    /// The objects in a folder, which is created if it is missing.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_local(folder: &Path) -> Result<Self> {
        Self::create(&Location::Folder(folder.to_owned()), None)
    }

    /// The objects in any store that can create an object only if it is absent.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Random`].
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let (requests, place) = (Requests::start()?, store.to_string());
        Self::new(Parts { store, requests, put_waits: &WAITS, folder: None, place })
    }

    /// Objects in memory, for tests and examples.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn memory() -> Result<Self> {
        let (store, place) = (Arc::new(InMemory::new()), Location::Memory.to_string());
        Self::new(Parts { store, requests: Requests::Caller, put_waits: &[], folder: None, place })
    }

    fn new(parts: Parts) -> Result<Self> {
        let Parts { store, requests, put_waits, folder, place } = parts;
        let owner = OwnerToken(random_bytes()?);
        let (seen, is_encrypted) = (AtomicBool::new(false), AtomicBool::new(false));
        let encryption = RwLock::default();
        let renewal = AtomicU64::new(RENEWAL.as_micros() as u64); // seconds
        let warned = Mutex::default();
        let inner = Inner {
            store,
            requests,
            put_waits,
            folder,
            owner,
            place,
            seen,
            is_encrypted,
            encryption,
            warned,
            renewal,
        };
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
        self.inner.folder.as_deref()
    }

    /// Who may read the repository besides its owner; `None` if nobody may, or if it is not in a folder of this machine.
    ///
    /// # Errors
    /// [`Error::Folder`] when that can't be told.
    pub fn readers(&self) -> Result<Option<Readers>> {
        self.folder().map_or(Ok(None), readers)
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

/// A random identity.
///
/// # Errors
/// [`Error::Random`].
pub fn random_id() -> Result<ShortId> {
    random_bytes().map(ShortId::from_bytes)
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
