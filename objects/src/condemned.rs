//! Objects that are to be deleted, written down before any of them is.
//!
//! ```text
//! condemned/<id>-objects    their paths; and those of the roots that were read to tell what is needed
//! condemned/<id>-leases     the leases that stood when the paths were written down
//! ```
//!
//! Between the two phases of a collection the paths stand here. Whoever writes and begins after they were put treats what
//! they name as absent, so that only who began before, and holds one of those leases, can still come to rely on it.

use crate::layout::{CONDEMNED, ObjectName, ShortId};
use crate::store::random_id;
use crate::{Error, Objects, Result};
use pitr_codec::{Codec, CodecError};
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::collections::BTreeSet;

const VERSION: u8 = 1;
const WHAT: &str = "list of condemned objects";
/// Longest path of an object, bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Most paths of one condemnation: it is one object. What is left over is condemned the next time.
const PATHS_MAX: usize = 64 << 10;

/// A condemnation that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemnation {
    id: ShortId,
    /// What it names.
    pub objects: BTreeSet<String>,
    /// The roots that need none of it. A listing without one of them is not to be believed.
    pub roots: BTreeSet<String>,
    /// The leases that must have ended before anything is deleted; `None` if whoever condemned did not come to
    /// writing them down.
    pub leases: Option<BTreeSet<String>>,
}

/// All that is condemned.
pub type Condemned = BTreeSet<String>;

impl Objects {
    /// The paths of all objects that are condemned.
    ///
    /// # Errors
    /// Those of the store; [`Error::Object`].
    pub fn condemned(&self) -> Result<Condemned> {
        Ok(self.condemnations()?.into_iter().flat_map(|one| one.objects).collect())
    }

    /// The condemnations that stand.
    ///
    /// # Errors
    /// As [`condemned`](Self::condemned).
    pub fn condemnations(&self) -> Result<Vec<Condemnation>> {
        let entries = self.list(CONDEMNED)?;
        let ids = entries.iter().filter_map(|entry| match ObjectName::parse(&entry.path)? {
            ObjectName::CondemnedObjects(id) => Some(id),
            _ => None,
        });
        let mut out = Vec::new();
        for id in ids {
            // One that is gone by now has been carried out.
            let Some([objects, roots]) = self.read_texts(ObjectName::CondemnedObjects(id))? else { continue };
            let leases = self.read_texts(ObjectName::CondemnedLeases(id))?.map(|[leases]| leases);
            out.push(Condemnation { id, objects, roots, leases });
        }
        Ok(out)
    }

    /// Deletes what is left of condemnations that were carried out: a collector that was paused may have written down the leases
    /// of one that another had forgotten meanwhile. For a collector; a list that goes in error is written down again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn forget_leftovers(&self) -> Result<()> {
        let listed = self.list(CONDEMNED)?;
        let names: Vec<ObjectName> =
            listed.iter().filter_map(|entry| ObjectName::parse(&entry.path)).collect();
        let is_left = |name: &&ObjectName| match name {
            ObjectName::CondemnedLeases(id) => !names.contains(&ObjectName::CondemnedObjects(*id)),
            _ => false,
        };
        names.iter().filter(is_left).try_for_each(|name| self.delete(&name.path()))
    }

    /// Writes down objects that are to be deleted, as many as fit, and then the leases that stand.
    ///
    /// # Errors
    /// Those of the store.
    pub fn condemn(&self, objects: BTreeSet<String>, roots: BTreeSet<String>) -> Result<Condemnation> {
        let id = random_id()?;
        let objects: BTreeSet<String> = objects.into_iter().take(PATHS_MAX).collect();
        // They are a second look, not the proof: as many as fit.
        let roots: BTreeSet<String> = roots.into_iter().take(PATHS_MAX).collect();
        self.put_texts(ObjectName::CondemnedObjects(id), [&objects, &roots])?;
        self.note_leases(Condemnation { id, objects, roots, leases: None })
    }

    /// Writes down the leases that stand, for a condemnation that has none written down.
    ///
    /// # Errors
    /// Those of the store.
    pub fn note_leases(&self, mut condemnation: Condemnation) -> Result<Condemnation> {
        // Two listings: one may miss what is renewed while it is made.
        let (mut leases, again) = (self.leases()?, self.leases()?);
        leases.extend(again);
        let leases: BTreeSet<String> = leases.into_iter().map(|lease| lease.id.to_string()).collect();
        self.put_texts(ObjectName::CondemnedLeases(condemnation.id), [&leases])?;
        condemnation.leases = Some(leases);
        Ok(condemnation)
    }

    /// Forgets a condemnation that has been carried out.
    ///
    /// # Errors
    /// Those of the store.
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
    let version = reader.u8(WHAT)?;
    if version != VERSION {
        return Err(DecodeError::Version { what: WHAT, found: version.into(), known: VERSION.into() });
    }
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
    fn a_condemnation_stands_until_it_is_forgotten() {
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
    fn leases_that_were_not_written_down_are_written_down_later() {
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
