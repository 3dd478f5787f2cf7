//! `pitr prune`.

pub(crate) mod args;
mod document;

use pitr::PruneOptions;
use pitr::format::Timestamp;
use pitr::prune::{KeptPoint, KeptSnapshot, Policy, Reason, Report, SourceReport};

use self::args::Prune;
use self::document::{Packs, Point, Snapshot, Source};
use super::open;
use crate::args::Global;
use crate::args::target::Target;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::{Position, Time};

pub(crate) fn run(global: &Global, args: &Prune) -> Result<(), CliError> {
    if !global.sources.is_empty() {
        return Err(CliError::usage("retention applies to all sources of a repository; omit --source"));
    }
    let pitr = open(global)?;
    let begun = pitr.clock().monotonic();
    let policy = Policy {
        keep_within: args.keep_within,
        keep_snapshots: args.keep_snapshots,
        keep_daily: args.keep_daily,
        keep_weekly: args.keep_weekly,
        keep_monthly: args.keep_monthly,
        must_remain_since: since(args, pitr.clock().now())?,
    };
    let options = PruneOptions::dry_run(policy).waste_percent_max(args.max_waste).execute(args.execute);
    let report = pitr.prune(options).map_err(explain)?;
    let seconds = pitr.clock().monotonic().saturating_sub(begun).as_secs_f64();
    global.output().answer(&describe(&report, !args.execute, seconds))
}

fn since(args: &Prune, now: Timestamp) -> Result<Option<Timestamp>, CliError> {
    match args.must_remain_restorable_since {
        None => Ok(None),
        Some(Target::Time(moment)) => Ok(Some(moment.resolve(now))),
        Some(_) => Err(CliError::usage("--must-remain-restorable-since takes a time")
            .next("give one such as 2026-11-21T14:32:06Z or 30 days ago")),
    }
}

fn describe(report: &Report, dry_run: bool, seconds: f64) -> document::Prune {
    let packs = report.packs;
    document::Prune {
        dry_run,
        sources: report.sources.iter().map(source).collect(),
        packs: Packs {
            unneeded: packs.unneeded,
            unneeded_bytes: packs.unneeded_bytes,
            repacked: packs.worn + packs.small,
            repacked_small: packs.small,
            repacked_bytes: packs.repacked_bytes,
            waste_left_bytes: packs.waste_left,
        },
        stored_bytes: report.stored,
        freed_bytes: report.freed,
        condemned_bytes: report.condemned,
        waiting_for: report.waiting.clone(),
        seconds,
    }
}

fn source(source: &SourceReport) -> Source {
    let kept = |kept: &KeptSnapshot| Snapshot { reasons: reasons(kept), ..snapshot(&kept.snapshot) };
    Source {
        name: source.name.to_string(),
        kept: source.kept.iter().map(kept).collect(),
        removed: source.removed.iter().map(snapshot).collect(),
        points: source.points.iter().map(point).collect(),
        log_objects_removed: source.log_objects,
        log_bytes_removed: source.log_bytes,
        merged_objects_removed: source.merged_objects,
        merged_bytes_removed: source.merged_bytes,
    }
}

/// The reasons as words. Each point that needs the snapshot is a reason of its own.
fn reasons(kept: &KeptSnapshot) -> Vec<String> {
    let rules = kept.reasons.iter().filter(|reason| **reason != Reason::Point).map(ToString::to_string);
    rules.chain(kept.points.iter().map(|name| format!("point {name}"))).collect()
}

fn point(kept: &KeptPoint) -> Point {
    let point = &kept.point;
    Point {
        name: point.name.to_string(),
        timeline: point.timeline.get(),
        at: Position::of(point.lsn, point.tx, Time(point.time)),
        snapshot_id: kept.snapshot.map(|id| id.to_string()),
        held_log_bytes: kept.held_log_bytes,
        held_snapshot_bytes: kept.held_snapshot_bytes.unwrap_or(0),
    }
}

fn snapshot(snapshot: &pitr::snapshot::Snapshot) -> Snapshot {
    Snapshot {
        snapshot_id: snapshot.id.to_string(),
        timeline: snapshot.meta.timeline.get(),
        lsn: snapshot.meta.consistent_at.get(),
        time: Time(snapshot.meta.time),
        created: Time(snapshot.meta.created),
        reasons: Vec::new(),
    }
}
