//! Creating objects, once.

use crate::layout::ObjectName;
use crate::store::object_path;
use crate::{Error, Objects, Result, SetupError};
use bytes::Bytes;
use object_store::{Attribute, Error as StoreError, ObjectStore, PutMode, PutOptions, PutPayload};
use pitr_codec::OBJECT_BYTES_LIMIT;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait before the second attempt of a put. Each further wait is up to twice as long.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// No further attempt begins after this time.
const ATTEMPTS_BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// Before an object of this size is sent again, a short request asks whether it has arrived, bytes.
const LARGE: usize = 64 << 10;
/// A smaller object has the store's usual storage class: the cheaper ones are paid for as if an
/// object had at least this size, bytes.
const DATA_BYTES_MIN: usize = 128 << 10;
/// Reads of an object that differs from ours, before it counts as another writer's.
const READS_OF_ANOTHER: u32 = 2;

impl Objects {
    /// Creates an object that must not exist yet, durably.
    ///
    /// A store may carry out a put and lose the reply, or carry it out later; the repeated put then
    /// finds the object. An existing object counts as ours if it has the same bytes: every object
    /// contains the owner token of its process. An object that must be the only one of its name,
    /// such as a claim, must hold random bytes too.
    ///
    /// After [`Error::Unreachable`] it is unknown whether the object exists, and an attempt may
    /// still create it. A caller that tries again must give the same bytes.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the object exists with other bytes; [`Error::TooLarge`];
    /// [`Error::NotARepository`] when the folder of an opened repository is gone; errors of the
    /// store.
    pub fn put_new(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes: Bytes = bytes.into();
        self.check_size(path, bytes.len() as u64)?;
        let clock = &self.inner.env.clock;
        let (begun, mut attempt) = (clock.monotonic(), 1);
        loop {
            let error = match self.attempt(path, &bytes)? {
                None => {
                    tracing::debug!(path, bytes = bytes.len(), "put");
                    return Ok(());
                }
                Some(error) => error,
            };
            // A remote store's client has its own retries within an attempt.
            let has_time = clock.monotonic().saturating_sub(begun) < ATTEMPTS_BEGIN_WITHIN;
            if attempt >= self.inner.origin.put_attempts() || !has_time {
                return Err(error);
            }
            let cause = error.cause();
            tracing::warn!("{path}: it is unknown whether the object was put; trying again: {cause}");
            clock.sleep(self.wait_after(attempt)?);
            attempt += 1;
            if bytes.len() >= LARGE && self.has_arrived(path, &bytes)? {
                return Ok(());
            }
        }
    }

    /// One attempt. `None` if the object exists with these bytes; the error if another attempt may
    /// help.
    fn attempt(&self, path: &str, bytes: &Bytes) -> Result<Option<Error>> {
        let source = match self.put_once(path, bytes.clone())? {
            Ok(()) => return Ok(None),
            Err(source) => source,
        };
        match source {
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
                match self.check_ours(path, bytes) {
                    Ok(()) => Ok(None),
                    // FAILURES 46: S3 refuses one of two concurrent puts, and may carry out
                    // neither.
                    Err(Error::Missing { path }) => {
                        Ok(Some(Error::Unreachable { path, source: source.into() }))
                    }
                    Err(error @ Error::Unreachable { .. }) => Ok(Some(error)),
                    Err(error) => Err(error),
                }
            }
            source => match Error::from_store(path, source) {
                error @ Error::Unreachable { .. } => Ok(Some(error)),
                // Stores have no folders that could be missing.
                Error::Missing { .. } if self.folder().is_none() => {
                    Err(Error::Setup { place: self.place().to_owned(), source: SetupError::NoBucket })
                }
                error => Err(error),
            },
        }
    }

    fn put_once(&self, path: &str, bytes: Bytes) -> Result<object_store::Result<()>> {
        let location = object_path(path)?;
        let store = Arc::clone(&self.inner.store);
        let mut options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let is_data =
            bytes.len() >= DATA_BYTES_MIN && ObjectName::parse(path).is_some_and(|name| name.is_data());
        if let Some(class) = self.inner.data_class.as_ref().filter(|_| is_data) {
            options.attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        self.inner
            .requests
            .run(async move { store.put_opts(&location, PutPayload::from(bytes), options).await.map(|_| ()) })
    }

    /// True if a put that was not answered has created the object. It may still do so later.
    fn has_arrived(&self, path: &str, ours: &Bytes) -> Result<bool> {
        match self.check_ours(path, ours) {
            Ok(()) => Ok(true),
            Err(Error::Missing { .. } | Error::Unreachable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fails with [`Error::Foreign`] unless the existing object has these bytes. One that differs
    /// is read again: an answer that was damaged on its way is not another writer's object.
    fn check_ours(&self, path: &str, ours: &Bytes) -> Result<()> {
        for _ in 0..READS_OF_ANOTHER {
            if self.has_bytes(path, ours)? {
                return Ok(());
            }
        }
        Err(Error::Foreign { path: path.to_owned() })
    }

    /// True if the existing object has these bytes.
    fn has_bytes(&self, path: &str, ours: &Bytes) -> Result<bool> {
        if ours.len() >= LARGE && self.size(path)? != ours.len() as u64 {
            return Ok(false);
        }
        match self.get(path) {
            Ok(found) => Ok(found == *ours),
            Err(Error::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The wait after an attempt, doubled each time. Its second half is random, so that processes
    /// that were refused together do not come back together.
    fn wait_after(&self, attempt: u32) -> Result<Duration> {
        let most = WAIT_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(WAIT_MAX);
        let random = u32::from(u16::from_le_bytes(self.random_bytes()?));
        Ok(most / 2 + most / 2 * random / u32::from(u16::MAX))
    }

    pub(crate) fn check_size(&self, path: &str, bytes: u64) -> Result<()> {
        let most = OBJECT_BYTES_LIMIT as u64;
        if bytes <= most { Ok(()) } else { Err(Error::TooLarge { path: path.to_owned(), bytes, most }) }
    }
}
