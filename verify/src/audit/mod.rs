//! A report for auditors: what can be restored, what was verified, and what was found.
//!
//! Plain values: [`Audit::html`] writes them as one page that refers to nothing outside itself,
//! serde writes the same as JSON, and [`Audit::metrics`] writes what a monitoring system watches.

mod html;
mod metrics;
mod svg;

use crate::coverage::{Coverage, Health};
use crate::history::Record;
use crate::report::{Fault, Report};
use pitr_format::Timestamp;
use pitr_recovery::Restorable;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// A time that is written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A report about a repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// When it was made.
    pub created: Moment,
    /// The repository, for people.
    pub repository: String,
    /// True if it is encrypted.
    pub encrypted: bool,
    /// Days within which everything is to be verified once.
    pub window_days: f64,
    /// The check of the objects; `None` if there was none.
    pub objects: Option<CheckedObjects>,
    /// The sources, by name.
    pub sources: Vec<AuditedSource>,
}

/// A check of all objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedObjects {
    /// Number of objects.
    pub count: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Number of snapshots whose trees were walked.
    pub snapshots: u64,
    /// What was found.
    pub faults: Vec<AuditedFault>,
}

/// A fault of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditedFault {
    /// The object.
    pub object: String,
    /// The fault.
    pub what: String,
    /// Snapshots that it spoils, with their sources.
    pub snapshots: Vec<String>,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditedSource {
    /// Its name.
    pub name: String,
    /// 0 to 100.
    pub score: u8,
    /// Why the score is less than 100.
    pub concerns: Vec<String>,
    /// Number of snapshots.
    pub snapshots: usize,
    /// Number of those that were rehearsed within the window, and were sound.
    pub rehearsed: usize,
    /// The last sound check of all objects, within the window.
    pub objects_checked: Option<Moment>,
    /// Times of the snapshots.
    pub snapshot_times: Vec<Moment>,
    /// The spans in which every commit can be restored.
    pub restorable: Vec<Span>,
    /// The rehearsals in the repository's history, oldest first.
    pub rehearsals: Vec<AuditedRehearsal>,
}

/// A span in which every commit can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The timeline.
    pub timeline: u32,
    /// The oldest state.
    pub from: Moment,
    /// The newest state.
    pub to: Moment,
    /// Number of the first transaction.
    pub from_tx: u64,
    /// Number of the last transaction.
    pub to_tx: u64,
}

/// A rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditedRehearsal {
    /// When it ended.
    pub at: Moment,
    /// The last transaction of the state.
    pub tx: u64,
    /// Size of the copy, bytes.
    pub bytes: u64,
    /// Duration of the restore, seconds.
    pub restore_seconds: f64,
    /// The promised duration, seconds; `None` if none was.
    pub rto_seconds: Option<f64>,
    /// Number of findings.
    pub count: u64,
    /// The first findings.
    pub findings: Vec<String>,
    /// Who rehearsed.
    pub by: String,
}

impl From<&Report> for CheckedObjects {
    fn from(report: &Report) -> Self {
        let spoiled = |(source, id): &(_, _)| format!("{id} of {source}");
        let fault = |Fault { object, what, snapshots, .. }: &Fault| AuditedFault {
            object: object.clone(),
            what: what.clone(),
            snapshots: snapshots.iter().map(spoiled).collect(),
        };
        let faults = report.faults.iter().map(fault).collect();
        CheckedObjects { count: report.objects, bytes: report.bytes, snapshots: report.snapshots, faults }
    }
}

impl From<&Restorable> for Span {
    fn from(span: &Restorable) -> Self {
        Span {
            timeline: span.to.timeline.get(),
            from: Moment(span.from.time),
            to: Moment(span.to.time),
            from_tx: span.from.tx.get(),
            to_tx: span.to.tx.get(),
        }
    }
}

impl From<&Record> for AuditedRehearsal {
    fn from(record: &Record) -> Self {
        AuditedRehearsal {
            at: Moment(record.at),
            tx: record.state.as_ref().map_or(0, |state| state.tx.get()),
            bytes: record.bytes,
            restore_seconds: record.restore_took.unwrap_or(Duration::ZERO).as_secs_f64(),
            rto_seconds: record.rto.map(|rto| rto.as_secs_f64()),
            count: record.count,
            findings: record.findings.clone(),
            by: record.by.clone(),
        }
    }
}

impl AuditedSource {
    /// A source with this coverage and health. The lists are empty.
    #[must_use]
    pub fn new(name: impl Into<String>, coverage: &Coverage, health: &Health) -> Self {
        AuditedSource {
            name: name.into(),
            score: health.score,
            concerns: health.concerns.iter().map(ToString::to_string).collect(),
            snapshots: coverage.snapshots,
            rehearsed: coverage.rehearsed,
            objects_checked: coverage.objects_checked.map(Moment),
            snapshot_times: Vec::new(),
            restorable: Vec::new(),
            rehearsals: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn at(seconds: i64) -> Moment {
        Moment(Timestamp::from_micros(1_795_000_000_000_000 + seconds * 1_000_000))
    }

    pub(super) fn example() -> Audit {
        let rehearsal = |seconds: i64, took: f64, count: u64| AuditedRehearsal {
            at: at(seconds),
            tx: 70,
            bytes: 4096,
            restore_seconds: took,
            rto_seconds: (count == 0).then_some(900.0),
            count,
            findings: vec!["engine: <b>row</b> 7 & others".to_owned(); count as usize],
            by: "machine".to_owned(),
        };
        let span = |timeline, from, to| Span { timeline, from: at(from), to: at(to), from_tx: 1, to_tx: 70 };
        let source = AuditedSource {
            name: "shop".to_owned(),
            score: 85,
            concerns: vec!["1 of 2 snapshots".to_owned()],
            snapshots: 2,
            rehearsed: 1,
            objects_checked: Some(at(500)),
            snapshot_times: vec![at(0), at(400)],
            restorable: vec![span(1, 0, 300), span(2, 400, 900)],
            rehearsals: vec![rehearsal(500, 0.0284, 0), rehearsal(800, 2.5, 1)],
        };
        let empty = AuditedSource {
            snapshot_times: Vec::new(),
            restorable: Vec::new(),
            rehearsals: Vec::new(),
            objects_checked: None,
            ..AuditedSource { name: "empty".to_owned(), ..source.clone() }
        };
        let fault = AuditedFault {
            object: "packs/ab".to_owned(),
            what: "its SHA-256 differs".to_owned(),
            snapshots: vec!["5f of shop".to_owned()],
        };
        Audit {
            created: at(1000),
            repository: "/srv/<backup>".to_owned(),
            encrypted: true,
            window_days: 7.0,
            objects: Some(CheckedObjects { count: 9, bytes: 12_345, snapshots: 2, faults: vec![fault] }),
            sources: vec![empty, source],
        }
    }

    #[test]
    fn the_page_stands_alone_and_names_everything() {
        let page = example().html();
        for outside in ["http", "src=", "href=", "url(", "@import", "<script", "<link", "<img"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for text in [
            "shop",
            "empty",
            "85",
            "1 of 2 snapshots",
            "packs/ab",
            "its SHA-256 differs",
            "5f of shop",
            "0.028 of 900",
            ">2.5<",
        ] {
            assert!(page.contains(text), "{text}");
        }
        // What comes from the repository is text, not markup.
        assert!(
            page.contains("/srv/&lt;backup&gt;") && page.contains("&lt;b&gt;row&lt;/b&gt; 7 &amp; others")
        );
        assert!(!page.contains("<b>row"));
        assert_eq!(page.matches("<svg").count(), 2, "the spans and the rehearsals of one source");
        for element in ["html", "body", "table", "svg", "section"] {
            let count = |text: String| page.matches(&text).count();
            assert_eq!(count(format!("<{element}")), count(format!("</{element}>")), "{element}");
        }
    }

    #[test]
    fn the_page_of_a_repository_without_anything_says_so() {
        let page = Audit { objects: None, sources: Vec::new(), ..example() }.html();
        assert!(page.contains("not checked") && page.contains("no source"), "{page}");
    }

    #[test]
    fn the_same_values_are_json() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json["sources"][1]["restorable"][1]["to"], at(900).0.to_string());
        assert_eq!(json["objects"]["faults"][0]["object"], "packs/ab");
    }
}
