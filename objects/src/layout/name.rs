//! The name of any object of a repository.

use super::digits::{Hex, WIDE, bytes, number};
use super::folder::{
    CONDEMNED, INDEX, KEYS, LEASES, PACKS, PROBES, RATES, REPOSITORY, RINGS, SLOTS, VERIFICATIONS, rings,
    slots,
};
use super::{ShortId, SourceFolder, SourceObject, source};
use pitr_codec::{Digest, ObjectKind};
use std::fmt;

/// The name of an object. [`Display`](fmt::Display) writes its path within the repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// What makes a folder or a bucket a repository.
    Repository,
    /// The wrapped master key.
    KeySlot {
        /// The repository that the slot opens.
        repository: [u8; 16],
        /// The slot.
        slot: ShortId,
    },
    /// The data keys; the highest number counts.
    KeyRing {
        /// The repository that the keys belong to.
        repository: [u8; 16],
        /// Number of the ring.
        number: u64,
    },
    /// A lease.
    Lease {
        /// Identity of the lease.
        id: ShortId,
        /// Higher with each renewal.
        counter: u64,
    },
    /// Paths of a condemnation.
    CondemnedObjects(ShortId),
    /// Leases of a condemnation.
    CondemnedLeases(ShortId),
    /// A pack of chunks, named by the digest of the object.
    Pack(Digest),
    /// An index of packs, named by the digest of the object.
    PackIndex(Digest),
    /// The measured rates of a restore. The highest number is the newest.
    Rates(u64),
    /// The history of verifications. The highest number is the newest.
    Verifications(u64),
    /// Tests whether the store enforces create-only puts.
    Probe(ShortId),
    /// An object of a source.
    Source(SourceFolder, SourceObject),
}

impl ObjectName {
    /// True for an object with the content of files or of a log. All others are metadata, which
    /// each command reads.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        matches!(self, ObjectName::Pack(_) | ObjectName::Source(_, SourceObject::Log(_)))
    }

    /// The object at `path`. `None` if [`path`](Self::path) never returns this path.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if let Some((folder, object)) = source::split(path) {
            return Some(ObjectName::Source(SourceFolder::parse(folder)?, SourceObject::parse(object)?));
        }
        let parts: Vec<&str> = path.split('/').collect();
        Some(match parts[..] {
            [REPOSITORY] => ObjectName::Repository,
            [KEYS, repository, SLOTS, slot] => {
                ObjectName::KeySlot { repository: bytes(repository)?, slot: ShortId::parse(slot)? }
            }
            [KEYS, repository, RINGS, ring] => {
                ObjectName::KeyRing { repository: bytes(repository)?, number: number(ring, WIDE)? }
            }
            [LEASES, name] => {
                let (id, counter) = name.split_once('-')?;
                ObjectName::Lease { id: ShortId::parse(id)?, counter: number(counter, WIDE)? }
            }
            [CONDEMNED, name] => match name.split_once('-')? {
                (id, "objects") => ObjectName::CondemnedObjects(ShortId::parse(id)?),
                (id, "leases") => ObjectName::CondemnedLeases(ShortId::parse(id)?),
                _ => return None,
            },
            [PACKS, front, digest] if digest.get(..2) == Some(front) => ObjectName::Pack(bytes(digest)?),
            [INDEX, digest] => ObjectName::PackIndex(bytes(digest)?),
            [PROBES, id] => ObjectName::Probe(ShortId::parse(id)?),
            [RATES, name] => ObjectName::Rates(number(name, WIDE)?),
            [VERIFICATIONS, name] => ObjectName::Verifications(number(name, WIDE)?),
            _ => return None,
        })
    }

    /// Path of the object within the repository.
    #[must_use]
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// The kind of the object, for messages.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            ObjectName::Repository => ObjectKind::Repository,
            ObjectName::KeySlot { .. } => ObjectKind::KeySlot,
            ObjectName::KeyRing { .. } => ObjectKind::KeyRing,
            ObjectName::Lease { .. } => ObjectKind::Lease,
            ObjectName::CondemnedObjects(_) | ObjectName::CondemnedLeases(_) => ObjectKind::Condemned,
            ObjectName::Pack(_) => ObjectKind::Pack,
            ObjectName::PackIndex(_) => ObjectKind::PackIndex,
            ObjectName::Rates(_) => ObjectKind::Rates,
            ObjectName::Verifications(_) => ObjectKind::Verifications,
            ObjectName::Probe(_) => ObjectKind::Probe,
            ObjectName::Source(_, object) => object.kind(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectName::Repository => f.write_str(REPOSITORY),
            ObjectName::KeySlot { repository, slot } => write!(f, "{}/{slot}", slots(repository)),
            ObjectName::KeyRing { repository, number } => write!(f, "{}/{number:016x}", rings(repository)),
            ObjectName::Lease { id, counter } => write!(f, "{LEASES}/{id}-{counter:016x}"),
            ObjectName::CondemnedObjects(id) => write!(f, "{CONDEMNED}/{id}-objects"),
            ObjectName::CondemnedLeases(id) => write!(f, "{CONDEMNED}/{id}-leases"),
            ObjectName::Pack(digest) => write!(f, "{PACKS}/{:02x}/{}", digest[0], Hex(digest)),
            ObjectName::PackIndex(digest) => write!(f, "{INDEX}/{}", Hex(digest)),
            ObjectName::Rates(number) => write!(f, "{RATES}/{number:016x}"),
            ObjectName::Verifications(number) => write!(f, "{VERIFICATIONS}/{number:016x}"),
            ObjectName::Probe(id) => write!(f, "{PROBES}/{id}"),
            ObjectName::Source(folder, object) => write!(f, "{folder}/{object}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::may_hold_objects;
    use pitr_format::TimelineId;
    use proptest::prelude::*;

    fn names(digest: [u8; 32], repository: [u8; 16], short: [u8; 8], number: u64) -> [ObjectName; 12] {
        let id = ShortId::from_bytes(short);
        let folder = SourceFolder::parse("app").unwrap();
        [
            ObjectName::Repository,
            ObjectName::KeySlot { repository, slot: id },
            ObjectName::KeyRing { repository, number },
            ObjectName::Lease { id, counter: number },
            ObjectName::CondemnedObjects(id),
            ObjectName::CondemnedLeases(id),
            ObjectName::Pack(digest),
            ObjectName::PackIndex(digest),
            ObjectName::Rates(number),
            ObjectName::Verifications(number),
            ObjectName::Probe(id),
            ObjectName::Source(folder, SourceObject::Timeline(TimelineId::FIRST)),
        ]
    }

    proptest! {
        #[test]
        fn names_come_back(digest: [u8; 32], repository: [u8; 16], short: [u8; 8], number: u64) {
            for name in names(digest, repository, short, number) {
                let path = name.path();
                prop_assert_eq!(ObjectName::parse(&path), Some(name));
                let above = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                prop_assert!(may_hold_objects(above), "{}", above);
                prop_assert!(crate::store::exact_path(&path).is_ok());
            }
        }

        #[test]
        fn any_text_is_a_name_or_foreign(path in "(packs|index|leases|condemned|keys|rates|verifications|probes|sources|x)/\\PC{0,80}") {
            if let Some(name) = ObjectName::parse(&path) {
                prop_assert_eq!(name.path(), path);
            }
        }
    }

    #[test]
    fn paths_of_version_1_stay_as_they_are() {
        // docs/design.md; a change of this is a change of the format.
        let paths = names([0xab; 32], [0xcd; 16], [0, 0, 0, 0, 0, 0, 1, 0xef], 0x2a).map(|name| name.path());
        let (hash, repository) = ("ab".repeat(32), "cd".repeat(16));
        let expected = [
            "repository",
            &format!("keys/{repository}/slots/00000000000001ef"),
            &format!("keys/{repository}/rings/000000000000002a"),
            "leases/00000000000001ef-000000000000002a",
            "condemned/00000000000001ef-objects",
            "condemned/00000000000001ef-leases",
            &format!("packs/ab/{hash}"),
            &format!("index/{hash}"),
            "rates/000000000000002a",
            "verifications/000000000000002a",
            "probes/00000000000001ef",
            "sources/app/timelines/00000001",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn foreign_names_are_not_read() {
        let hash = "ab".repeat(32);
        for foreign in [
            "",
            "packs",
            ".DS_Store",
            "repository/x",
            &format!("packs/ac/{hash}"),
            &format!("packs/{hash}"),
            &format!("packs/ab/{}", &hash[2..]),
            &format!("packs/AB/{}", hash.to_uppercase()),
            &format!("index/{hash}.tmp"),
            "leases/00000000000001ef-2a",
            "leases/00000000000001EF-000000000000002a",
            "condemned/00000000000001ef-other",
            "condemned/00000000000001ef",
            "keys/cd/slots/00000000000001ef",
            "rates/2a",
            "verifications/2a",
            "probes/2a",
            "probes",
            "sources/.app/name",
            "sources/app",
        ] {
            assert_eq!(ObjectName::parse(foreign), None, "{foreign}");
        }
    }
}
