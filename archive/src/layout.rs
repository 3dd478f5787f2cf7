//! The paths of the archive's objects in a repository.
//!
//! ```text
//! <source's folder>/timelines/<timeline>            a timeline's history
//! <source's folder>/epochs/<epoch>-claim            a writer's claim
//! <source's folder>/epochs/<epoch>-fence            the end of that writer's objects
//! <source's folder>/log/<timeline>/<epoch>/<from>-<to>
//! <source's folder>/pruned/<timeline>/<from>-<to>   a range that retention removed
//! <source's folder>/origins/<epoch>                 the place of the source from that epoch on
//! <source's folder>/restored/<mark>/<timeline>-<lsn>    a restored state
//! ```
//! Numbers are lower-case hexadecimal of a fixed width (timeline 8 digits, epoch and LSN 16). So
//! names sort like the numbers, and each value has one name. [`Layout::parse`] is strict: a name
//! that this module would not write is foreign. Foreign names are reported, never trusted.

use crate::names::{LogName, MARK_BYTES, Name, PrunedRange, RestoredName};
use pitr_format::{Epoch, Lsn, SourceName, TimelineId};

const TIMELINE_DIGITS: usize = 8;
const WIDE_DIGITS: usize = 16;

/// The paths of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    source: SourceName,
    folder: String,
}

impl Layout {
    /// The paths of this source; `folder` is its folder in the repository.
    #[must_use]
    pub fn new(source: SourceName, folder: String) -> Self {
        Layout { source, folder }
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// Folder of the timelines' histories.
    #[must_use]
    pub fn timelines(&self) -> String {
        format!("{}/timelines", self.folder)
    }

    /// Folder of claims and fences.
    #[must_use]
    pub fn epochs(&self) -> String {
        format!("{}/epochs", self.folder)
    }

    /// Folder of the log objects.
    #[must_use]
    pub fn logs(&self) -> String {
        format!("{}/log", self.folder)
    }

    /// Folder of the ranges that retention removed.
    #[must_use]
    pub fn pruned(&self) -> String {
        format!("{}/pruned", self.folder)
    }

    /// Folder of the source's origins.
    #[must_use]
    pub fn origins(&self) -> String {
        format!("{}/origins", self.folder)
    }

    /// Folder of the restored states with this mark.
    #[must_use]
    pub fn restored(&self, mark: &str) -> String {
        format!("{}/restored/{mark}", self.folder)
    }

    /// Path of an object.
    #[must_use]
    pub fn path(&self, name: &Name) -> String {
        match name {
            Name::Timeline(id) => format!("{}/{:08x}", self.timelines(), id.get()),
            Name::Claim(epoch) => format!("{}/{:016x}-claim", self.epochs(), epoch.get()),
            Name::Fence(epoch) => format!("{}/{:016x}-fence", self.epochs(), epoch.get()),
            Name::Log(log) => format!("{}/{log}", self.folder),
            Name::Pruned(range) => format!("{}/{range}", self.pruned()),
            Name::Origin(epoch) => format!("{}/{:016x}", self.origins(), epoch.get()),
            Name::Restored(state) => format!("{}/restored/{state}", self.folder),
        }
    }

    /// The object at `path`; `None` if [`Layout::path`] would not return this path.
    #[must_use]
    pub fn parse(&self, path: &str) -> Option<Name> {
        let rest = path.strip_prefix(&self.folder)?.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            ["timelines", id] => Some(Name::Timeline(timeline(id)?)),
            ["epochs", name] => {
                let (number, what) = name.split_once('-')?;
                let number = epoch(number)?;
                match what {
                    "claim" => Some(Name::Claim(number)),
                    "fence" => Some(Name::Fence(number)),
                    _ => None,
                }
            }
            ["log", tl, writer, range] => {
                let (from, to) = span(range)?;
                Some(Name::Log(LogName { timeline: timeline(tl)?, epoch: epoch(writer)?, from, to }))
            }
            ["pruned", tl, range] => {
                let (from, to) = span(range)?;
                Some(Name::Pruned(PrunedRange { timeline: timeline(tl)?, from, to }))
            }
            ["origins", name] => Some(Name::Origin(epoch(name)?)),
            ["restored", mark, at] => {
                let (on, at) = at.split_once('-')?;
                let (timeline, lsn) = (timeline(on)?, Lsn::new(hex(at, WIDE_DIGITS)?));
                Some(Name::Restored(RestoredName { mark: self::mark(mark)?, timeline, lsn }))
            }
            _ => None,
        }
    }
}

fn mark(text: &str) -> Option<[u8; MARK_BYTES]> {
    let (front, back) = text.split_at_checked(WIDE_DIGITS)?;
    let mut mark = [0; MARK_BYTES];
    let (first, last) = mark.split_at_mut(MARK_BYTES / 2);
    first.copy_from_slice(&hex(front, WIDE_DIGITS)?.to_be_bytes());
    last.copy_from_slice(&hex(back, WIDE_DIGITS)?.to_be_bytes());
    Some(mark)
}

fn span(text: &str) -> Option<(Lsn, Lsn)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (Lsn::new(hex(from, WIDE_DIGITS)?), Lsn::new(hex(to, WIDE_DIGITS)?));
    (from < to).then_some((from, to))
}

fn timeline(text: &str) -> Option<TimelineId> {
    let id = u32::try_from(hex(text, TIMELINE_DIGITS)?).ok()?;
    (id != 0).then_some(TimelineId::new(id))
}

fn epoch(text: &str) -> Option<Epoch> {
    let number = hex(text, WIDE_DIGITS)?;
    (number != 0).then_some(Epoch::new(number))
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(source: &str) -> Layout {
        Layout::new(SourceName::new(source).unwrap(), format!("sources/{source}"))
    }

    proptest! {
        #[test]
        fn names_come_back_and_sort_as_their_values(t in 1u32.., e in 1u64.., a: u64, b: u64, mark: [u8; MARK_BYTES]) {
            prop_assume!(a != b);
            let layout = layout("app");
            let (from, to) = (Lsn::new(a.min(b)), Lsn::new(a.max(b)));
            let log = LogName { timeline: TimelineId::new(t), epoch: Epoch::new(e), from, to };
            let pruned = PrunedRange { timeline: log.timeline, from, to };
            let restored = RestoredName { mark, timeline: log.timeline, lsn: from };
            let names = [Name::Origin(log.epoch), Name::Restored(restored), Name::Log(log), Name::Pruned(pruned), Name::Claim(Epoch::new(e)), Name::Fence(Epoch::new(e)), Name::Timeline(TimelineId::new(t))];
            for name in names {
                prop_assert_eq!(layout.parse(&layout.path(&name)), Some(name));
            }
        }

        #[test]
        fn any_text_is_a_name_or_foreign(text in "\\PC{0,80}") {
            let layout = layout("app");
            let path = format!("sources/app/{text}");
            if let Some(name) = layout.parse(&path) {
                prop_assert_eq!(layout.path(&name), path);
            }
        }
    }

    #[test]
    fn foreign_names_are_not_read() {
        let layout = layout("app");
        let log = "sources/app/log/00000001/0000000000000001/0000000000000000-0000000000001000";
        assert!(layout.parse(log).is_some());
        for foreign in [
            log.to_uppercase().as_str(),
            // FAILURES 28: a sibling with the same prefix
            &log.replace("sources/app", "sources/app2"),
            &log.replace("00000001/", "1/"),
            &log.replace("00000001/0", "00000000/0"),
            &format!("{log}.tmp"),
            &log.replace("0000000000001000", "0000000000000000"),
            "sources/app/epochs/0000000000000001-other",
            "sources/app/epochs/0000000000000000-claim",
            "sources/app/log",
            "sources/app/timelines/../00000001",
        ] {
            assert_eq!(layout.parse(foreign), None, "{foreign}");
        }
    }
}
