//! The place of a source: its host and path.
//!
//! A writer stores the place if it has changed, before it stores anything else. So a later writer
//! can check that the name means the same source (FAILURES 50). The statement of the highest epoch
//! counts, for each instance of the source. Repositories of earlier versions have none.

use crate::archive::Archive;
use crate::error::Result;
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Epoch, Timestamp};
use pitr_objects::layout::SourceObject;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const VERSION: u16 = 1;
const WHAT: &str = "origin of a source";
/// Maximum length of a host name, bytes (HOST_NAME_MAX is 64, a full domain name has up to 253).
const HOST_BYTES_MAX: usize = 255;
/// Maximum length of a path, bytes (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;

/// The place of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host's name.
    pub host: String,
    /// Identity that distinguishes machines of the same host name, if the machine has one.
    pub machine: Option<[u8; 16]>,
    /// The absolute path as the user gave it, with links not resolved.
    pub given: PathBuf,
    /// The path with all links resolved.
    pub resolved: PathBuf,
    /// Time of the statement. For people only: no decision uses it.
    pub stated: Timestamp,
}

impl Origin {
    /// The bytes of the object's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u16(VERSION);
        out.put_u8(u8::from(self.machine.is_some()));
        out.put_i64(self.stated.micros());
        if let Some(machine) = &self.machine {
            out.put(machine);
        }
        out.put_blob(self.host.as_bytes());
        out.put_blob(self.given.as_os_str().as_bytes());
        out.put_blob(self.resolved.as_os_str().as_bytes());
        out
    }

    /// Reads the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        r.check_version_u16(VERSION, WHAT)?;
        let flags = r.u8(WHAT)?;
        if flags > 1 {
            return Err(DecodeError::Range { what: WHAT, value: flags.into() });
        }
        let stated = Timestamp::from_micros(r.i64(WHAT)?);
        let machine = if flags & 1 != 0 { Some(r.array(WHAT)?) } else { None };
        let host = r.text(HOST_BYTES_MAX, WHAT)?.to_owned();
        let (given, resolved) = (path(&mut r)?, path(&mut r)?);
        r.finish(WHAT)?;
        Ok(Origin { host, machine, given, resolved, stated })
    }

    /// True if both places are on the same host: the names are equal, and the identities do not
    /// differ.
    #[must_use]
    pub fn same_host(&self, other: &Origin) -> bool {
        let contradict = self.machine.zip(other.machine).is_some_and(|(a, b)| a != b);
        self.host == other.host && !contradict
    }

    /// True if both statements name the same place. Ignores their times.
    pub(crate) fn says(&self, other: &Origin) -> bool {
        *self == Origin { stated: self.stated, ..other.clone() }
    }
}

fn path(r: &mut Reader<'_>) -> Result<PathBuf, DecodeError> {
    Ok(Path::new(OsStr::from_bytes(r.blob(PATH_BYTES_MAX, WHAT)?)).to_owned())
}

impl Archive {
    /// The newest statement of the source's place; `None` if there is none. Skips damaged
    /// statements.
    ///
    /// # Errors
    /// [`Error::Objects`](crate::Error::Objects); [`Error::Payload`](crate::Error::Payload) about a
    /// statement of a later version.
    pub fn origin(&self) -> Result<Option<Origin>> {
        for epoch in self.origin_epochs()?.into_iter().rev() {
            if let Some(origin) = self.origin_of(epoch)? {
                return Ok(Some(origin));
            }
        }
        Ok(None)
    }

    /// The epochs whose writers stated a place, ascending.
    pub(crate) fn origin_epochs(&self) -> Result<Vec<Epoch>> {
        let listed = self.objects().list(&self.folder().origins())?;
        let mut epochs: Vec<Epoch> = listed
            .iter()
            .filter_map(|entry| match self.folder().object_at(&entry.path) {
                Some(SourceObject::Origin(epoch)) => Some(epoch),
                _ => None,
            })
            .collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The statement of an epoch; `None` if it is damaged.
    pub(crate) fn origin_of(&self, epoch: Epoch) -> Result<Option<Origin>> {
        match self.read(&SourceObject::Origin(epoch), Origin::decode) {
            // The loss of a statement weakens a check, but must not end the protection of the
            // source.
            Err(error) if error.is_damage() => {
                tracing::warn!("{error}; run `pitr verify` for details");
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn origin(host: &str, machine: Option<[u8; 16]>) -> Origin {
        let path = |path: &str| PathBuf::from(path);
        let stated = Timestamp::from_micros(-2);
        Origin { host: host.to_owned(), machine, given: path("/a"), resolved: path("/b/c"), stated }
    }

    proptest! {
        #[test]
        fn origins_come_back(host in "\\PC{0,60}", machine: Option<[u8; 16]>, given: Vec<u8>, resolved: Vec<u8>, at: i64) {
            let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
            let stated = Timestamp::from_micros(at);
            let origin = Origin { host, machine, given: path(given), resolved: path(resolved), stated };
            let bytes = origin.encode();
            prop_assert_eq!(Origin::decode(&bytes).unwrap(), origin);
            prop_assert!(Origin::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_an_origin_or_an_error(bytes: Vec<u8>) {
            let _ = Origin::decode(&bytes);
        }
    }

    #[test]
    fn hosts_are_told_apart_by_name_and_identity() {
        let same = |a: (&str, _), b: (&str, _)| origin(a.0, a.1).same_host(&origin(b.0, b.1));
        assert!(same(("db1", Some([1; 16])), ("db1", Some([1; 16]))));
        assert!(same(("db1", None), ("db1", Some([1; 16]))));
        assert!(!same(("db1", Some([2; 16])), ("db1", Some([1; 16]))));
        // Two containers of one image have the same identity, so the identity proves nothing.
        assert!(!same(("db1", Some([1; 16])), ("db2", Some([1; 16]))));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let hex = |origin: Origin| origin.encode().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let paths = "022f6104 2f622f63".replace(' ', "");
        assert_eq!(hex(origin("db1", None)), format!("010000feffffffffffffff03646231{paths}"));
        let machine = "07".repeat(16);
        let with_machine = format!("010001feffffffffffffff{machine}03646231{paths}");
        assert_eq!(hex(origin("db1", Some([7; 16]))), with_machine);
    }
}
