//! What a monitoring system watches, in the text format of Prometheus.
//!
//! Source: "Exposition formats" of the Prometheus documentation, text format 0.0.4. Times are
//! seconds since 1970. A value that is not known has no line.

use super::{Audit, AuditedRehearsal, AuditedSource, Moment};
use std::fmt::Write as _;

/// A value of a source: its name, its meaning, and how it is found.
struct Gauge {
    name: &'static str,
    help: &'static str,
    of: fn(&AuditedSource) -> Option<f64>,
}

const GAUGES: [Gauge; 10] = [
    Gauge {
        name: "pitr_verify_score",
        help: "How far the source can be relied on, 0 to 100.",
        of: |source| Some(source.score.into()),
    },
    Gauge {
        name: "pitr_verify_concerns",
        help: "Reasons for a score below 100.",
        of: |source| Some(source.concerns.len() as f64),
    },
    Gauge {
        name: "pitr_verify_snapshots",
        help: "Snapshots of the source.",
        of: |source| Some(source.snapshots as f64),
    },
    Gauge {
        name: "pitr_verify_snapshots_rehearsed",
        help: "Snapshots with a sound rehearsal within the coverage window.",
        of: |source| Some(source.rehearsed as f64),
    },
    Gauge {
        name: "pitr_verify_objects_checked_timestamp_seconds",
        help: "Last sound check of every byte of all objects within the coverage window.",
        of: |source| source.objects_checked.map(seconds),
    },
    Gauge {
        name: "pitr_verify_restorable_until_timestamp_seconds",
        help: "Newest restorable state.",
        of: |source| source.restorable.iter().map(|span| span.to).max().map(seconds),
    },
    Gauge {
        name: "pitr_verify_rehearsal_timestamp_seconds",
        help: "Last rehearsal of a restore.",
        of: |source| last(source).map(|one| seconds(one.at)),
    },
    Gauge {
        name: "pitr_verify_rehearsal_restore_seconds",
        help: "Duration of the last rehearsed restore.",
        of: |source| last(source).map(|one| one.restore_seconds),
    },
    Gauge {
        name: "pitr_verify_rehearsal_findings",
        help: "Findings of the last rehearsal.",
        of: |source| last(source).map(|one| one.count as f64),
    },
    Gauge {
        name: "pitr_verify_rto_seconds",
        help: "Promised duration of a restore, as of the last rehearsal.",
        of: |source| last(source).and_then(|one| one.rto_seconds),
    },
];

fn last(source: &AuditedSource) -> Option<&AuditedRehearsal> {
    source.rehearsals.last()
}

fn seconds(at: Moment) -> f64 {
    at.0.micros() as f64 / 1e6
}

impl Audit {
    /// The values that a monitoring system watches, in the text format of Prometheus: one line for
    /// each value of each source, and the faults of the objects if these were checked.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        for Gauge { name, help, of } in GAUGES {
            head(&mut out, name, help);
            for source in &self.sources {
                if let Some(value) = of(source) {
                    let _ = writeln!(out, "{name}{{source=\"{}\"}} {value}", escaped(&source.name));
                }
            }
        }
        if let Some(objects) = &self.objects {
            for (name, help, value) in [
                ("pitr_verify_objects", "Objects of the last check.", objects.count),
                ("pitr_verify_object_faults", "Faults that it found.", objects.faults.len() as u64),
            ] {
                head(&mut out, name, help);
                let _ = writeln!(out, "{name} {value}");
            }
        }
        out
    }
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, example};
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_value_and_each_value_is_explained() {
        let text = example().metrics();
        let mut explained = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                explained = rest.split(' ').next().unwrap();
                continue;
            }
            if line.starts_with("# TYPE ") {
                assert_eq!(line, format!("# TYPE {explained} gauge"));
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), Some(explained), "{line}");
            value.parse::<f64>().unwrap();
        }
        let until = at(900).0.micros() / 1_000_000;
        for line in [
            "pitr_verify_score{source=\"shop\"} 85".to_owned(),
            "pitr_verify_snapshots_rehearsed{source=\"empty\"} 1".to_owned(),
            "pitr_verify_rehearsal_restore_seconds{source=\"shop\"} 2.5".to_owned(),
            format!("pitr_verify_restorable_until_timestamp_seconds{{source=\"shop\"}} {until}"),
            "pitr_verify_object_faults 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        // The last rehearsal had no RTO, and the other source no rehearsal.
        for absent in ["pitr_verify_rto_seconds{", "pitr_verify_rehearsal_findings{source=\"empty\"}"] {
            assert!(!text.contains(absent), "{absent}");
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
