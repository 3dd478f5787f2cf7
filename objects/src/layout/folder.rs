//! Folders of the layout: which listings exist, and which folders may contain objects.

use super::digits::{Hex, NARROW, WIDE, number};
use pitr_format::SourceName;

/// Path of the object that makes a folder or a bucket a repository.
pub const REPOSITORY: &str = "repository";
/// Folder of the packs.
pub const PACKS: &str = "packs";
/// Folder of the index objects.
pub const INDEX: &str = "index";
/// Folder of the sources' folders.
pub const SOURCES: &str = "sources";
/// Folder of a source's log objects that were shipped.
pub(super) const LOG: &str = "log";
/// Folder of a source's log objects that were merged from others. A listing has it before
/// [`LOG`].
pub(super) const MERGED: &str = "compacted";
/// Folder of the leases.
pub const LEASES: &str = "leases";
/// Folder of the condemnations.
pub const CONDEMNED: &str = "condemned";
/// Folder of the measured rates of restores.
pub const RATES: &str = "rates";
/// Folder of the history of verifications.
pub const VERIFICATIONS: &str = "verifications";
/// Folder of damaged objects that a repair has moved away. No reader opens them.
pub const QUARANTINE: &str = "quarantine";
/// Folder of the probes of create-only puts.
pub const PROBES: &str = "probes";
/// Folder of the keys.
pub(super) const KEYS: &str = "keys";
pub(super) const SLOTS: &str = "slots";
pub(super) const RINGS: &str = "rings";

/// Folder of the key slots of a repository.
#[must_use]
pub fn slots(repository: &[u8; 16]) -> String {
    format!("{KEYS}/{}/{SLOTS}", Hex(repository))
}

/// Folder of the key rings of a repository.
#[must_use]
pub fn rings(repository: &[u8; 16]) -> String {
    format!("{KEYS}/{}/{RINGS}", Hex(repository))
}

/// True if the layout has a folder at this path whose content must not be missed. The folders of a
/// source's origins and restored states do not count: a repository works without them.
pub(crate) fn may_hold_objects(path: &str) -> bool {
    let is_source = |name: &str| SourceName::new(name).is_ok();
    let is_timeline = |text: &str| number(text, NARROW).is_some();
    let is_epoch = |text: &str| number(text, WIDE).is_some();
    let is_repository = |text: &str| super::digits::bytes::<16>(text).is_some();
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["" | PACKS | INDEX | SOURCES | KEYS | CONDEMNED | LEASES | RATES | VERIFICATIONS | PROBES] => true,
        [PACKS, front] => number(front, 2).is_some(),
        [KEYS, repository] | [KEYS, repository, SLOTS | RINGS] => is_repository(repository),
        [SOURCES, name]
        | [SOURCES, name, LOG | MERGED | "epochs" | "timelines" | "snapshots" | "pruned" | "points"] => {
            is_source(name)
        }
        [SOURCES, name, LOG | MERGED | "snapshots" | "pruned", timeline] => {
            is_source(name) && is_timeline(timeline)
        }
        [SOURCES, name, LOG | MERGED | "snapshots", timeline, epoch] => {
            is_source(name) && is_timeline(timeline) && is_epoch(epoch)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_layout_are_told_from_others() {
        for path in [
            "packs",
            "packs/0f",
            "sources/db/log/00000001/0000000000000001",
            "sources/db/compacted/00000001/0000000000000001",
            "sources/db/points",
            "sources/db",
        ] {
            assert!(may_hold_objects(path), "{path}");
        }
        for path in ["lost+found", "packs/lost+found", "sources/lost+found", "sources/db/x", "home"] {
            assert!(!may_hold_objects(path), "{path}");
        }
        let repository = [0xab; 16];
        assert!(may_hold_objects(&slots(&repository)) && may_hold_objects(&rings(&repository)));
    }
}
