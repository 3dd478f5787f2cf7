//! Listing the objects of a repository.

use crate::layout::{REPOSITORY, SOURCES};
use crate::local::Stray;
use crate::store::{Origin, exact_path};
use crate::view::is_inside;
use crate::{Error, Objects, Result};
use futures_util::StreamExt;
use object_store::path::Path;
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

    /// What belongs to no source. The sources' objects are not listed.
    ///
    /// # Errors
    /// Those of [`listing`](Self::listing).
    pub fn listing_beside_sources(&self) -> Result<Listing> {
        // The character 0 follows the slash.
        let ahead = |path: &str| is_inside(path, SOURCES).then(|| format!("{SOURCES}0"));
        let mut listing = self.listing_ahead("", ahead)?;
        listing.entries.retain(|entry| !is_inside(&entry.path, SOURCES));
        Ok(listing)
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
        self.listing_ahead(prefix, |_| None)
    }

    /// Like [`listing`](Self::listing), past the view. `ahead` is asked after each object of a
    /// sorted listing, and may name a path: then the listing goes on behind that path. Objects
    /// between the two may be listed or not.
    pub(crate) fn listing_ahead(
        &self,
        prefix: &str,
        mut ahead: impl FnMut(&str) -> Option<String> + Send + 'static,
    ) -> Result<Listing> {
        let folder = exact_path(prefix)?;
        let store = Arc::clone(&self.inner.store);
        // A folder is walked as a whole.
        let mut may_jump = self.inner.origin != Origin::Own;
        let listed = self.inner.requests.run(async move {
            let within = (!folder.is_root()).then_some(&folder);
            let mut listing = Listing::default();
            let (mut found, mut last, mut has_jumped) = (store.list(within), Path::default(), false);
            while let Some(found_next) = found.next().await {
                let meta = match found_next {
                    Ok(meta) => meta,
                    Err(error) => {
                        listing.strays.push(stray(error)?);
                        continue;
                    }
                };
                if may_jump && meta.location <= last {
                    // Directory buckets of S3 list in no order.
                    may_jump = false;
                    if has_jumped {
                        (found, listing) = (store.list(within), Listing::default());
                        continue;
                    }
                }
                if may_jump && let Some(path) = ahead(meta.location.as_ref()) {
                    (found, has_jumped) = (store.list_with_offset(within, &Path::parse(path)?), true);
                }
                last.clone_from(&meta.location);
                // Not every store matches by segments.
                let below = meta.location.prefix_match(&folder);
                if below.is_some_and(|mut below| below.next().is_some()) {
                    listing.entries.push(Entry { path: meta.location.into(), size: meta.size });
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
