//! Answer of `pitr backup`.

use std::fmt::Write as _;

use pitr::engine::RangesUse;
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
    /// Paths left out: neither file, folder nor link, or the repository itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<String>,
    /// Files left out: they were deleted or replaced before they were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vanished: Vec<String>,
    /// Files that were written to during the backup. Their content in the snapshot may mix two
    /// states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<String>,
    /// Files that were truncated during the backup. The missing part is zeros in the snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cut: Vec<String>,
    /// How the given changed ranges were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed_ranges: Option<ChangedRanges>,
}

/// How changed ranges were used.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedRanges {
    /// The snapshot that the ranges start from belongs to the source. If false, no range was used.
    since_is_known: bool,
    /// Number of files of which only the listed ranges were read.
    files: usize,
    /// Number of listed files that are missing or were replaced.
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
            return "changed ranges NOT USED: this source has no snapshot that they start from; all files were compared"
                .to_owned();
        }
        let mut told = format!("files read by their changed ranges only: {}", self.files);
        if self.unmatched > 0 {
            // Writing to a String cannot fail.
            let _ = write!(told, "; listed, but missing or replaced: {}", self.unmatched);
        }
        told
    }
}

impl Document for Backup {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for (paths, what) in [
            (&self.skipped, "not in the snapshot: not a file, folder or link, or it is the repository"),
            (&self.vanished, "NOT IN THE SNAPSHOT: deleted or replaced before it was read"),
            (&self.changed, "WRITTEN TO during the backup; its content in the snapshot may mix two states"),
            (&self.cut, "TRUNCATED during the backup; the missing part is zeros in the snapshot"),
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
    fn the_use_of_changed_ranges_is_reported() {
        let told = |used| ChangedRanges::of(used).map(|ranges| ranges.for_people());
        assert_eq!(told(RangesUse::NotGiven), None);
        assert!(told(RangesUse::Elsewhere).unwrap().contains("NOT USED"));
        let used = |unmatched| told(RangesUse::Used { files: 3, unmatched }).unwrap();
        assert_eq!(used(0), "files read by their changed ranges only: 3");
        assert!(used(2).ends_with("missing or replaced: 2"));
    }
}
