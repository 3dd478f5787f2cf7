//! Listing the objects of a repository.

use crate::layout::REPOSITORY;
use crate::local::Stray;
use crate::store::exact_path;
use crate::{Error, Objects, Result};
use futures_util::StreamExt;
use object_store::{Error as StoreError, ObjectStore};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Maximum number of foreign paths to warn about; `verify` reports all of them.
const WARNINGS_MAX: usize = 20;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Path of the object within the repository.
    pub path: String,
    /// Size of the object, bytes.
    pub size: u64,
}

/// The entries below a folder of a repository.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The objects, sorted by path.
    pub entries: Vec<Entry>,
    /// Everything else, sorted by path.
    pub strays: Vec<Stray>,
}

impl Objects {
    /// The objects below `prefix`, sorted by path; all of them for "". The prefix is matched by
    /// whole path segments: `db1` does not list objects below `db10`.
    ///
    /// # Errors
    /// Errors of the store; an interrupted listing returns nothing. [`Error::NotARepository`] when
    /// nothing is listed and the repository object, once seen, is gone: an unmounted folder is not
    /// read as an empty one.
    ///
    /// Foreign entries of a local folder are left out, with one warning each. [`Error::Hidden`] if
    /// an entry that can't be read may contain objects.
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

    /// Like [`list`](Self::list), with the foreign entries. Some of them may hide objects, so this
    /// listing proves neither that an object is missing nor that one is unreferenced.
    ///
    /// # Errors
    /// Errors of the store; [`Error::NotARepository`].
    pub fn listing(&self, prefix: &str) -> Result<Listing> {
        if let Some(listing) = self.viewed(prefix) {
            return listing;
        }
        let folder = exact_path(prefix)?;
        let store = Arc::clone(&self.inner.store);
        let listed = self.inner.requests.run(async move {
            let mut listing = Listing::default();
            let mut found = store.list((!folder.is_root()).then_some(&folder));
            while let Some(found) = found.next().await {
                match found {
                    // Not every store matches by segments.
                    Ok(meta) => {
                        let below = meta.location.prefix_match(&folder);
                        if below.is_some_and(|mut below| below.next().is_some()) {
                            listing.entries.push(Entry { path: meta.location.into(), size: meta.size });
                        }
                    }
                    Err(error) => listing.strays.push(stray(error)?),
                }
            }
            Ok(listing)
        })?;
        let mut listing = listed.map_err(|source| Error::from_store(prefix, source))?;
        listing.entries.sort();
        listing.strays.sort_by(|a, b| a.path.cmp(&b.path));
        let is_empty = listing.entries.is_empty();
        if is_empty && self.inner.seen.load(Ordering::Relaxed) && !self.exists(REPOSITORY)? {
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
}

/// The foreign entry that an error of a listing describes. Any other error ends the listing.
fn stray(error: StoreError) -> Result<Stray, StoreError> {
    match error {
        StoreError::Generic { store, source } => match source.downcast::<Stray>() {
            Ok(stray) => Ok(*stray),
            Err(source) => Err(StoreError::Generic { store, source }),
        },
        other => Err(other),
    }
}
