//! The handle of a repository's objects.

use crate::layout::ShortId;
use crate::local::{LocalStore, Readers, create_folder, readers};
use crate::rate::RateLimit;
use crate::remote::{self, Remote};
use crate::runtime::Requests;
use crate::view::View;
use crate::{Error, Location, Result, parallel};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use pitr_codec::{Keys, Secret};
use pitr_format::OwnerToken;
use pitr_vfs::{Env, Spawn};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// Default time between two renewals of a lease.
const LEASE_RENEWAL: Duration = Duration::from_secs(15);

/// The objects of one repository. Clones share their connection and their owner token.
#[derive(Debug, Clone)]
pub struct Objects {
    pub(crate) inner: Arc<Inner>,
    pub(crate) view: Option<Arc<View>>,
    pub(crate) limit: Option<Arc<RateLimit>>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) env: Env,
    pub(crate) requests: Requests,
    pub(crate) origin: Origin,
    /// The storage class of data objects; `None` for the store's usual one.
    pub(crate) data_class: Option<String>,
    /// True until it is known that the store never replaces an object by a put.
    pub(crate) is_unproven: AtomicBool,
    folder: Option<PathBuf>,
    owner: OwnerToken,
    pub(crate) place: String,
    /// True once this handle saw the repository object. From then on an empty listing counts only
    /// if the object still exists.
    pub(crate) seen: AtomicBool,
    /// True if the repository object says that the repository is encrypted.
    pub(crate) is_encrypted: AtomicBool,
    pub(crate) encryption: RwLock<Option<Arc<Encryption>>>,
    /// Foreign paths that were warned of.
    pub(crate) warned: Mutex<BTreeSet<String>>,
    /// Microseconds between two renewals of a lease.
    pub(crate) renewal: AtomicU64,
}

/// Where a store comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A folder, or the memory of this process: the puts are this crate's own.
    Own,
    /// The caller of [`Objects::over`].
    Caller,
    /// A bucket behind a network.
    Remote,
}

impl Origin {
    /// Attempts of a put that gets no answer.
    pub(crate) fn put_attempts(self) -> u32 {
        match self {
            // A folder never loses a reply, and a second attempt must not hide a failed fsync.
            Origin::Own => 1,
            // It has its own retries, or is a test's.
            Origin::Caller => 4,
            // About ten seconds of waiting.
            Origin::Remote => 8,
        }
    }
}

/// Settings that differ between stores.
struct Parts {
    store: Arc<dyn ObjectStore>,
    requests: Requests,
    origin: Origin,
    data_class: Option<String>,
    folder: Option<PathBuf>,
    place: String,
}

/// Without the store: some stores show their credentials.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The open keys of an encrypted repository.
#[derive(Debug)]
pub(crate) struct Encryption {
    pub(crate) repository: [u8; 16],
    pub(crate) master: Secret,
    pub(crate) keys: Arc<Keys>,
    /// Number of the ring that holds the keys.
    pub(crate) ring: u64,
}

impl Objects {
    /// Opens the store at a location. A folder must exist. A bucket takes its address and its
    /// credentials from the environment variables that [`object_store`] knows.
    ///
    /// # Errors
    /// [`Error::NotARepository`] if there is no such folder; [`Error::Folder`] if it can't be
    /// entered; [`Error::Setup`] if a setting of the bucket is missing or wrong; [`Error::Random`].
    pub fn open(location: &Location, env: &Env) -> Result<Self> {
        Self::open_with(location, &BTreeMap::new(), env)
    }

    /// Like [`open`](Self::open), with options of a bucket's store that override the environment
    /// variables. They are named as [`object_store`] names them: `aws_endpoint`. Other locations
    /// have no options.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(location: &Location, options: &BTreeMap<String, String>, env: &Env) -> Result<Self> {
        let here = |store: Arc<dyn ObjectStore>, folder| Parts {
            store,
            requests: Requests::Caller,
            origin: Origin::Own,
            data_class: None,
            folder,
            place: location.to_string(),
        };
        let parts = match location {
            Location::Folder(folder) => {
                let root = root_of(folder)?;
                let fs = Arc::clone(&env.fs);
                here(Arc::new(LocalStore::new(fs, root.clone(), location.to_string())), Some(root))
            }
            Location::Memory => here(Arc::new(InMemory::new()), None),
            Location::Bucket(bucket) => {
                let Remote { store, data_class } = remote::open(bucket, options)?;
                let (requests, place) = (Requests::start()?, location.to_string());
                Parts { store, requests, origin: Origin::Remote, data_class, folder: None, place }
            }
        };
        Self::new(parts, env)
    }

    /// Like [`open`](Self::open), for a new repository. A missing folder is created, durably.
    ///
    /// `files` are the permissions of the repository's files: the folder keeps them, and every
    /// later file follows the folder. By default only the owner has access, and an existing empty
    /// folder is made private.
    ///
    /// # Errors
    /// [`Error::Folder`] if it can't be created.
    pub fn create(location: &Location, files: Option<u32>, env: &Env) -> Result<Self> {
        if let Location::Folder(folder) = location {
            let failed = |source| Error::Folder { path: folder.clone(), source };
            create_folder(&*env.fs, folder, files).map_err(failed)?;
        }
        Self::open(location, env)
    }

    /// The objects in any store that can create an object only if it is absent. In a simulated
    /// machine the caller polls the requests, so the store must not need a runtime.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Random`].
    pub fn over(store: Arc<dyn ObjectStore>, env: &Env) -> Result<Self> {
        let requests = match env.spawn {
            Spawn::Threads => Requests::start()?,
            Spawn::Inline => Requests::Caller,
        };
        let place = store.to_string();
        let origin = Origin::Caller;
        Self::new(Parts { store, requests, origin, data_class: None, folder: None, place }, env)
    }

    /// The objects in an existing folder of this machine.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn local(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open(&Location::Folder(folder.as_ref().to_owned()), &Env::system())
    }

    /// The objects in a folder of this machine, which is created if it is missing.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_local(folder: impl AsRef<Path>) -> Result<Self> {
        Self::create(&Location::Folder(folder.as_ref().to_owned()), None, &Env::system())
    }

    /// Like [`over`](Self::over), on this machine.
    ///
    /// # Errors
    /// Those of [`over`](Self::over).
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::over(store, &Env::system())
    }

    /// Objects in memory, for tests and examples.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn memory() -> Result<Self> {
        Self::open(&Location::Memory, &Env::system())
    }

    fn new(parts: Parts, env: &Env) -> Result<Self> {
        let Parts { store, requests, origin, data_class, folder, place } = parts;
        let inner = Inner {
            store,
            env: env.clone(),
            requests,
            origin,
            data_class,
            is_unproven: AtomicBool::new(origin == Origin::Remote),
            folder,
            owner: OwnerToken(env.random_bytes().map_err(Error::Random)?),
            place,
            seen: AtomicBool::new(false),
            is_encrypted: AtomicBool::new(false),
            encryption: RwLock::default(),
            warned: Mutex::default(),
            renewal: AtomicU64::new(LEASE_RENEWAL.as_micros() as u64), // seconds
        };
        Ok(Objects { inner: Arc::new(inner), view: None, limit: None })
    }

    /// The machine that this handle uses.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Random bytes, for identities.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn random_bytes<const N: usize>(&self) -> Result<[u8; N]> {
        self.inner.env.random_bytes().map_err(Error::Random)
    }

    pub(crate) fn random_id(&self) -> Result<ShortId> {
        self.random_bytes().map(ShortId::from_bytes)
    }

    /// The token in every object that this handle or its clones create; random for each handle.
    #[must_use]
    pub fn owner(&self) -> OwnerToken {
        self.inner.owner
    }

    /// The repository's folder or store, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The repository's folder, if it is in a folder of this machine.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.inner.folder.as_deref()
    }

    /// Users besides the owner who may read the repository; `None` if there are none, or if it is
    /// not in a folder of this machine.
    ///
    /// # Errors
    /// [`Error::Folder`] if the folder can't be read.
    pub fn readers(&self) -> Result<Option<Readers>> {
        let Some(folder) = self.folder() else { return Ok(None) };
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        readers(&*self.inner.env.fs, folder).map_err(failed)
    }

    /// True if the opened repository is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.inner.is_encrypted.load(Ordering::Relaxed)
    }

    /// Deletes an object. A missing object is no error. The caller must have proof that nothing
    /// needs the object (law 7).
    ///
    /// # Errors
    /// Errors of the store.
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

    /// Deletes objects, several at a time and in any order; as [`delete`](Self::delete).
    ///
    /// # Errors
    /// The first error. After it, no other deletion begins.
    pub fn delete_all<'a>(&self, paths: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let paths: Vec<&String> = paths.into_iter().collect();
        parallel::requests(self.inner.env.spawn, &paths, |path| self.delete(path)).map(drop)
    }

    /// True if there is an object at the path.
    ///
    /// # Errors
    /// Errors of the store.
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
    /// [`Error::Missing`]; errors of the store.
    pub fn size(&self, path: &str) -> Result<u64> {
        let location = object_path(path)?;
        let store = Arc::clone(&self.inner.store);
        let meta = self.inner.requests.run(async move { store.head(&location).await })?;
        Ok(meta.map_err(|source| Error::from_store(path, source))?.size)
    }
}

/// The path of an object, unchanged: a path that the store would change is refused.
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

/// The folder with all links resolved.
fn root_of(folder: &Path) -> Result<PathBuf> {
    match folder.canonicalize() {
        Ok(root) if root.is_dir() => Ok(root),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::Folder { path: folder.to_owned(), source })
        }
        _ => Err(Error::NotARepository { place: folder.display().to_string() }),
    }
}
