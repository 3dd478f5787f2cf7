//! Answers of `pitr restore`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::failure::Code;
use crate::output::values::{Phases, Position, Time};
use crate::output::{Document, human};

/// Answer for one source. Sizes are in bytes. With `dry_run`, sizes and seconds are estimates of
/// the plan.
#[derive(Debug, Serialize)]
pub(crate) struct Restore {
    /// Absent if only one source is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Null if the log reaches back to its origin and no snapshot was used.
    pub(crate) snapshot_id: Option<String>,
    pub(crate) timeline: u32,
    pub(crate) reached: Position,
    pub(crate) base_bytes: u64,
    /// Files of a folder that are missing or incomplete in the snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) incomplete: Vec<String>,
    /// Why the target can't be restored, if `--or-before` made the command restore an earlier
    /// state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_unreachable: Option<String>,
    /// Owner and permissions that could not be set on the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_given: Option<Owner>,
    /// Space needed and free. Only of a dry run.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<Room>,
    /// Number of files, folders and links whose owner could not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept_owners: Option<u64>,
    /// Damage in the repository that the restore went around.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) avoided: Vec<String>,
    /// Bytes of the base that were there already: in the existing output, or in what an interrupted
    /// restore left. Absent without `--delta` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reused_bytes: Option<u64>,
    pub(crate) wal_bytes: u64,
    pub(crate) records: u64,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transactions: Option<Transactions>,
    /// True if the engine checked the result.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) checked: bool,
    pub(crate) seconds: f64,
    /// True if the estimate of a dry run is not made from earlier restores. Only of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_guess: Option<bool>,
    /// Absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<usize>,
    pub(crate) phases: Phases,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dry_run: bool,
    #[serde(skip)]
    pub(crate) output: String,
}

/// Transactions of the log between the snapshot and the state.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Transactions {
    pub(crate) applied: u64,
    /// Aborted, or not committed at the target.
    pub(crate) skipped: u64,
}

/// Answer of `--validate`.
#[derive(Debug, Serialize)]
pub(crate) struct Validation {
    pub(crate) validated: bool,
    pub(crate) snapshot_id: Option<String>,
    pub(crate) timeline: u32,
    /// The state that a restore would reach.
    pub(crate) reached: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_unreachable: Option<String>,
    pub(crate) wal_bytes: u64,
    pub(crate) records: u64,
    pub(crate) transactions: Transactions,
    pub(crate) seconds: f64,
    pub(crate) workers: usize,
    pub(crate) phases: Phases,
}

impl Document for Validation {
    fn for_people(&self) -> String {
        let from = self.snapshot_id.as_deref().map_or("its origin".into(), |id| format!("snapshot {id}"));
        let mut text = format!(
            "the log from {from} to {}, timeline {}, is sound\n{} of log, {} records, {} transactions ({} \
             skipped), in {}\n",
            self.reached,
            self.timeline,
            human::bytes(self.wal_bytes),
            self.records,
            self.transactions.applied,
            self.transactions.skipped,
            human::seconds(self.seconds)
        );
        if let Some(why) = &self.target_unreachable {
            let _ = writeln!(text, "{INSTEAD}{why}");
        }
        text
    }
}

/// Before the reason why the target can't be restored.
const INSTEAD: &str = "this is the newest restorable state before the target; the target can't be restored: ";

/// Disk space for a restore, bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Room {
    pub(crate) needed_bytes: u64,
    /// Null if unknown.
    pub(crate) free_bytes: Option<u64>,
}

/// Owner, group and permissions of a file.
#[derive(Debug, Serialize)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Octal.
    pub(crate) mode: String,
}

/// Answer for several sources restored to the same time.
#[derive(Debug, Serialize)]
pub(crate) struct Together {
    /// The time that all sources were restored to.
    pub(crate) moment: Time,
    /// The folder with the restored sources.
    pub(crate) output: String,
    pub(crate) sources: Vec<Restore>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<Room>,
    pub(crate) seconds: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dry_run: bool,
}

impl Document for Together {
    fn for_people(&self) -> String {
        self.sources.iter().map(Document::for_people).collect()
    }
}

/// Answer if there was nothing to do.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    /// The failure code without the option: `output-exists` or `no-source`.
    pub(crate) skipped: Code,
    /// True if the output exists.
    pub(crate) existed: bool,
    pub(crate) output: String,
}

impl Document for Skipped {
    fn for_people(&self) -> String {
        match self.existed {
            true => format!("{} exists: nothing to do\n", self.output),
            false => {
                format!(
                    "the repository does not have the source yet: nothing was restored to {}\n",
                    self.output
                )
            }
        }
    }
}

impl Document for Restore {
    fn for_people(&self) -> String {
        let mut text = String::new();
        let (did, took) = if self.dry_run { ("would restore", "about ") } else { ("restored", "") };
        let from = self.snapshot_id.as_deref().map_or("the log alone".into(), |id| format!("snapshot {id}"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{did} {} as of {}, timeline {}", self.output, self.reached, self.timeline);
        if let Some(why) = &self.target_unreachable {
            let _ = writeln!(text, "{INSTEAD}{why}");
        }
        let _ = writeln!(
            text,
            "from {from}: {} of base, {} of log, {} records, in {took}{}",
            human::bytes(self.base_bytes),
            human::bytes(self.wal_bytes),
            self.records,
            human::seconds(self.seconds)
        );
        if self.is_guess == Some(true) {
            let _ =
                writeln!(text, "the time is a guess: no large restore from this repository was measured yet");
        }
        if let Some(Transactions { applied, skipped }) = self.transactions {
            let _ = writeln!(text, "{applied} transactions of the log applied, {skipped} skipped");
        }
        if self.checked {
            let _ = writeln!(text, "the engine's consistency check found no fault");
        }
        if let Some(Room { needed_bytes, free_bytes }) = self.room {
            let free = free_bytes.map_or("an unknown amount".to_owned(), human::bytes);
            let _ = writeln!(text, "needs {} of disk space; {free} is free", human::bytes(needed_bytes));
        }
        if let Some(Owner { uid, gid, mode }) = &self.not_given {
            let _ = writeln!(
                text,
                "its owner could not be restored (user {uid}, group {gid}, mode {mode}): only root can change owners"
            );
        }
        for path in &self.incomplete {
            let _ = writeln!(
                text,
                "{path}: NOT RESTORED, or incomplete: it changed while the snapshot was taken"
            );
        }
        if let Some(owners) = self.kept_owners {
            let _ = writeln!(
                text,
                "{owners} files, folders and links now belong to you: only root can change owners"
            );
        }
        for damage in &self.avoided {
            let _ = writeln!(text, "went around damage in the repository: {damage}");
        }
        if !self.avoided.is_empty() {
            let _ = writeln!(text, "`pitr verify` lists all damage, `pitr repair` heals it");
        }
        if let Some(reused) = self.reused_bytes {
            let _ = writeln!(text, "{} of the base were there already and were reused", human::bytes(reused));
        }
        if !self.phases.0.is_empty() {
            let _ = writeln!(text, "{}", self.phases);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::Timestamp;
    use serde_json::{Value, json};

    const POSITION: Position =
        Position { lsn: 700, tx: 7, time: Time(Timestamp::from_micros(1_795_271_526_000_001)), named: true };

    fn keys(document: &impl Serialize) -> Vec<String> {
        let Value::Object(map) = serde_json::to_value(document).unwrap() else { panic!("not an object") };
        map.keys().cloned().collect()
    }

    fn restore() -> Restore {
        Restore {
            source: None,
            target_unreachable: None,
            not_given: None,
            room: None,
            snapshot_id: Some("5f".into()),
            timeline: 1,
            reached: POSITION,
            base_bytes: 4096,
            incomplete: vec![],
            kept_owners: None,
            avoided: vec![],
            reused_bytes: None,
            wal_bytes: 8192,
            records: 3,
            transactions: Some(Transactions { applied: 2, skipped: 1 }),
            checked: false,
            is_guess: None,
            seconds: 0.25,
            workers: Some(2),
            phases: Phases(vec![("write".into(), 0.2), ("plan".into(), 0.05)]),
            dry_run: false,
            output: "o.db".into(),
        }
    }

    #[test]
    fn restore_has_its_keys() {
        let expected =
            "base_bytes phases reached records seconds snapshot_id timeline transactions wal_bytes workers";
        assert_eq!(keys(&restore()).join(" "), expected);
        assert_eq!(
            serde_json::to_value(restore()).unwrap()["reached"],
            json!({"lsn": 700, "tx": 7, "time": "2026-11-21T14:32:06.000001Z"})
        );
        let room = Some(Room { needed_bytes: 1, free_bytes: Some(2) });
        let value = serde_json::to_value(Restore { room, ..restore() }).unwrap();
        assert_eq!((&value["needed_bytes"], &value["free_bytes"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn phases_keep_their_order() {
        assert_eq!(serde_json::to_string(&restore().phases).unwrap(), r#"{"write":0.2,"plan":0.05}"#);
        assert_eq!(restore().phases.to_string(), "write 200 ms, plan 50 ms");
    }
}
