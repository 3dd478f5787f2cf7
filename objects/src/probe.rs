//! Does the store enforce create-only puts?
//!
//! Everything that must exist once relies on them: claims of epochs, key rings, the repository
//! object. A store that takes `If-None-Match: *` and ignores it lets the second of two writers
//! replace the first one's object, and both go on. So a new repository puts a small object twice,
//! with different bytes. The second put must be refused.
//!
//! A process that dies in between leaves its object. The next collector deletes it, and can't tell
//! it from the object of a living process. So a put that is accepted is no proof against the store
//! by itself: it is repeated, [`PUTS`] times in all. A store that replaces objects accepts all of
//! them. A collector looks once, so as many of them would have to come between these puts.
//!
//! A writer that claims a source of a remote repository does the same, once for each opened handle
//! (four requests): the store may have been replaced or reconfigured since, and claims are what
//! keeps two writers apart. Commands that only read, and backups without a claim, do not ask. A
//! folder and memory are this program's own and need no proof.

use crate::layout::{ObjectName, PROBES};
use crate::{Error, Objects, Result, SetupError};
use pitr_codec::Codec;
use std::sync::atomic::Ordering;

/// Puts under one name that a store must accept before it is refused.
const PUTS: u8 = 4;

impl Objects {
    /// Proves once that a remote store enforces create-only puts. For a writer, before its claim.
    /// Takes four requests the first time, and none for a folder or a store in memory.
    ///
    /// # Errors
    /// [`Error::Setup`] with [`SetupError::NotCreateOnly`] if it does not; errors of the store.
    pub fn prove_create_only(&self) -> Result<()> {
        match self.inner.is_unproven.load(Ordering::Relaxed) {
            true => self.probe(),
            false => Ok(()),
        }
    }

    pub(crate) fn probe(&self) -> Result<()> {
        let name = ObjectName::Probe(self.random_id()?);
        let path = name.path();
        let object = |number: u8| {
            let bad = |source| Error::Object { path: path.clone(), source };
            let mut payload = self.random_bytes::<16>()?.to_vec();
            payload.push(number);
            self.builder(&path, name.kind(), Codec::None)?.finish(&payload).map_err(bad)
        };
        let is_refused = |number| match self.put_container(&path, name.kind(), object(number)?) {
            Ok(_) => Ok(false),
            Err(Error::Foreign { .. }) => Ok(true),
            Err(error) => Err(error),
        };
        // The first put creates the object, and is an error of the store if it is refused.
        self.put_container(&path, name.kind(), object(1)?)?;
        let proof = (2..=PUTS).map(is_refused).find(|put| !matches!(put, Ok(false)));
        // If the probe stays, a collector deletes it.
        if let Err(error) = self.delete(&path) {
            tracing::debug!(path, %error, "a probe was not deleted");
        }
        if !proof.unwrap_or(Ok(false))? {
            let place = self.place().to_owned();
            return Err(Error::Setup { place, source: SetupError::NotCreateOnly });
        }
        self.inner.is_unproven.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes all probes, also those that others need at this moment: they put theirs again. For a
    /// collector, once in a run.
    pub(crate) fn forget_probes(&self) -> Result<()> {
        let listed = self.list(PROBES)?;
        let is_probe = |path: &str| matches!(ObjectName::parse(path), Some(ObjectName::Probe(_)));
        listed.iter().filter(|entry| is_probe(&entry.path)).try_for_each(|entry| self.delete(&entry.path))
    }
}
