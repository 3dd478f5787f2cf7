//! A view: a repository as of one listing, for a reader that asks for many small things.
//!
//! On a remote store every listing and every read of a small object is a request. A view lists
//! once, and keeps each small object that it read: objects never change.
//!
//! # Promises
//! - The view's lease is taken before the listing: what it lists is not deleted while it lives.
//! - It leaves out the shipped log objects that merged ones hold, and only those (`merged.rs`).
//! - A listing of epochs is made after that of the log. So it has the fence of every log object
//!   that came too late (FAILURES 21).
//! - Leases, condemned objects, keys, packs and their index are never answered from the view.

use crate::layout::SOURCES;
use crate::merged::Merged;
use crate::{Entry, Lease, Listing, Objects, Result};
use pitr_codec::ObjectIndex;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Kept indexes of objects have at most this size together, bytes; later ones are read again.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// The folder of a source whose listing must be newer than that of the log.
const EPOCHS: &str = "/epochs";

#[derive(Debug)]
pub(crate) struct View {
    /// The objects below [`SOURCES`], without shipped log that was merged.
    listing: Listing,
    /// Later listings of epochs.
    epochs: Mutex<HashMap<String, Listing>>,
    kept: Mutex<Kept>,
    _lease: Option<Lease>,
}

/// Indexes of objects by path.
#[derive(Debug, Default)]
struct Kept {
    indexes: HashMap<String, ObjectIndex>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Objects {
    /// A handle that answers listings of sources as of now, and reads each small object once. For
    /// one task of a reader; a writer must see what others do. Log objects that were shipped and
    /// then merged into others are left out: on a remote store most of them are not even listed.
    /// The view of a view is itself.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn view(&self) -> Result<Objects> {
        match self.view {
            Some(_) => Ok(self.clone()),
            None => self.view_without(&BTreeSet::new()),
        }
    }

    /// A new view in which these objects don't exist: a reader has found them damaged. What merged
    /// ones of them hold is answered by the objects that they were merged from, if these are there.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn view_without(&self, damaged: &BTreeSet<String>) -> Result<Objects> {
        let base = self.live();
        let lease = base.lease_to_read()?;
        let (mut merged, hidden) = (Merged::default(), damaged.clone());
        let ahead = move |path: &str| (!hidden.contains(path)).then(|| merged.next(path)).flatten();
        let mut listing = base.listing_ahead(SOURCES, ahead)?;
        listing.entries.retain(|entry| !damaged.contains(&entry.path));
        let mut merged = Merged::of(&listing.entries);
        listing.entries.retain(|entry| !merged.holds(&entry.path));
        let view = View { listing, epochs: Mutex::default(), kept: Mutex::default(), _lease: lease };
        Ok(Objects { view: Some(Arc::new(view)), ..base })
    }

    /// The handle without its view: it sees what others do.
    #[must_use]
    pub fn live(&self) -> Objects {
        Objects { view: None, ..self.clone() }
    }

    /// The answer of the view to a listing; `None` if the store has to answer.
    pub(crate) fn viewed(&self, prefix: &str) -> Option<Result<Listing>> {
        let view = self.view.as_ref()?;
        if !is_below(prefix, SOURCES) {
            return None;
        }
        if !prefix.ends_with(EPOCHS) {
            return Some(Ok(view.listing.below(prefix)));
        }
        let mut epochs = lock(&view.epochs);
        if let Some(known) = epochs.get(prefix) {
            return Some(Ok(known.clone()));
        }
        Some(
            self.live()
                .listing(prefix)
                .inspect(|listing| _ = epochs.insert(prefix.to_owned(), listing.clone())),
        )
    }

    /// The index of an object, if the view has read it.
    pub(crate) fn kept_index(&self, path: &str) -> Option<ObjectIndex> {
        lock(&self.view.as_ref()?.kept).indexes.get(path).cloned()
    }

    pub(crate) fn keep_index(&self, path: &str, index: &ObjectIndex) {
        let Some(view) = self.view.as_ref().filter(|_| is_below(path, SOURCES)) else { return };
        let mut kept = lock(&view.kept);
        let bytes = index.footer.len() + size_of_val(index.frames.as_slice()) + path.len();
        if kept.bytes + bytes <= KEPT_BYTES_MAX
            && kept.indexes.insert(path.to_owned(), index.clone()).is_none()
        {
            kept.bytes += bytes;
        }
    }
}

impl Listing {
    /// The part of the listing below a folder.
    fn below(&self, prefix: &str) -> Listing {
        Listing {
            entries: self
                .entries
                .iter()
                .filter(|entry| is_inside(&entry.path, prefix))
                .cloned()
                .collect::<Vec<Entry>>(),
            strays: self.strays.iter().filter(|stray| is_below(&stray.path, prefix)).cloned().collect(),
        }
    }
}

/// True for the folder itself and for what is in it.
fn is_below(path: &str, folder: &str) -> bool {
    path == folder || is_inside(path, folder)
}

pub(crate) fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{ObjectName, SourceFolder, SourceObject};
    use pitr_codec::{Codec, ObjectKind};
    use pitr_format::{Epoch, SourceName};
    use pitr_testkit::{Request, TestStore};

    fn put(objects: &Objects, folder: &SourceFolder, object: SourceObject) -> String {
        let path = folder.path(&object);
        let built = objects.builder(&path, object.kind(), Codec::None).unwrap().finish(b"content").unwrap();
        objects.put_container(&path, object.kind(), built).unwrap();
        path
    }

    #[test]
    fn a_view_lists_once_and_reads_each_object_once() {
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&asked);
        let store = TestStore::memory().answering(move |request| {
            log.lock().unwrap().push(request.clone());
            pitr_testkit::Answer::Serve
        });
        let objects = Objects::with_store(Arc::new(store)).unwrap();
        let [app, app2] = ["app", "app2"].map(|name| objects.source_folder(&SourceName::new(name).unwrap()));
        let claim = put(&objects, &app, SourceObject::Claim(Epoch::FIRST));
        put(&objects, &app2, SourceObject::Claim(Epoch::FIRST));
        put(&objects, &app, SourceObject::Point([1; 16]));
        let view = objects.view().unwrap();
        asked.lock().unwrap().clear();

        for _ in 0..3 {
            assert_eq!(view.list(&app.points()).unwrap().len(), 1);
            assert_eq!(view.list("sources/app").unwrap().len(), 2, "not those of app2");
            assert_eq!(view.list("sources").unwrap().len(), 3);
            assert_eq!(view.list("packs").unwrap(), []);
            assert_eq!(view.get_footer(&claim, ObjectKind::Claim).unwrap(), b"content");
        }
        let asked = asked.lock().unwrap().clone();
        let gets = asked.iter().filter(|one| matches!(one, Request::Get(_))).count();
        let lists = asked.iter().filter(|one| matches!(one, Request::List(_))).count();
        assert_eq!((gets, lists), (1, 3), "packs are listed again: {asked:?}");

        // A fence that came later is seen, once; a point that came later is not.
        put(&objects, &app, SourceObject::Fence(Epoch::FIRST));
        put(&objects, &app, SourceObject::Point([2; 16]));
        assert_eq!(view.list(&app.epochs()).unwrap().len(), 2);
        put(&objects, &app, SourceObject::Claim(Epoch::new(2)));
        assert_eq!(view.list(&app.epochs()).unwrap().len(), 2);
        assert_eq!(view.list(&app.points()).unwrap().len(), 1);
        assert_eq!(objects.list(&app.points()).unwrap().len(), 2);
    }

    #[test]
    fn what_a_view_lists_is_kept_by_its_lease() {
        let objects = Objects::memory().unwrap();
        let view = objects.view().unwrap();
        assert_eq!(view.leases().unwrap().len(), 1);
        assert!(view.lease_to_read().unwrap().is_none(), "the view has one");
        assert_eq!(objects.leases().unwrap().len(), 1);
        let lease = objects.lease(crate::LeaseRole::Use).unwrap();
        assert_eq!(view.leases().unwrap().len(), 2, "leases are never answered from the view");
        drop((view, lease));
        assert_eq!(objects.leases().unwrap(), []);
        let path = ObjectName::Repository.path();
        assert!(objects.view().unwrap().kept_index(&path).is_none());
    }
}
