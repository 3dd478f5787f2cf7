//! A repository in a folder of this machine, as an [`ObjectStore`].
//!
//! `object_store` has a local store of its own. This one differs in what a repository needs:
//!
//! - Objects are read and written past the page cache, into buffers that are reused ([`Buffers`]).
//! - A put creates, and is durable on return: file, name and folders are synced. It never replaces
//!   an object.
//! - Created files get the permissions that the repository's folder gives (FAILURES 58).
//! - Pipes, devices and other non-regular files are refused and never waited for (FAILURES 59).
//! - A listing continues after an entry that is not an object, and returns the entry as an error
//!   whose source is a [`Stray`].
//! - Nothing is put into a folder that no longer contains the repository, for example because a
//!   disk was unmounted (FAILURES 34).
//!
//! Futures and streams of this store do their work when they are polled and never wait for another
//! thread. So a caller can poll them on its own thread, without an async runtime.

mod create;
mod read;
mod walk;
mod write;

pub use create::Readers;
pub use walk::{Stray, StrayKind};

pub(crate) use create::{create_folder, readers};

use crate::layout::REPOSITORY;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pitr_vfs::{Buffers, FileSystem, NotAFile};
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Name of this store in errors.
const STORE: &str = "folder";

/// The objects in a folder of this machine. Clones share their buffers.
#[derive(Debug, Clone)]
pub struct LocalStore {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    /// The folder as the user named it.
    place: String,
    /// Folders below the root that exist and are durable, together with their parents.
    durable: Mutex<HashSet<PathBuf>>,
    buffers: Buffers,
    /// True once the repository object was seen. From then on puts fail without it.
    is_repository: AtomicBool,
}

/// The repository object no longer exists in the folder.
#[derive(Debug, thiserror::Error)]
#[error("{place}: the repository is gone from this folder")]
pub(crate) struct RepositoryGone {
    pub(crate) place: String,
}

impl LocalStore {
    /// The objects below `root`, an existing folder of `fs`. `place` is its name for people.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, root: PathBuf, place: String) -> Self {
        let folder = Folder {
            fs,
            root,
            place,
            durable: Mutex::default(),
            buffers: Buffers::default(),
            is_repository: AtomicBool::new(false),
        };
        LocalStore { folder: Arc::new(folder) }
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.folder.place)
    }
}

impl Folder {
    fn path(&self, object: &ObjectPath) -> PathBuf {
        self.root.join(object.as_ref())
    }

    /// Notes that the object was read or written.
    fn saw(&self, object: &ObjectPath) {
        if object.as_ref() == REPOSITORY {
            self.is_repository.store(true, Ordering::Relaxed);
        }
    }

    /// Refuses to put into a folder that contained the repository and no longer does. Whatever is
    /// written to an empty mount point disappears when the disk is mounted again (FAILURES 34).
    fn check_not_gone(&self) -> Result<()> {
        if !self.is_repository.load(Ordering::Relaxed) || self.holds(REPOSITORY) {
            return Ok(());
        }
        let gone = RepositoryGone { place: self.place.clone() };
        Err(Error::Generic { store: STORE, source: gone.into() })
    }

    /// The system's answer to a request for an object, as an error of an object store.
    fn error(&self, object: &ObjectPath, source: io::Error) -> Error {
        if let Some(found) = source.get_ref().and_then(|inner| inner.downcast_ref::<NotAFile>()) {
            return Error::Generic { store: STORE, source: (*found).into() };
        }
        let kind = source.kind();
        let source = format!("{}: {source}", self.path(object).display());
        let path = object.to_string();
        match kind {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
            io::ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
            _ => Error::Generic { store: STORE, source: io::Error::new(kind, source).into() },
        }
    }

    fn holds(&self, object: &str) -> bool {
        self.fs.exists(&self.root.join(object)).unwrap_or(false)
    }

    fn delete(&self, object: &ObjectPath) -> Result<()> {
        self.fs.remove_file(&self.path(object)).map_err(|source| self.error(object, source))
    }
}

/// The description of an object. Without a time: nothing may rely on the times of objects
/// (FAILURES 22).
fn meta(location: ObjectPath, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if !matches!(opts.mode, PutMode::Create) {
            return Err(not_implemented("a put that replaces an object"));
        }
        let folder = &self.folder;
        folder.check_not_gone()?;
        folder.put_new(location, &payload)?;
        folder.saw(location);
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("a put in parts"))
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let folder = &self.folder;
        let (meta, range, payload) = match options.head {
            true => {
                let meta = meta(location.clone(), folder.size(location)?);
                (meta, 0..0, stream::empty().boxed())
            }
            false => {
                let opened = folder.open(location)?;
                let (meta, range) =
                    (meta(location.clone(), opened.len), opened.range(options.range.as_ref())?);
                let (range_read, folder) = (range.clone(), Arc::clone(folder));
                // Read when the stream is polled, because the caller first looks at the size.
                let bytes = stream::once(async move { opened.read(&folder.buffers, range_read) });
                (meta, range, bytes.boxed())
            }
        };
        options.check_preconditions(&meta)?;
        folder.saw(location);
        let (payload, attributes) = (GetResultPayload::Stream(payload), Default::default());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let folder = Arc::clone(&self.folder);
        let deleted = locations.map(move |location| {
            let location = location?;
            folder.delete(&location).map(|()| location)
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (folder, prefix) = (Arc::clone(&self.folder), prefix.map(ToString::to_string));
        let walked = stream::once(async move {
            walk::walk(&*folder.fs, &folder.root, prefix.as_deref().unwrap_or_default())
        });
        walked.flat_map(stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        let root = ObjectPath::default();
        let above = prefix.unwrap_or(&root);
        let (mut objects, mut common_prefixes) = (Vec::new(), BTreeSet::new());
        for found in walk::walk(&*self.folder.fs, &self.folder.root, above.as_ref()) {
            let found = found?;
            let folder = {
                let mut parts = found.location.prefix_match(above).into_iter().flatten();
                let first = parts.next().filter(|_| parts.next().is_some());
                first.map(|folder| above.clone().join(folder))
            };
            match folder {
                Some(folder) => drop(common_prefixes.insert(folder)),
                None => objects.push(found),
            }
        }
        let common_prefixes = common_prefixes.into_iter().collect();
        Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}
