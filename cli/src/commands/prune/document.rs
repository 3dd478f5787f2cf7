//! Answer of `pitr prune`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Document;
use crate::output::human::{self, Align, Table};
use crate::output::values::{Position, Time};

/// What is deleted, what stays, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Prune {
    /// True if nothing was changed.
    pub(crate) dry_run: bool,
    pub(crate) sources: Vec<Source>,
    pub(crate) packs: Packs,
    /// Size of the repository before, bytes.
    pub(crate) stored_bytes: u64,
    /// Bytes deleted; in a dry run, bytes that would be deleted.
    pub(crate) freed_bytes: u64,
    /// Bytes that a later run deletes when the leases below have ended.
    pub(crate) condemned_bytes: u64,
    /// Leases of running backups, restores and other commands.
    pub(crate) waiting_for: Vec<String>,
    pub(crate) seconds: f64,
}

/// The effect on a source.
#[derive(Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) kept: Vec<Snapshot>,
    pub(crate) removed: Vec<Snapshot>,
    /// The named recovery points. Their states stay restorable.
    pub(crate) points: Vec<Point>,
    pub(crate) log_objects_removed: u64,
    pub(crate) log_bytes_removed: u64,
    /// Small log objects that were merged into large ones, and are not needed any more.
    pub(crate) merged_objects_removed: u64,
    pub(crate) merged_bytes_removed: u64,
}

/// A snapshot, and the rules that keep it.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    pub(crate) timeline: u32,
    pub(crate) lsn: u64,
    pub(crate) time: Time,
    pub(crate) created: Time,
    pub(crate) reasons: Vec<String>,
}

/// A recovery point, which keeps a snapshot and the log from there to the point.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) timeline: u32,
    #[serde(flatten)]
    pub(crate) at: Position,
    /// The snapshot that a restore of the point uses. Null if it uses the log from its origin.
    pub(crate) snapshot_id: Option<String>,
    /// Bytes of log that are kept only because of this point.
    pub(crate) held_log_bytes: u64,
    /// Size that the snapshot added to the repository, bytes, if it is kept only because of this
    /// point; 0 otherwise.
    pub(crate) held_snapshot_bytes: u64,
}

/// The effect on packs.
#[derive(Debug, Serialize)]
pub(crate) struct Packs {
    pub(crate) unneeded: u64,
    pub(crate) unneeded_bytes: u64,
    pub(crate) repacked: u64,
    /// Number of repacked packs that were small. The others had too much unreferenced data.
    pub(crate) repacked_small: u64,
    pub(crate) repacked_bytes: u64,
    pub(crate) waste_left_bytes: u64,
}

impl Point {
    /// What would go without the point.
    fn held(&self) -> String {
        let log = (self.held_log_bytes, "of log");
        let snapshot = (self.held_snapshot_bytes, "that its snapshot added");
        let held: Vec<String> = [log, snapshot]
            .into_iter()
            .filter(|(bytes, _)| *bytes > 0)
            .map(|(bytes, what)| format!("{} {what}", human::bytes(bytes)))
            .collect();
        if held.is_empty() { String::new() } else { format!(", holds back {}", held.join(" and ")) }
    }
}

impl Document for Prune {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for source in &self.sources {
            let _ = writeln!(out, "{}", source.name);
            let mut table =
                Table::new(&[("  SNAPSHOT", Align::Left), ("TAKEN (UTC)", Align::Left), ("", Align::Left)]);
            let goes = if self.dry_run { "would be deleted" } else { "deleted" };
            let mut rows: Vec<(&Snapshot, String)> = Vec::new();
            rows.extend(source.removed.iter().map(|snapshot| (snapshot, goes.to_owned())));
            let kept = |snapshot: &Snapshot| format!("kept: {}", snapshot.reasons.join(", "));
            rows.extend(source.kept.iter().map(|snapshot| (snapshot, kept(snapshot))));
            rows.sort_by_key(|(snapshot, _)| (snapshot.created.0, snapshot.timeline, snapshot.lsn));
            for (snapshot, fate) in rows {
                table.row([format!("  {}", snapshot.snapshot_id), snapshot.created.to_string(), fate]);
            }
            out += &table.render();
            for point in &source.points {
                let Point { name, at, .. } = point;
                let _ = writeln!(out, "  log up to {at}, kept: point {name}{}", point.held());
            }
            if source.log_objects_removed > 0 {
                let (objects, bytes) = (source.log_objects_removed, human::bytes(source.log_bytes_removed));
                let _ = writeln!(out, "  log: {objects} objects of {bytes}, {goes}");
            }
            if source.merged_objects_removed > 0 {
                let (objects, bytes) =
                    (source.merged_objects_removed, human::bytes(source.merged_bytes_removed));
                let _ =
                    writeln!(out, "  log merged into other objects: {objects} objects of {bytes}, {goes}");
            }
        }
        let Packs {
            unneeded,
            unneeded_bytes,
            repacked,
            repacked_small: small,
            repacked_bytes,
            waste_left_bytes,
        } = &self.packs;
        let _ = writeln!(
            out,
            "packs: {unneeded} unreferenced ({}); {} partly unreferenced and {small} small ({} rewritten); unreferenced data left: {}",
            human::bytes(*unneeded_bytes),
            repacked - small,
            human::bytes(*repacked_bytes),
            human::bytes(*waste_left_bytes)
        );
        let of = human::bytes(self.stored_bytes);
        let _ = match self.dry_run {
            true => writeln!(
                out,
                "{} of {of} would be freed; nothing was changed, add --execute to delete",
                human::bytes(self.freed_bytes)
            ),
            false => writeln!(out, "{} of {of} freed", human::bytes(self.freed_bytes)),
        };
        if !self.waiting_for.is_empty() {
            let _ = writeln!(
                out,
                "{} more are condemned but may still be in use; run it again when the running commands have ended (leases {})",
                human::bytes(self.condemned_bytes),
                self.waiting_for.join(", ")
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::{Lsn, Timestamp, TxId};

    #[test]
    fn the_text_lists_deleted_snapshots_and_why_others_are_kept() {
        let snapshot = |id: &str, at: i64, reasons: &[&str]| Snapshot {
            snapshot_id: id.to_owned(),
            timeline: 1,
            lsn: 0,
            time: Time(Timestamp::from_micros(at)),
            created: Time(Timestamp::from_micros(at)),
            reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
        };
        let mut prune = Prune {
            dry_run: true,
            sources: vec![Source {
                name: "shop".to_owned(),
                kept: vec![snapshot("aa", 2, &["newest", "within"])],
                removed: vec![snapshot("bb", 1, &[])],
                points: vec![Point {
                    name: "before".to_owned(),
                    timeline: 1,
                    at: Position::of(Lsn::new(700), TxId::new(7), Time(Timestamp::from_micros(1))),
                    snapshot_id: Some("aa".to_owned()),
                    held_log_bytes: 2_500,
                    held_snapshot_bytes: 0,
                }],
                log_objects_removed: 3,
                log_bytes_removed: 4000,
                merged_objects_removed: 64,
                merged_bytes_removed: 5000,
            }],
            packs: Packs {
                unneeded: 1,
                unneeded_bytes: 1000,
                repacked: 0,
                repacked_small: 0,
                repacked_bytes: 0,
                waste_left_bytes: 7,
            },
            stored_bytes: 9000,
            freed_bytes: 5000,
            condemned_bytes: 0,
            waiting_for: vec![],
            seconds: 0.1,
        };
        let text = prune.for_people();
        let (deleted, kept) = (text.find("bb").unwrap(), text.find("kept: newest, within").unwrap());
        assert!(deleted < kept, "{text}");
        assert!(text.contains("log up to tx 7 of ") && text.contains("kept: point before"), "{text}");
        assert!(text.contains("would be freed; nothing was changed"), "{text}");
        assert!(text.contains("log merged into other objects: 64 objects of 5.00 kB"), "{text}");
        // FAILURES 25
        assert!(text.contains("kept: point before, holds back 2.50 kB of log\n"), "{text}");
        let point = &mut prune.sources[0].points[0];
        point.held_snapshot_bytes = 1_000;
        assert!(
            point.held().ends_with("2.50 kB of log and 1.00 kB that its snapshot added"),
            "{}",
            point.held()
        );
        (point.held_log_bytes, point.held_snapshot_bytes) = (0, 0);
        assert_eq!(point.held(), "");
        (prune.dry_run, prune.waiting_for) = (false, vec!["77".to_owned()]);
        let text = prune.for_people();
        assert!(text.contains("5.00 kB of 9.00 kB freed") && text.contains("leases 77"), "{text}");
    }
}
