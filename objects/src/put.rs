//! Creating objects, once.

use crate::local::LocalFolder;
use crate::store::object_path;
use crate::{Error, Objects, REPOSITORY_PATH, Result};
use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStore, PutMode, PutOptions, PutPayload};
use pitr_codec::OBJECT_BYTES_LIMIT;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

/// Waits before the second and the third attempt of a put to which a remote store gave no answer.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

impl Objects {
    /// Creates an object that must not be there yet, durably.
    ///
    /// A put may have been carried out although its reply was lost, and is then found when it is repeated. What stands
    /// at the path counts as ours if it is, byte for byte, what was to be put: every object bears the owner token of
    /// its process. An object whose purpose is to be the only one, as a claim, must hold random bytes besides.
    ///
    /// # Errors
    /// [`Error::Foreign`] if other bytes stand there; [`Error::TooLarge`]; [`Error::NotARepository`] when the folder of an
    /// opened repository is gone; those of the store.
    pub fn put_new(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes: Bytes = bytes.into();
        self.check_size(path, bytes.len() as u64)?;
        self.check_folder()?;
        // A local folder has no lost replies, and a failed fsync must not be glossed over by a second one.
        let waits: &[Duration] = if self.inner.local.is_some() { &[] } else { &WAITS };
        let mut waits = waits.iter();
        loop {
            match self.put_once(path, bytes.clone())? {
                Ok(()) => {
                    tracing::debug!(path, bytes = bytes.len(), "put");
                    return Ok(());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    return self.recognise(path, &bytes);
                }
                Err(source) => match (Error::from_store(path, source), waits.next()) {
                    (error @ Error::Unreachable { .. }, Some(wait)) => {
                        tracing::warn!(path, %error, "no answer to a put, which is made again");
                        sleep(*wait);
                    }
                    (error, _) => return Err(error),
                },
            }
        }
    }

    fn put_once(&self, path: &str, bytes: Bytes) -> Result<object_store::Result<()>> {
        let location = object_path(path)?;
        if let Some(folder) = &self.inner.local {
            return Ok(folder.put_new(path, &bytes).map_err(|source| folder.error(path, source)));
        }
        let store = Arc::clone(&self.inner.store);
        self.inner.requests.run(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&location, PutPayload::from(bytes), options).await.map(|_| ())
        })
    }

    /// A local store makes whatever folders are missing. Once the repository was seen, a put must not make a new one
    /// where a disk was unmounted: what would be written there were gone when the disk comes back (FAILURES 34).
    fn check_folder(&self) -> Result<()> {
        let gone = |folder: &LocalFolder| !folder.holds(REPOSITORY_PATH);
        match &self.inner.local {
            Some(folder) if self.inner.seen.load(Ordering::Relaxed) && gone(folder) => {
                Err(Error::NotARepository { place: self.inner.place.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Is what stands at the path what we were about to put?
    fn recognise(&self, path: &str, ours: &Bytes) -> Result<()> {
        let foreign = || Error::Foreign { path: path.to_owned() };
        if self.size(path)? != ours.len() as u64 || self.get(path)? != *ours {
            return Err(foreign());
        }
        match &self.inner.local {
            Some(folder) => folder.sync(path),
            None => Ok(()),
        }
    }

    pub(crate) fn check_size(&self, path: &str, bytes: u64) -> Result<()> {
        let most = OBJECT_BYTES_LIMIT as u64;
        if bytes <= most { Ok(()) } else { Err(Error::TooLarge { path: path.to_owned(), bytes, most }) }
    }
}
