//! The objects of one source.

use super::digits::{Hex, NARROW, WIDE, bytes, number};
use super::folder::{LOG, MERGED, SOURCES};
use pitr_codec::ObjectKind;
use pitr_format::{Epoch, Lsn, SourceName, TimelineId};
use std::fmt;

/// Bytes of the mark of a restored state or a recovery point.
pub const MARK_BYTES: usize = 16;

/// The folder of a source. [`Objects::source_folder`](crate::Objects::source_folder) makes one: in
/// an encrypted repository its name is a hash, for which the keys are needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFolder(String);

impl SourceFolder {
    /// The folder with the source's name.
    pub(crate) fn in_clear(source: &SourceName) -> Self {
        SourceFolder(source.as_str().to_owned())
    }

    /// The folder with a keyed hash of the source's name.
    pub(crate) fn hidden(hash: &[u8; 16]) -> Self {
        SourceFolder(Hex(hash).to_string())
    }

    /// The name of the source, if the folder's name is the source's name. A hash can't be told from
    /// a name.
    pub(crate) fn name(&self) -> Option<SourceName> {
        SourceName::new(&self.0).ok()
    }

    pub(super) fn parse(segment: &str) -> Option<Self> {
        SourceName::new(segment).ok().map(|name| SourceFolder::in_clear(&name))
    }

    /// Path of an object of the source.
    #[must_use]
    pub fn path(&self, object: &SourceObject) -> String {
        format!("{self}/{object}")
    }

    /// The object of this source at `path`. `None` if [`path`](Self::path) never returns this path.
    #[must_use]
    pub fn object_at(&self, path: &str) -> Option<SourceObject> {
        let (folder, object) = split(path)?;
        (folder == self.0).then(|| SourceObject::parse(object)).flatten()
    }

    /// Folder of the timelines' histories.
    #[must_use]
    pub fn timelines(&self) -> String {
        format!("{self}/timelines")
    }

    /// Folder of claims and fences.
    #[must_use]
    pub fn epochs(&self) -> String {
        format!("{self}/epochs")
    }

    /// Folders of the log objects: those that were shipped, and those that were merged. To be
    /// listed in this order: what a merged object replaces is deleted after it was put.
    #[must_use]
    pub fn logs(&self) -> [String; 2] {
        [LOG, MERGED].map(|folder| format!("{self}/{folder}"))
    }

    /// Folders of the log objects of one timeline by one writer, in the order of
    /// [`logs`](Self::logs).
    #[must_use]
    pub fn logs_of(&self, timeline: TimelineId, epoch: Epoch) -> [String; 2] {
        self.logs().map(|folder| format!("{folder}/{:08x}/{:016x}", timeline.get(), epoch.get()))
    }

    /// Folder of the ranges that retention deleted.
    #[must_use]
    pub fn pruned(&self) -> String {
        format!("{self}/pruned")
    }

    /// Folder of the source's origins.
    #[must_use]
    pub fn origins(&self) -> String {
        format!("{self}/origins")
    }

    /// Folder of the restored states with this mark.
    #[must_use]
    pub fn restored(&self, mark: &[u8; MARK_BYTES]) -> String {
        format!("{self}/restored/{}", Hex(mark))
    }

    /// Folder of the named recovery points.
    #[must_use]
    pub fn points(&self) -> String {
        format!("{self}/points")
    }

    /// Folder of the snapshots' roots.
    #[must_use]
    pub fn snapshots(&self) -> String {
        format!("{self}/snapshots")
    }
}

impl fmt::Display for SourceFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SOURCES}/{}", self.0)
    }
}

/// Splits the path of a source's object: the segment that is the source's folder, and the rest.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(SOURCES)?.strip_prefix('/')?.split_once('/')
}

/// An object of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceObject {
    /// The source's name, in an encrypted repository.
    Name,
    /// History of a timeline.
    Timeline(TimelineId),
    /// Claim of a writer.
    Claim(Epoch),
    /// Fence of a writer.
    Fence(Epoch),
    /// A range of the log.
    Log(LogName),
    /// A range of the log that retention deleted.
    Pruned(PrunedRange),
    /// Host and path of the source.
    Origin(Epoch),
    /// A restored state.
    Restored(RestoredName),
    /// A named recovery point. The mark is derived from its name, and keyed in an encrypted
    /// repository.
    Point([u8; MARK_BYTES]),
    /// The root of a snapshot.
    Snapshot(RootName),
}

impl SourceObject {
    /// The kind of the object, for messages.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            SourceObject::Name => ObjectKind::Source,
            SourceObject::Timeline(_) => ObjectKind::Timeline,
            SourceObject::Claim(_) => ObjectKind::Claim,
            SourceObject::Fence(_) => ObjectKind::Fence,
            SourceObject::Log(_) => ObjectKind::Log,
            SourceObject::Pruned(_) => ObjectKind::Pruned,
            SourceObject::Origin(_) => ObjectKind::Origin,
            SourceObject::Restored(_) => ObjectKind::Restored,
            SourceObject::Point(_) => ObjectKind::Point,
            SourceObject::Snapshot(_) => ObjectKind::Manifest,
        }
    }

    /// True for a part of the source's history. Origins, restored states and recovery points alone
    /// do not make a source.
    pub(crate) const fn is_history(&self) -> bool {
        use SourceObject::{Name, Origin, Point, Restored};
        !matches!(self, Name | Origin(_) | Restored(_) | Point(_))
    }

    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        Some(match parts[..] {
            ["name"] => SourceObject::Name,
            ["timelines", id] => SourceObject::Timeline(timeline(id)?),
            ["epochs", name] => match name.split_once('-')? {
                (number, "claim") => SourceObject::Claim(epoch(number)?),
                (number, "fence") => SourceObject::Fence(epoch(number)?),
                _ => return None,
            },
            [folder @ (LOG | MERGED), of, writer, name] => {
                let (range, level) = level(name)?;
                if folder_of(level) != folder {
                    return None;
                }
                let (from, to) = span(range)?;
                SourceObject::Log(LogName { timeline: timeline(of)?, epoch: epoch(writer)?, from, to, level })
            }
            ["pruned", of, range] => {
                let (from, to) = span(range)?;
                SourceObject::Pruned(PrunedRange { timeline: timeline(of)?, from, to })
            }
            ["origins", number] => SourceObject::Origin(epoch(number)?),
            ["restored", mark, at] => {
                let (on, at) = at.split_once('-')?;
                let (mark, timeline, lsn) = (bytes(mark)?, timeline(on)?, lsn(at)?);
                SourceObject::Restored(RestoredName { mark, timeline, lsn })
            }
            ["points", mark] => SourceObject::Point(bytes(mark)?),
            ["snapshots", of, writer, at] => {
                let (at, id) = at.split_once('-')?;
                SourceObject::Snapshot(RootName {
                    // A snapshot without a log may name no timeline and no writer.
                    timeline: TimelineId::new(u32::try_from(number(of, NARROW)?).ok()?),
                    epoch: Epoch::new(number(writer, WIDE)?),
                    consistent_at: lsn(at)?,
                    id: bytes(id)?,
                })
            }
            _ => return None,
        })
    }
}

impl fmt::Display for SourceObject {
    /// The path below the source's folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceObject::Name => f.write_str("name"),
            SourceObject::Timeline(id) => write!(f, "timelines/{:08x}", id.get()),
            SourceObject::Claim(epoch) => write!(f, "epochs/{:016x}-claim", epoch.get()),
            SourceObject::Fence(epoch) => write!(f, "epochs/{:016x}-fence", epoch.get()),
            SourceObject::Log(log) => log.fmt(f),
            SourceObject::Pruned(PrunedRange { timeline, from, to }) => {
                write!(f, "pruned/{:08x}/{:016x}-{:016x}", timeline.get(), from.get(), to.get())
            }
            SourceObject::Origin(epoch) => write!(f, "origins/{:016x}", epoch.get()),
            SourceObject::Restored(RestoredName { mark, timeline, lsn }) => {
                write!(f, "restored/{}/{:08x}-{:016x}", Hex(mark), timeline.get(), lsn.get())
            }
            SourceObject::Point(mark) => write!(f, "points/{}", Hex(mark)),
            SourceObject::Snapshot(RootName { timeline, epoch, consistent_at, id }) => {
                let (timeline, epoch, at) = (timeline.get(), epoch.get(), consistent_at.get());
                write!(f, "snapshots/{timeline:08x}/{epoch:016x}/{at:016x}-{}", Hex(id))
            }
        }
    }
}

/// The name of a log object: the range of a timeline's log that it holds, and its writer.
///
/// Names sort by timeline, then position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName {
    /// Timeline that the range belongs to.
    pub timeline: TimelineId,
    /// Start of the range: where the previous range ends, unless there is a gap between the two.
    pub from: Lsn,
    /// End of the last batch of the range.
    pub to: Lsn,
    /// The writer.
    pub epoch: Epoch,
    /// 0 if the object was shipped from a log. Otherwise it was merged from objects of lower
    /// levels, which it replaces.
    pub level: u8,
}

impl LogName {
    /// The highest level.
    pub const LEVEL_MAX: u8 = 9;

    /// True if the range of the other object lies within that of this one.
    #[must_use]
    pub fn covers(&self, other: &LogName) -> bool {
        self.timeline == other.timeline && self.from <= other.from && other.to <= self.to
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogName { timeline, from, to, epoch, level } = self;
        let (folder, timeline, epoch) = (folder_of(*level), timeline.get(), epoch.get());
        write!(f, "{folder}/{timeline:08x}/{epoch:016x}/{:016x}-{:016x}", from.get(), to.get())?;
        if *level > 0 { write!(f, "-{level}") } else { Ok(()) }
    }
}

/// The folder of log objects of a level.
const fn folder_of(level: u8) -> &'static str {
    if level == 0 { LOG } else { MERGED }
}

/// A range of a timeline's log whose objects retention deleted, or is about to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrunedRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// Start of the first object.
    pub from: Lsn,
    /// End of the last object.
    pub to: Lsn,
}

impl PrunedRange {
    /// True if the object lies in the range.
    #[must_use]
    pub fn holds(&self, name: &LogName) -> bool {
        name.timeline == self.timeline && self.from <= name.from && name.to <= self.to
    }
}

/// The name of a restored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestoredName {
    /// Derived from the fingerprint; keyed in an encrypted repository.
    pub mark: [u8; MARK_BYTES],
    /// The timeline of the state.
    pub timeline: TimelineId,
    /// Position of the restored state.
    pub lsn: Lsn,
}

/// The name of a snapshot's root. Names sort by timeline, epoch and consistent point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootName {
    /// Timeline of the log that continues the snapshot.
    pub timeline: TimelineId,
    /// Epoch of the snapshot's writer.
    pub epoch: Epoch,
    /// LSN at which the snapshot's files are consistent.
    pub consistent_at: Lsn,
    /// The first bytes of the snapshot's id.
    pub id: [u8; 4],
}

fn span(text: &str) -> Option<(Lsn, Lsn)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (lsn(from)?, lsn(to)?);
    (from < to).then_some((from, to))
}

/// Splits the name of a log object: its range, and its level.
fn level(name: &str) -> Option<(&str, u8)> {
    let Some((range, level)) = name.split_at_checked(2 * WIDE + 1) else { return Some((name, 0)) };
    match level.as_bytes() {
        [] => Some((range, 0)),
        [b'-', level @ b'1'..=b'9'] => Some((range, level - b'0')),
        _ => None,
    }
}

fn timeline(text: &str) -> Option<TimelineId> {
    let id = u32::try_from(number(text, NARROW)?).ok()?;
    (id != 0).then_some(TimelineId::new(id))
}

fn epoch(text: &str) -> Option<Epoch> {
    let number = number(text, WIDE)?;
    (number != 0).then_some(Epoch::new(number))
}

fn lsn(text: &str) -> Option<Lsn> {
    number(text, WIDE).map(Lsn::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder(source: &str) -> SourceFolder {
        SourceFolder::parse(source).unwrap()
    }

    proptest! {
        #[test]
        fn names_come_back(
            (t, e, level) in (1u32.., 1u64.., 0..=LogName::LEVEL_MAX),
            a: u64,
            b: u64,
            mark: [u8; MARK_BYTES],
            id: [u8; 4],
        ) {
            prop_assume!(a != b);
            let folder = folder("app");
            let (from, to) = (Lsn::new(a.min(b)), Lsn::new(a.max(b)));
            let (timeline, epoch) = (TimelineId::new(t), Epoch::new(e));
            let names = [
                SourceObject::Name,
                SourceObject::Timeline(timeline),
                SourceObject::Claim(epoch),
                SourceObject::Fence(epoch),
                SourceObject::Log(LogName { timeline, epoch, from, to, level }),
                SourceObject::Pruned(PrunedRange { timeline, from, to }),
                SourceObject::Origin(epoch),
                SourceObject::Restored(RestoredName { mark, timeline, lsn: from }),
                SourceObject::Point(mark),
                SourceObject::Snapshot(RootName { timeline, epoch, consistent_at: to, id }),
            ];
            for name in names {
                prop_assert_eq!(folder.object_at(&folder.path(&name)), Some(name));
            }
        }

        #[test]
        fn log_and_roots_sort_as_their_positions(a: (u32, u64), b: (u32, u64)) {
            let path = |(timeline, at): (u32, u64)| {
                let (timeline, epoch, lsn) = (TimelineId::new(timeline), Epoch::new(7), Lsn::new(at));
                let root = RootName { timeline, epoch, consistent_at: lsn, id: [1; 4] };
                folder("app").path(&SourceObject::Snapshot(root))
            };
            prop_assert_eq!(path(a).cmp(&path(b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_a_name_or_foreign(text in "\\PC{0,80}") {
            let folder = folder("app");
            let path = format!("sources/app/{text}");
            if let Some(name) = folder.object_at(&path) {
                prop_assert_eq!(folder.path(&name), path);
            }
        }
    }

    #[test]
    fn foreign_names_are_not_read() {
        let folder = folder("app");
        let log = "sources/app/log/00000001/0000000000000001/0000000000000000-0000000000001000";
        let root = "sources/app/snapshots/00000001/0000000000000001/0000000000001000-0a1b2c3d";
        assert!(folder.object_at(log).is_some() && folder.object_at(root).is_some());
        let merged = format!("{}-1", log.replace("/log/", "/compacted/"));
        assert!(folder.object_at(&merged).is_some());
        for foreign in [
            log.to_uppercase().as_str(),
            // FAILURES 28: another folder whose name has the same beginning.
            &log.replace("sources/app", "sources/app2"),
            &log.replace("00000001/", "1/"),
            &log.replace("00000001/0", "00000000/0"),
            &format!("{log}.tmp"),
            &log.replace("0000000000001000", "0000000000000000"),
            &format!("{log}-1"),
            &log.replace("/log/", "/compacted/"),
            &merged.replace("-1", "-"),
            &merged.replace("-1", "-0"),
            &format!("{merged}0"),
            &merged.replace("-1", "-a"),
            "sources/app/epochs/0000000000000001-other",
            "sources/app/epochs/0000000000000000-claim",
            "sources/app/log",
            "sources/app/points/before-migration",
            "sources/app/points/AB000000000000000000000000000000",
            "sources/app/timelines/../00000001",
            &root.replace("0a1b2c3d", "0A1B2C3D"),
            &root.replace("-0a1b2c3d", ""),
            &root.replace("/00000001/", "/1/"),
        ] {
            assert_eq!(folder.object_at(foreign), None, "{foreign}");
        }
    }
}
