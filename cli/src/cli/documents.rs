//! The answers of the commands: the keys that scripts rely on, and the lines for people.
//!
//! Keys are never renamed and never change their meaning; new ones may be added. Times are RFC 3339 with microseconds, in UTC.

use super::human::{self, Align, Table};
use super::output::Document;
use pitr::directory::RangesUse;
use pitr::verify::FaultKind;
use pitr::format::{Lsn, Timestamp, TxId};
use serde::{Serialize, Serializer};
use std::fmt;
use std::fmt::Write as _;

/// A time as documents print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One place in a source's history.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Position {
    pub(crate) lsn: u64,
    pub(crate) tx: u64,
    pub(crate) time: Time,
    /// The target `tx:N` names this state. If not, `lsn:N` does.
    #[serde(skip)]
    pub(crate) named: bool,
}

impl Position {
    /// The state of a transaction.
    pub(crate) fn of(lsn: Lsn, tx: TxId, time: Time) -> Self {
        Position { lsn: lsn.get(), tx: tx.get(), time, named: true }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { lsn, tx, time, named } = self;
        match (named, tx) {
            (false, _) => write!(f, "the snapshot of {time} (lsn {lsn}, after tx {tx})"),
            (true, 0) => write!(f, "tx 0 of {time} (lsn {lsn}), before the first transaction"),
            (true, _) => write!(f, "tx {tx} of {time} (lsn {lsn})"),
        }
    }
}

/// Full or incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SnapshotKind {
    Full,
    Incremental,
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotKind::Full => "full",
            SnapshotKind::Incremental => "incremental",
        })
    }
}

/// Answer of `init`.
#[derive(Debug, Serialize)]
pub(crate) struct Init {
    pub(crate) repository: String,
    pub(crate) id: String,
    pub(crate) encrypted: bool,
}

impl Document for Init {
    fn for_people(&self) -> String {
        let kind = if self.encrypted { "encrypted repository" } else { "repository" };
        format!("{kind} {} made in {}\n", self.id, self.repository)
    }
}

/// Answer of `verify`.
#[derive(Debug, Serialize)]
pub(crate) struct Verify {
    pub(crate) ok: bool,
    pub(crate) checked_bytes: u64,
    pub(crate) checked_objects: u64,
    /// Snapshots whose trees were walked.
    pub(crate) snapshots: u64,
    pub(crate) failures: Vec<Failure>,
    /// What a writer that is at work may still add.
    pub(crate) pending: Vec<String>,
    /// Files that are none of the repository's objects.
    pub(crate) strangers: Vec<String>,
    pub(crate) seconds: f64,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FailureKind {
    Damaged,
    /// An object that others prove to have existed is gone.
    Missing,
    /// Commits are archived and no snapshot leads to them.
    Unrestorable,
}

impl From<FaultKind> for FailureKind {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Missing => FailureKind::Missing,
            FaultKind::Unrestorable => FailureKind::Unrestorable,
            _ => FailureKind::Damaged,
        }
    }
}

/// Something that is wrong with an object.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) object: String,
    pub(crate) what: String,
    /// What can't be restored because of it.
    pub(crate) snapshots: Vec<Spoiled>,
}

/// A snapshot that can't be restored, wholly or in part.
#[derive(Debug, Serialize)]
pub(crate) struct Spoiled {
    pub(crate) source: String,
    pub(crate) snapshot_id: String,
}

impl Document for Verify {
    fn for_people(&self) -> String {
        let mut out = String::new();
        for Failure { object, what, snapshots, .. } in &self.failures {
            let _ = writeln!(out, "{object}: {what}");
            for Spoiled { source, snapshot_id } in snapshots {
                let _ = writeln!(out, "    spoils snapshot {snapshot_id} of {source}");
            }
        }
        for pending in &self.pending {
            let _ = writeln!(out, "{pending}");
        }
        for stranger in &self.strangers {
            let _ = writeln!(out, "{stranger}: not an object of this repository; it is never read");
        }
        let _ = writeln!(
            out,
            "{} objects, {} and {} snapshots checked in {}: {}",
            self.checked_objects,
            human::bytes(self.checked_bytes),
            self.snapshots,
            human::seconds(self.seconds),
            if self.ok { "sound".to_owned() } else { format!("{} faults", self.failures.len()) },
        );
        out
    }
}

/// Answer of `key list`.
#[derive(Debug, Serialize)]
pub(crate) struct Keys {
    pub(crate) slots: Vec<KeySlot>,
    /// How many keys objects are encrypted with; the last one encrypts.
    pub(crate) data_keys: usize,
}

/// What opens a repository.
#[derive(Debug, Serialize)]
pub(crate) struct KeySlot {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) created: Time,
}

impl Document for Keys {
    fn for_people(&self) -> String {
        let mut table =
            Table::new(&[("slot", Align::Left), ("opened by", Align::Left), ("made", Align::Left)]);
        for slot in &self.slots {
            let by = match slot.method.as_str() {
                "argon2id" => "passphrase",
                "raw" => "key file",
                other => other,
            };
            table.row([slot.id.clone(), by.to_owned(), slot.created.to_string()]);
        }
        format!("{}{} data keys\n", table.render(), self.data_keys)
    }
}

/// Answer of `key add`, `remove` and `rotate`: what was done, the rest is null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct KeyChange {
    pub(crate) added: Option<String>,
    pub(crate) removed: Option<String>,
    /// How many data keys there are now.
    pub(crate) data_keys: Option<usize>,
}

impl Document for KeyChange {
    fn for_people(&self) -> String {
        let mut out = String::new();
        if let Some(slot) = &self.added {
            out += &format!("key slot {slot} added\n");
        }
        if let Some(slot) = &self.removed {
            out += &format!("key slot {slot} removed\n");
        }
        if let Some(count) = self.data_keys {
            out += &format!("data key {count} made; what was written before stays readable\n");
        }
        out
    }
}

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

/// Answer of `info`.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    pub(crate) sources: Vec<Source>,
    pub(crate) stored_bytes: u64,
    /// Who may read the repository besides its owner; absent if nobody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readable_by: Option<Readable>,
}

/// Who may read a repository besides its owner.
#[derive(Debug, Serialize)]
pub(crate) struct Readable {
    /// `group` or `everyone`.
    pub(crate) who: &'static str,
    /// What keeps the repository to its owner.
    pub(crate) command: String,
}

/// What the repository holds of one source.
#[derive(Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) engine: String,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) restorable: Vec<Interval>,
    pub(crate) gaps: Vec<Gap>,
    /// Named recovery points: none in this version.
    pub(crate) points: Vec<String>,
    /// Snapshots whose roots can't be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<String>,
    /// From the newest archived promise to now, negative if the promise lies ahead of this machine's clock; absent when
    /// nothing was archived.
    pub(crate) archive_lag_seconds: Option<f64>,
}

/// One snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    pub(crate) kind: SnapshotKind,
    /// The snapshot that it was compared with; not needed for a restore.
    pub(crate) parent_id: Option<String>,
    pub(crate) timeline: u32,
    /// A restore reads the log from here.
    pub(crate) redo_from_lsn: u64,
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) created: Time,
    pub(crate) logical_bytes: u64,
    pub(crate) changed_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) codec: String,
    pub(crate) encrypted: bool,
    /// Path of its root in the repository.
    pub(crate) root: String,
}

/// A span of a timeline in which every commit can be restored.
#[derive(Debug, Serialize)]
pub(crate) struct Interval {
    pub(crate) timeline: u32,
    pub(crate) from: Position,
    pub(crate) to: Position,
}

/// A span in which not, and why; `to` is absent while it is still open.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Gap {
    /// Absent unless `log` shows several sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) from: Position,
    pub(crate) to: Option<Position>,
    pub(crate) reason: String,
}

impl Document for Info {
    fn for_people(&self) -> String {
        let mut text =
            format!("{} stored, {} sources\n", human::bytes(self.stored_bytes), self.sources.len());
        if let Some(Readable { who, command }) = &self.readable_by {
            let who = match *who {
                "everyone" => "READABLE BY EVERY USER of this machine",
                _ => "readable by the members of its folder's group",
            };
            let _ = writeln!(text, "{who}; to keep it to its owner: {command}");
        }
        for source in &self.sources {
            text += &source.for_people();
        }
        text
    }
}

impl Source {
    fn for_people(&self) -> String {
        let mut text = String::new();
        let lag = match self.archive_lag_seconds {
            None => "nothing archived".to_owned(),
            Some(lag) if lag < 0.0 => {
                format!("archived up to a time {} ahead of this machine's clock", human::seconds(-lag))
            }
            Some(lag) => format!("archived up to {} ago", human::seconds(lag)),
        };
        let _ = writeln!(text, "\n{} ({}), {lag}", self.name, self.engine);
        for span in &self.restorable {
            let _ = writeln!(
                text,
                "  restorable on timeline {}: {}\n                       to {}",
                span.timeline, span.from, span.to
            );
        }
        for gap in &self.gaps {
            let to = gap.to.map_or("still open".into(), |to| to.to_string());
            let _ = writeln!(text, "  GAP from {}\n        to {to}: {}", gap.from, gap.reason);
        }
        let mut table = Table::new(&[
            ("  SNAPSHOT", Align::Left),
            ("KIND", Align::Left),
            ("TX", Align::Right),
            ("TIME (UTC)", Align::Left),
            ("SIZE", Align::Right),
            ("CHANGED", Align::Right),
            ("STORED", Align::Right),
        ]);
        for snapshot in &self.snapshots {
            table.row([
                format!("  {}", snapshot.snapshot_id),
                snapshot.kind.to_string(),
                snapshot.at.tx.to_string(),
                snapshot.at.time.to_string(),
                human::bytes(snapshot.logical_bytes),
                human::bytes(snapshot.changed_bytes),
                human::bytes(snapshot.stored_bytes),
            ]);
        }
        for damaged in &self.damaged {
            let _ = writeln!(text, "  DAMAGED snapshot: {damaged}");
        }
        text + &table.render()
    }
}

/// What a watch did until it was ended.
#[derive(Debug, Serialize)]
pub(crate) struct Watch {
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Pages in them.
    pub(crate) pages: u64,
    /// How long the write lock of a database was held, over all of them.
    pub(crate) w_lock: WriteLock,
    /// How long the watch lasted.
    pub(crate) seconds: f64,
    /// Each database.
    pub(crate) sources: Vec<Watched>,
}

/// What was done for one database.
#[derive(Debug, Serialize)]
pub(crate) struct Watched {
    /// Its source.
    pub(crate) name: String,
    /// Transactions captured.
    pub(crate) commits: u64,
    /// Everything below this position is archived.
    pub(crate) archived_lsn: u64,
    /// The last transaction archived.
    pub(crate) last_tx: Option<u64>,
}

/// How long a write lock was held.
#[derive(Debug, Serialize)]
pub(crate) struct WriteLock {
    /// How many times.
    pub(crate) count: usize,
    /// Milliseconds that 99 of 100 stayed below.
    pub(crate) p99_ms: f64,
    /// Milliseconds of the longest.
    pub(crate) max_ms: f64,
}

impl Document for Watch {
    fn for_people(&self) -> String {
        let mut text = String::new();
        for source in &self.sources {
            let last = source.last_tx.map_or("none".into(), |tx| format!("transaction {tx}"));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: {} commits captured, all archived; the last is {last}",
                source.name, source.commits
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn position(tx: u64) -> Position {
        let time = Time(Timestamp::from_micros(1_795_271_526_000_001));
        Position::of(Lsn::new(tx * 100), TxId::new(tx), time)
    }

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

    #[test]
    fn info_has_its_keys() {
        let mut info = Info {
            sources: vec![Source {
                name: "shop".into(),
                engine: "sqlite".into(),
                snapshots: vec![Snapshot {
                    snapshot_id: "5f".into(),
                    kind: SnapshotKind::Full,
                    parent_id: None,
                    timeline: 1,
                    redo_from_lsn: 100,
                    at: position(1),
                    created: position(1).time,
                    logical_bytes: 4096,
                    changed_bytes: 4096,
                    stored_bytes: 900,
                    codec: "zstd:3".into(),
                    encrypted: false,
                    root: "sources/shop/snapshots/1".into(),
                }],
                damaged: vec![],
                restorable: vec![Interval { timeline: 1, from: position(1), to: position(7) }],
                gaps: vec![Gap { source: None, from: position(7), to: None, reason: "not watched".into() }],
                points: vec![],
                archive_lag_seconds: Some(0.4),
            }],
            stored_bytes: 900,
            readable_by: None,
        };
        assert_eq!(keys(&info).join(" "), "sources stored_bytes");
        let expected = "archive_lag_seconds engine gaps name points restorable snapshots";
        assert_eq!(keys(&info.sources[0]).join(" "), expected);
        assert_eq!(keys(&info.sources[0].restorable[0]).join(" "), "from timeline to");
        assert_eq!(keys(&info.sources[0].gaps[0]).join(" "), "from reason to");
        assert!(info.for_people().contains("GAP"), "{}", info.for_people());
        assert!(!info.for_people().contains("chmod"), "{}", info.for_people());
        // FAILURES 56: a clock that was ahead once.
        let ahead = Source { archive_lag_seconds: Some(-86_400.0), ..info.sources.remove(0) }.for_people();
        assert!(ahead.contains("24 h 00 min ahead of this machine's clock"), "{ahead}");
        let open = Readable { who: "everyone", command: "chmod -R go= /r".into() };
        let info = Info { readable_by: Some(open), ..info };
        assert_eq!(keys(&info).join(" "), "readable_by sources stored_bytes");
        assert!(info.for_people().contains("EVERY USER") && info.for_people().contains("chmod -R go= /r"));
    }

    #[test]
    fn a_place_is_called_by_what_restores_it() {
        // FAILURES 60
        assert!(position(7).to_string().starts_with("tx 7 of "));
        assert!(position(0).to_string().ends_with("before the first transaction"));
        let unnamed = Position { named: false, ..position(7) };
        assert!(unnamed.to_string().contains("(lsn 700, after tx 7)"), "{unnamed}");
    }
}
