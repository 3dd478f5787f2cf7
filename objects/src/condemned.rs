//! Condemnations: lists of objects that will be deleted, written before the first deletion.
//!
//! ```text
//! condemned/<id>-objects    paths of the objects, and of the roots that were read to find them
//! condemned/<id>-leases     the leases at that time
//! ```
//!
//! A condemnation lasts from the first to the second phase of a collection. A writer that starts
//! after it was put treats its objects as absent. So only a process that started earlier, and holds
//! one of those leases, can still come to rely on them.

use crate::layout::{CONDEMNED, ObjectName, ShortId};
use crate::{Error, Objects, Result};
use pitr_codec::{Codec, CodecError};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::collections::BTreeSet;

const VERSION: u8 = 1;
const WHAT: &str = "list of condemned objects";
/// Maximum length of an object's path, bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Maximum number of paths in a condemnation, which is one object. The next run condemns the rest.
const PATHS_MAX: usize = 64 << 10;

/// A condemnation that was not carried out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemnation {
    id: ShortId,
    /// Paths of the objects.
    pub objects: BTreeSet<String>,
    /// The roots that need none of the objects. A listing that lacks one of them is not complete.
    pub roots: BTreeSet<String>,
    /// The leases that must end before anything is deleted. `None` if the collector died before it
    /// wrote the list of leases.
    pub leases: Option<BTreeSet<String>>,
}

/// Paths of all condemned objects.
pub type Condemned = BTreeSet<String>;

impl Objects {
    /// The paths of all condemned objects.
    ///
    /// # Errors
    /// [`Error::Object`]; errors of the store.
    pub fn condemned(&self) -> Result<Condemned> {
        Ok(self.condemnations()?.into_iter().flat_map(|one| one.objects).collect())
    }

    /// The condemnations that were not carried out yet.
    ///
    /// # Errors
    /// Those of [`condemned`](Self::condemned).
    pub fn condemnations(&self) -> Result<Vec<Condemnation>> {
        let entries = self.list(CONDEMNED)?;
        let ids = entries.iter().filter_map(|entry| match ObjectName::parse(&entry.path)? {
            ObjectName::CondemnedObjects(id) => Some(id),
            _ => None,
        });
        let mut out = Vec::new();
        for id in ids {
            // A missing condemnation was carried out since the listing.
            let Some([objects, roots]) = self.read_texts(ObjectName::CondemnedObjects(id))? else { continue };
            let leases = self.read_texts(ObjectName::CondemnedLeases(id))?.map(|[leases]| leases);
            out.push(Condemnation { id, objects, roots, leases });
        }
        Ok(out)
    }

    /// Deletes what interrupted processes have left and nobody needs. Only for a collector.
    ///
    /// - Lists of leases without a list of objects. A paused collector may have written the leases
    ///   of a condemnation that another one has carried out. If a list is deleted that is still
    ///   needed, it is written again.
    /// - Probes of create-only puts, whose process died before it deleted them.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn forget_leftovers(&self) -> Result<()> {
        let listed = self.list(CONDEMNED)?;
        let names: Vec<ObjectName> =
            listed.iter().filter_map(|entry| ObjectName::parse(&entry.path)).collect();
        let is_leftover = |name: &&ObjectName| match name {
            ObjectName::CondemnedLeases(id) => !names.contains(&ObjectName::CondemnedObjects(*id)),
            _ => false,
        };
        names.iter().filter(is_leftover).try_for_each(|name| self.delete(&name.path()))?;
        self.forget_probes()
    }

    /// Condemns as many of these objects as fit, and then records the current leases.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn condemn(&self, objects: BTreeSet<String>, roots: BTreeSet<String>) -> Result<Condemnation> {
        let id = self.random_id()?;
        let objects: BTreeSet<String> = objects.into_iter().take(PATHS_MAX).collect();
        // Roots are a second check, not the proof. As many as fit are listed.
        let roots: BTreeSet<String> = roots.into_iter().take(PATHS_MAX).collect();
        self.put_texts(ObjectName::CondemnedObjects(id), [&objects, &roots])?;
        self.note_leases(Condemnation { id, objects, roots, leases: None })
    }

    /// Records the current leases of a condemnation without a list of leases.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn note_leases(&self, mut condemnation: Condemnation) -> Result<Condemnation> {
        // One listing may miss a lease that is renewed at the same time.
        let (mut leases, again) = (self.leases()?, self.leases()?);
        leases.extend(again);
        let leases: BTreeSet<String> = leases.into_iter().map(|lease| lease.id.to_string()).collect();
        self.put_texts(ObjectName::CondemnedLeases(condemnation.id), [&leases])?;
        condemnation.leases = Some(leases);
        Ok(condemnation)
    }

    /// Deletes a condemnation that was carried out.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn forget(&self, condemnation: &Condemnation) -> Result<()> {
        self.delete(&ObjectName::CondemnedLeases(condemnation.id).path())?;
        self.delete(&ObjectName::CondemnedObjects(condemnation.id).path())
    }

    fn put_texts<const N: usize>(&self, name: ObjectName, lists: [&BTreeSet<String>; N]) -> Result<()> {
        let path = name.path();
        let bad = |source| Error::Object { path: path.clone(), source };
        let mut payload = Vec::new();
        payload.put_u8(VERSION);
        for texts in lists {
            payload.put_varint(texts.len() as u64);
            texts.iter().for_each(|text| payload.put_blob(text.as_bytes()));
        }
        let builder = self.builder(&path, name.kind(), Codec::None)?;
        self.put_container(&path, name.kind(), builder.finish(&payload).map_err(bad)?).map(drop)
    }

    fn read_texts<const N: usize>(&self, name: ObjectName) -> Result<Option<[BTreeSet<String>; N]>> {
        let path = name.path();
        let footer = match self.get_footer(&path, name.kind()) {
            Err(Error::Missing { .. }) => return Ok(None),
            other => other?,
        };
        let bad = |source| Error::Object { path, source: CodecError::Malformed(source) };
        decode(&footer).map(Some).map_err(bad)
    }
}

fn decode<const N: usize>(bytes: &[u8]) -> std::result::Result<[BTreeSet<String>; N], DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.check_version_u8(VERSION, WHAT)?;
    let mut lists = [const { BTreeSet::new() }; N];
    for texts in &mut lists {
        let count = reader.count(1, WHAT)?;
        for _ in 0..count {
            texts.insert(reader.text(PATH_BYTES_MAX, WHAT)?.to_owned());
        }
    }
    reader.finish(WHAT)?;
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseRole;

    fn paths(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_condemnation_lasts_until_it_is_forgotten() {
        let objects = Objects::memory().unwrap();
        let lease = objects.lease(LeaseRole::Use).unwrap();
        let made = objects.condemn(paths(&["packs/a", "packs/b"]), paths(&["root"])).unwrap();
        assert_eq!(made.leases, Some(paths(&[&lease.id().to_string()])));
        drop(lease);
        assert_eq!(objects.condemnations().unwrap(), std::slice::from_ref(&made));
        assert_eq!(objects.condemned().unwrap(), paths(&["packs/a", "packs/b"]));
        objects.forget(&made).unwrap();
        assert_eq!(objects.condemnations().unwrap(), []);
    }

    #[test]
    fn missing_leases_are_recorded_later() {
        // FAILURES 23: a crash between the two objects.
        let objects = Objects::memory().unwrap();
        let made = objects.condemn(paths(&["x"]), paths(&[])).unwrap();
        objects.delete(&ObjectName::CondemnedLeases(made.id).path()).unwrap();
        let found = objects.condemnations().unwrap().remove(0);
        assert_eq!(found.leases, None);
        let lease = objects.lease(LeaseRole::Use).unwrap();
        assert_eq!(objects.note_leases(found).unwrap().leases, Some(paths(&[&lease.id().to_string()])));
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/prune.md; a change of this is a change of the format.
        assert_eq!(decode(b"\x01\x02\x01a\x02bc").unwrap(), [paths(&["a", "bc"])]);
        assert_eq!(decode(b"\x01\x01\x01a\x00").unwrap(), [paths(&["a"]), paths(&[])]);
        assert!(decode::<1>(b"\x02\x00").is_err() && decode::<1>(b"\x01\xff\xff\xff\xff\x0f").is_err());
    }
}
