//! Answer of `pitr repair`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Document;

/// Answer of `repair`.
#[derive(Debug, Serialize)]
pub(crate) struct Repair {
    /// True if no fault is left, or would be left.
    pub(crate) ok: bool,
    pub(crate) dry_run: bool,
    /// Number of faults before.
    pub(crate) faults: u64,
    pub(crate) objects: Vec<Object>,
    /// What stays damaged.
    pub(crate) lost: Vec<Lost>,
}

/// An object, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Object {
    pub(crate) object: String,
    /// `healed`, `set-aside`, `no-copy` or `copy-damaged`.
    pub(crate) outcome: &'static str,
    /// The fault of the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) what: Option<String>,
}

/// A fault that stays.
#[derive(Debug, Serialize)]
pub(crate) struct Lost {
    pub(crate) object: String,
    pub(crate) what: String,
    /// Snapshots that can't be restored completely, with their sources.
    pub(crate) snapshots: Vec<String>,
}

impl Document for Repair {
    fn for_people(&self) -> String {
        let mut out = String::new();
        let would = if self.dry_run { "would be " } else { "" };
        for Object { object, outcome, what } in &self.objects {
            let _ = match (*outcome, what) {
                ("healed", _) => writeln!(out, "{object}: {would}healed from the copy"),
                ("set-aside", _) => writeln!(out, "{object}: {would}moved to the quarantine"),
                (_, Some(what)) => writeln!(out, "{object}: damaged in the copy too: {what}"),
                (_, None) => writeln!(out, "{object}: no copy"),
            };
        }
        for Lost { object, what, snapshots } in &self.lost {
            let _ = writeln!(out, "still damaged: {object}: {what}");
            for snapshot in snapshots {
                let _ = writeln!(out, "    affects snapshot {snapshot}");
            }
        }
        let left = if self.ok { "no fault is left" } else { "not everything is healed" };
        let more = if self.dry_run && self.faults > 0 { "; give --execute to repair" } else { "" };
        let _ = writeln!(out, "{} faults found; {left}{more}", self.faults);
        out
    }
}
