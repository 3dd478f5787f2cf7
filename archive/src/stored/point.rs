//! Named recovery points: states that retention keeps until somebody deletes the point.
//!
//! A point is one create-only object of a source. The mark in its path is derived from the point's
//! name, so each name has one path, and the second creation of a name fails. The object repeats the
//! name: an object at another name's path is refused. `docs/format/point.md` has the bytes.

use super::{CommitPoint, state};
use crate::archive::Archive;
use crate::error::{Error, Result};
use pitr_format::bytes::{DecodeError, Put, Reader};
use pitr_format::{Lsn, TimelineId, Timestamp, TxId};
use pitr_objects::ErrorKind;
use pitr_objects::layout::{MARK_BYTES, SourceObject};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error as ThisError;

const VERSION: u16 = 1;
const WHAT: &str = "recovery point";
const CHARS_MAX: usize = 100;
/// Maximum length of a name, bytes: a character has at most 4.
const NAME_BYTES_MAX: usize = 4 * CHARS_MAX;

/// The name of a recovery point: 1 to 100 characters of any script, without control characters and
/// line breaks, and without white space at its ends. Names are equal if their bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointName(String);

/// A text that can't be the name of a recovery point.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error(
    "{0:?} cannot name a recovery point: give 1 to 100 characters, without control characters, and without spaces at the ends"
)]
pub struct PointNameError(pub String);

impl PointName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`PointNameError`].
    pub fn new(name: impl Into<String>) -> Result<Self, PointNameError> {
        let name = name.into();
        let is_bad = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        let fits = (1..=CHARS_MAX).contains(&name.chars().count());
        match fits && name.trim() == name && !name.contains(is_bad) {
            true => Ok(PointName(name)),
            false => Err(PointNameError(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for PointName {
    type Err = PointNameError;

    fn from_str(name: &str) -> Result<Self, PointNameError> {
        PointName::new(name)
    }
}

/// A named recovery point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPoint {
    /// The name.
    pub name: PointName,
    /// The timeline of the state.
    pub timeline: TimelineId,
    /// LSN of the state's last commit. Of a snapshot's own state, the LSN at which the snapshot is
    /// consistent.
    pub lsn: Lsn,
    /// The state's last transaction.
    pub tx: TxId,
    /// Time of that transaction.
    pub time: Timestamp,
    /// Time of the point's creation.
    pub created: Timestamp,
    /// A text for people, at most [`NOTE_BYTES_MAX`](Self::NOTE_BYTES_MAX) bytes.
    pub note: String,
}

impl NamedPoint {
    /// Maximum length of a note, bytes.
    pub const NOTE_BYTES_MAX: usize = 1024;

    /// The bytes of the object's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Self { tx, lsn, time, .. } = *self;
        state::put(&mut out, VERSION, self.timeline, CommitPoint { tx, lsn, time });
        out.put_i64(self.created.micros());
        out.put_blob(self.name.as_str().as_bytes());
        out.put_blob(self.note.as_bytes());
        out
    }

    /// Reads the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (timeline, CommitPoint { tx, lsn, time }) = state::read(&mut r, VERSION, WHAT)?;
        let created = Timestamp::from_micros(r.i64(WHAT)?);
        let name = r.text(NAME_BYTES_MAX, "name of a recovery point")?;
        let value = name.len() as u64;
        let bad = |_| DecodeError::Range { what: "name of a recovery point", value };
        let name = PointName::new(name).map_err(bad)?;
        let note = r.text(Self::NOTE_BYTES_MAX, "note of a recovery point")?.to_owned();
        r.finish(WHAT)?;
        Ok(NamedPoint { name, timeline, lsn, tx, time, created, note })
    }
}

/// The recovery points of a source.
#[derive(Debug, Default)]
pub struct Points {
    /// The readable points, sorted by name.
    pub points: Vec<NamedPoint>,
    /// The path of each unreadable point, and its fault.
    pub damaged: Vec<(String, Error)>,
}

impl Archive {
    /// The recovery points of the source.
    ///
    /// # Errors
    /// [`Error::Objects`]. A damaged point is in the result.
    pub fn points(&self) -> Result<Points> {
        let mut found = Points::default();
        for entry in self.objects().list(&self.folder().points())? {
            let Some(SourceObject::Point(mark)) = self.folder().object_at(&entry.path) else { continue };
            match self.point_at(mark) {
                Ok(Some(point)) => found.points.push(point),
                Ok(None) => {} // deleted since the listing
                Err(Error::Objects(error)) if !error.kind().is_of_one_object() => return Err(error.into()),
                Err(error) => found.damaged.push((entry.path, error)),
            }
        }
        found.points.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The point of this name; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Objects`], [`Error::Payload`].
    pub fn named_point(&self, name: &PointName) -> Result<Option<NamedPoint>> {
        self.point_at(self.point_mark(name))
    }

    /// Creates a point. False if the name is in use; then nothing is changed.
    ///
    /// The state must be restorable, and a running prune must not have missed the point: see
    /// `create_point` in `pitr-recovery`, which checks both.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn put_point(&self, point: &NamedPoint) -> Result<bool> {
        self.create(&SourceObject::Point(self.point_mark(&point.name)), &point.encode())
    }

    /// Deletes the point of this name, also a damaged one. False if there is none.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn delete_point(&self, name: &PointName) -> Result<bool> {
        let path = self.point_path(name);
        let is_there = self.objects().exists(&path)?;
        if is_there {
            self.objects().delete(&path)?;
        }
        Ok(is_there)
    }

    /// Path of the point of this name.
    #[must_use]
    pub fn point_path(&self, name: &PointName) -> String {
        self.folder().path(&SourceObject::Point(self.point_mark(name)))
    }

    fn point_at(&self, mark: [u8; MARK_BYTES]) -> Result<Option<NamedPoint>> {
        let object = SourceObject::Point(mark);
        let point = match self.read(&object, NamedPoint::decode) {
            Err(Error::Objects(error)) if error.kind() == ErrorKind::Missing => return Ok(None),
            other => other?,
        };
        if self.point_mark(&point.name) != mark {
            let value = point.name.as_str().len() as u64;
            let source = DecodeError::Range { what: "name of a recovery point, by its path", value };
            return Err(Error::Payload { path: self.folder().path(&object), source });
        }
        Ok(Some(point))
    }

    fn point_mark(&self, name: &PointName) -> [u8; MARK_BYTES] {
        let digest = Sha256::digest(name.as_str()).into();
        let keyed = self.objects().keys().map_or(digest, |keys| keys.point_mark(&digest));
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&keyed[..MARK_BYTES]);
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_codec::{RawKey, Secret};
    use pitr_format::SourceName;
    use pitr_objects::Objects;
    use proptest::prelude::*;

    fn name(name: &str) -> PointName {
        PointName::new(name).unwrap()
    }

    fn point(text: &str) -> NamedPoint {
        NamedPoint {
            name: name(text),
            timeline: TimelineId::new(3),
            lsn: Lsn::new(258),
            tx: TxId::new(4),
            time: Timestamp::from_micros(-2),
            created: Timestamp::from_micros(5),
            note: "vor".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn points_come_back(
            t: u32, lsn: u64, tx: u64, time: i64, created: i64, text in "[^\\pC\\s]{1,100}", note in "\\PC{0,200}",
        ) {
            let point = NamedPoint {
                name: name(&text), timeline: TimelineId::new(t), lsn: Lsn::new(lsn), tx: TxId::new(tx),
                time: Timestamp::from_micros(time), created: Timestamp::from_micros(created), note,
            };
            let bytes = point.encode();
            prop_assert_eq!(NamedPoint::decode(&bytes).unwrap(), point);
            prop_assert!(NamedPoint::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_a_point_or_an_error(bytes: Vec<u8>, tail in prop::collection::vec(any::<u8>(), 0..80)) {
            for bytes in [bytes, [&point("x").encode()[..38], &tail].concat()] {
                if let Ok(point) = NamedPoint::decode(&bytes) {
                    prop_assert_eq!(NamedPoint::decode(&point.encode()), Ok(point));
                }
            }
        }
    }

    #[test]
    fn names_have_up_to_100_characters_of_any_script() {
        for good in ["a", "before migration 7", "vor-der-Umstellung", "移行前", "до/после", &"é".repeat(100)]
        {
            assert_eq!(PointName::new(good).unwrap().as_str(), good);
        }
        let long = "é".repeat(101);
        for bad in ["", " a", "a ", "\u{3000}a", "a\nb", "a\u{85}b", "a\u{2028}b", "\u{7f}", "a\0", &long] {
            assert_eq!(PointName::new(bad), Err(PointNameError(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let digits: String = point("é").encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let fixed = "0100 03000000 0201000000000000 0400000000000000 feffffffffffffff 0500000000000000";
        assert_eq!(digits, format!("{}02c3a903766f72", fixed.replace(' ', "")));
    }

    #[test]
    fn a_name_is_used_once_and_again_after_its_deletion() {
        let plain = Objects::memory().unwrap();
        plain.init_repository(Timestamp::MIN).unwrap();
        let hidden = Objects::memory().unwrap();
        hidden.init_encrypted(Timestamp::MIN, &RawKey(Secret::new([7; 32]))).unwrap();
        let mut paths = Vec::new();
        for objects in [plain, hidden] {
            let archive = Archive::new(objects, SourceName::new("app").unwrap());
            let (first, other) = (point("é"), NamedPoint { note: String::new(), ..point("é") });
            // The same letter of two characters is another name.
            let lookalike = point("e\u{301}");
            assert!(archive.put_point(&first).unwrap() && !archive.put_point(&other).unwrap());
            assert!(archive.put_point(&lookalike).unwrap());
            assert_eq!(archive.named_point(&first.name).unwrap(), Some(first.clone()));
            assert_eq!(archive.points().unwrap().points, [lookalike.clone(), first.clone()]);
            assert!(
                archive.delete_point(&first.name).unwrap() && !archive.delete_point(&first.name).unwrap()
            );
            assert_eq!(archive.named_point(&first.name).unwrap(), None);
            assert!(archive.put_point(&other).unwrap());
            paths.push(archive.point_path(&first.name));
        }
        assert_eq!(paths[0], "sources/app/points/4a99557e4033c3539de2eb65472017ca");
        assert!(!paths[1].ends_with(&paths[0][paths[0].len() - 32..]), "{paths:?}");
    }

    #[test]
    fn a_point_at_the_path_of_another_name_is_refused() {
        let objects = Objects::memory().unwrap();
        objects.init_repository(Timestamp::MIN).unwrap();
        let archive = Archive::new(objects, SourceName::new("app").unwrap());
        let mark = archive.point_mark(&name("other"));
        assert!(archive.create(&SourceObject::Point(mark), &point("one").encode()).unwrap());
        assert!(matches!(archive.named_point(&name("other")), Err(Error::Payload { .. })));
        let found = archive.points().unwrap();
        assert!(found.points.is_empty());
        assert_eq!(found.damaged[0].0, archive.point_path(&name("other")));
        assert!(archive.delete_point(&name("other")).unwrap());
    }
}
