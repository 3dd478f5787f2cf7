//! Answer of `pitr backup`.

use std::fmt::Write as _;

use pitr::directory::RangesUse;
use serde::Serialize;

use crate::output::values::SnapshotKind;
use crate::output::{Document, human};

/// Answer of `backup`. Sizes in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Backup {
    pub(crate) snapshot_id: String,
    pub(crate) kind: SnapshotKind,
    pub(crate) lsn: u64,
    pub(crate) logical_bytes: u64,
    pub(crate) changed_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) seconds: f64,
    /// What a folder holds and the snapshot does not: neither file, folder nor link, or the repository itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<String>,
    /// Files that vanished or were replaced before they were read: the snapshot does not have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vanished: Vec<String>,
    /// Files that were written to meanwhile: what the snapshot has of them may be of two moments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<String>,
    /// Files that became shorter meanwhile: the rest of them is zeros in the snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cut: Vec<String>,
    /// What became of the changed ranges that were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed_ranges: Option<ChangedRanges>,
}

/// What became of changed ranges.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedRanges {
    /// The snapshot that they begin at is one of the source's. If not, none were used.
    since_is_known: bool,
    /// Files of which nothing else was read.
    files: usize,
    /// Files that they name and that are not there, or not the ones that they were.
    unmatched: usize,
}

impl ChangedRanges {
    pub(crate) fn of(used: RangesUse) -> Option<Self> {
        let (since_is_known, files, unmatched) = match used {
            RangesUse::NotGiven => return None,
            RangesUse::Elsewhere => (false, 0, 0),
            RangesUse::Used { files, unmatched } => (true, files, unmatched),
        };
        Some(ChangedRanges { since_is_known, files, unmatched })
    }

    fn for_people(&self) -> String {
        if !self.since_is_known {
            return "the changed ranges begin at a snapshot that this source doesn't have: NOT USED, all files were looked at"
                .to_owned();
        }
        let mut told = format!("files of which only the changed ranges were read: {}", self.files);
        if self.unmatched > 0 {
            // Writing to a String cannot fail.
            let _ = write!(told, "; named, but not there or not the file that it was: {}", self.unmatched);
        }
        told
    }
}

impl Document for Backup {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for (paths, what) in [
            (&self.skipped, "not in the snapshot: no file, folder or link, or the repository itself"),
            (&self.vanished, "NOT IN THE SNAPSHOT: it vanished or was replaced before it was read"),
            (&self.changed, "WRITTEN TO while it was read; the snapshot may have it of two moments"),
            (&self.cut, "BECAME SHORTER while it was read; the rest of it is zeros in the snapshot"),
        ] {
            for path in paths {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{path}: {what}");
            }
        }
        if let Some(ranges) = &self.changed_ranges {
            let _ = writeln!(out, "{}", ranges.for_people());
        }
        let _ = writeln!(
            out,
            "{} snapshot {} at lsn {}: {} logical, {} changed, {} stored, in {}",
            self.kind,
            self.snapshot_id,
            self.lsn,
            human::bytes(self.logical_bytes),
            human::bytes(self.changed_bytes),
            human::bytes(self.stored_bytes),
            human::seconds(self.seconds)
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn keys(document: &impl Serialize) -> Vec<String> {
        let Value::Object(map) = serde_json::to_value(document).unwrap() else { panic!("not an object") };
        map.keys().cloned().collect()
    }

    #[test]
    fn backup_has_its_keys() {
        let backup = Backup {
            snapshot_id: "5f".into(),
            kind: SnapshotKind::Incremental,
            lsn: 7,
            logical_bytes: 1,
            changed_bytes: 2,
            stored_bytes: 3,
            seconds: 0.5,
            skipped: vec![],
            vanished: vec![],
            changed: vec![],
            cut: vec![],
            changed_ranges: None,
        };
        let expected = "changed_bytes kind logical_bytes lsn seconds snapshot_id stored_bytes";
        assert_eq!(keys(&backup).join(" "), expected);
        assert_eq!(serde_json::to_value(&backup).unwrap()["kind"], "incremental");
    }

    #[test]
    fn what_became_of_changed_ranges_is_told() {
        let told = |used| ChangedRanges::of(used).map(|ranges| ranges.for_people());
        assert_eq!(told(RangesUse::NotGiven), None);
        assert!(told(RangesUse::Elsewhere).unwrap().contains("NOT USED"));
        let used = |unmatched| told(RangesUse::Used { files: 3, unmatched }).unwrap();
        assert_eq!(used(0), "files of which only the changed ranges were read: 3");
        assert!(used(2).ends_with("or not the file that it was: 2"));
    }
}
