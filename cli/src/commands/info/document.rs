//! Answer of `pitr info`.

use std::fmt::Write as _;

use serde::Serialize;

use super::tree::{self, Timeline};
use crate::output::Document;
use crate::output::human::{self, Align, Table};
use crate::output::values::{Gap, Position, SnapshotKind, Time};

/// Answer of `info`.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    pub(crate) sources: Vec<Source>,
    pub(crate) stored_bytes: u64,
    /// Who may read the repository besides its owner. Absent if only the owner may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readable_by: Option<Readable>,
}

/// Who may read a repository besides its owner.
#[derive(Debug, Serialize)]
pub(crate) struct Readable {
    /// `group` or `everyone`.
    pub(crate) who: &'static str,
    /// Command that restricts the repository to its owner.
    pub(crate) command: String,
}

/// A source in the repository.
#[derive(Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) engine: String,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) restorable: Vec<Interval>,
    pub(crate) gaps: Vec<Gap>,
    /// Ascending. Empty for a source without a log.
    pub(crate) timelines: Vec<Timeline>,
    /// Names of the recovery points. `point list` shows their states.
    pub(crate) points: Vec<String>,
    /// Snapshots with unreadable roots, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<String>,
    /// Estimated seconds of a restore of the latest state, by measured rates. Absent if none was
    /// measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restore_seconds: Option<f64>,
    /// The last restore into a sandbox, by `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_rehearsal: Option<Rehearsal>,
    /// Seconds since the newest archived watermark. Negative if the watermark is ahead of this
    /// machine's clock. Null if nothing is archived.
    pub(crate) archive_lag_seconds: Option<f64>,
}

/// A restore into a sandbox.
#[derive(Debug, Serialize)]
pub(crate) struct Rehearsal {
    pub(crate) time: Time,
    /// The last transaction in the state.
    pub(crate) tx: u64,
    pub(crate) bytes: u64,
    pub(crate) restore_seconds: f64,
    /// The RTO that was given. Null if none was.
    pub(crate) rto_seconds: Option<f64>,
    pub(crate) findings: u64,
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    pub(crate) kind: SnapshotKind,
    /// The snapshot that the source was compared with. A restore does not need it.
    pub(crate) parent_id: Option<String>,
    pub(crate) timeline: u32,
    /// A restore reads the log from this LSN on.
    pub(crate) redo_from_lsn: u64,
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) created: Time,
    pub(crate) logical_bytes: u64,
    pub(crate) changed_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) codec: String,
    pub(crate) encrypted: bool,
    /// Path of the snapshot's root in the repository.
    pub(crate) root: String,
}

/// A range of a timeline in which every commit can be restored.
#[derive(Debug, Serialize)]
pub(crate) struct Interval {
    pub(crate) timeline: u32,
    pub(crate) from: Position,
    pub(crate) to: Position,
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
            let _ = writeln!(text, "{who}; to restrict it to its owner: {command}");
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
        text += &tree::draw(&self.timelines);
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
        let rto = self.last_rehearsal.as_ref().and_then(|rehearsal| rehearsal.rto_seconds);
        let beside_rto = |seconds: f64| match rto {
            None => human::seconds(seconds),
            Some(rto) if seconds > rto => {
                format!("{}, MORE THAN THE RTO of {}", human::seconds(seconds), human::seconds(rto))
            }
            Some(rto) => format!("{} (RTO {})", human::seconds(seconds), human::seconds(rto)),
        };
        if let Some(seconds) = self.restore_seconds {
            let _ = writeln!(text, "  a restore of the latest state takes about {}", beside_rto(seconds));
        }
        if let Some(Rehearsal { time, tx, bytes, restore_seconds, findings, .. }) = &self.last_rehearsal {
            let (size, took) = (human::bytes(*bytes), beside_rto(*restore_seconds));
            let found = if *findings == 0 { "sound".to_owned() } else { format!("{findings} FINDINGS") };
            let _ = writeln!(text, "  last rehearsal {time}: tx {tx}, {size} in {took}, {found}");
        }
        if !self.points.is_empty() {
            let _ = writeln!(text, "  points: {}", self.points.join(", "));
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

#[cfg(test)]
mod tests {
    use super::*;
    use pitr::format::{Lsn, Timestamp, TxId};
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
                timelines: vec![],
                points: vec![],
                restore_seconds: None,
                last_rehearsal: None,
                archive_lag_seconds: Some(0.4),
            }],
            stored_bytes: 900,
            readable_by: None,
        };
        assert_eq!(keys(&info).join(" "), "sources stored_bytes");
        let expected = "archive_lag_seconds engine gaps name points restorable snapshots timelines";
        assert_eq!(keys(&info.sources[0]).join(" "), expected);
        assert_eq!(keys(&info.sources[0].restorable[0]).join(" "), "from timeline to");
        assert_eq!(keys(&info.sources[0].gaps[0]).join(" "), "from reason to");
        assert!(info.for_people().contains("GAP"), "{}", info.for_people());
        assert!(!info.for_people().contains("chmod"), "{}", info.for_people());
        assert!(!info.for_people().contains("points:"), "{}", info.for_people());
        info.sources[0].points = vec!["before-migration".into(), "移行前".into()];
        assert!(info.for_people().contains("points: before-migration, 移行前"), "{}", info.for_people());
        assert!(!info.for_people().contains("rehearsal"), "{}", info.for_people());
        let time = position(1).time;
        let rehearsal =
            Rehearsal { time, tx: 7, bytes: 4096, restore_seconds: 1.5, rto_seconds: None, findings: 0 };
        info.sources[0].last_rehearsal = Some(Rehearsal { findings: 2, ..rehearsal });
        info.sources[0].restore_seconds = Some(61.0);
        let text = info.for_people();
        assert!(
            text.contains("tx 7, 4.10 kB in 1.5 s, 2 FINDINGS") && text.contains("takes about 1 min 01 s"),
            "{text}"
        );
        info.sources[0].last_rehearsal = Some(Rehearsal {
            time,
            tx: 7,
            bytes: 4096,
            restore_seconds: 1.5,
            rto_seconds: Some(60.0),
            findings: 0,
        });
        let text = info.for_people();
        for line in
            ["takes about 1 min 01 s, MORE THAN THE RTO of 1 min 00 s", "in 1.5 s (RTO 1 min 00 s), sound"]
        {
            assert!(text.contains(line), "{text}");
        }
        // A clock that was ahead (FAILURES 56).
        let ahead = Source { archive_lag_seconds: Some(-86_400.0), ..info.sources.remove(0) }.for_people();
        assert!(ahead.contains("24 h 00 min ahead of this machine's clock"), "{ahead}");
        let open = Readable { who: "everyone", command: "chmod -R go= /r".into() };
        let info = Info { readable_by: Some(open), ..info };
        assert_eq!(keys(&info).join(" "), "readable_by sources stored_bytes");
        assert!(info.for_people().contains("EVERY USER") && info.for_people().contains("chmod -R go= /r"));
    }
}
