//! Creating objects, once.

use crate::store::object_path;
use crate::{Error, Objects, Result};
use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStore, PutMode, PutOptions, PutPayload};
use pitr_codec::OBJECT_BYTES_LIMIT;
use std::sync::Arc;

impl Objects {
    /// Creates an object that must not exist yet, durably.
    ///
    /// A store may carry out a put and lose the reply; the repeated put then finds the object. An
    /// existing object counts as ours if it has the same bytes: every object contains the owner
    /// token of its process. An object that must be the only one of its name, such as a claim, must
    /// hold random bytes too.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the object exists with other bytes; [`Error::TooLarge`];
    /// [`Error::NotARepository`] when the folder of an opened repository is gone; errors of the
    /// store.
    pub fn put_new(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes: Bytes = bytes.into();
        self.check_size(path, bytes.len() as u64)?;
        let mut waits = self.inner.put_waits.iter();
        loop {
            match self.put_once(path, bytes.clone())? {
                Ok(()) => {
                    tracing::debug!(path, bytes = bytes.len(), "put");
                    return Ok(());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    return self.check_ours(path, &bytes);
                }
                Err(source) => match (Error::from_store(path, source), waits.next()) {
                    (error @ Error::Unreachable { .. }, Some(wait)) => {
                        tracing::warn!(path, %error, "a put was not answered and is repeated");
                        self.inner.env.clock.sleep(*wait);
                    }
                    (error, _) => return Err(error),
                },
            }
        }
    }

    fn put_once(&self, path: &str, bytes: Bytes) -> Result<object_store::Result<()>> {
        let location = object_path(path)?;
        let store = Arc::clone(&self.inner.store);
        self.inner.requests.run(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&location, PutPayload::from(bytes), options).await.map(|_| ())
        })
    }

    /// Fails unless the existing object has these bytes.
    fn check_ours(&self, path: &str, ours: &Bytes) -> Result<()> {
        let is_ours = self.size(path)? == ours.len() as u64 && self.get(path)? == *ours;
        if is_ours { Ok(()) } else { Err(Error::Foreign { path: path.to_owned() }) }
    }

    pub(crate) fn check_size(&self, path: &str, bytes: u64) -> Result<()> {
        let most = OBJECT_BYTES_LIMIT as u64;
        if bytes <= most { Ok(()) } else { Err(Error::TooLarge { path: path.to_owned(), bytes, most }) }
    }
}
