//! `pitr info`.

pub(crate) mod args;
mod document;
mod tree;

use pitr::archive::Search;
use pitr::format::{Severity, SourceName, TimelineId, Timestamp};
use pitr::objects::layout::{ObjectName, SOURCES};
use pitr::objects::{Entry, Objects, Readers};
use pitr::recovery::{History, Restorable, Target};
use pitr::snapshot;
use pitr::verify::{Record, Verifications};
use pitr::{BackupMetadata, Backups, Pitr};

use self::document::{Interval, Readable, Rehearsal, Snapshot, Source};
use self::tree::Timeline;
use super::{gaps, open_view, sources_of, targets};
use crate::args::Global;
use crate::failure::CliError;
use crate::failure::explain::explain;
use crate::output::values::{Position, SnapshotKind, Time};

pub(crate) fn run(global: &Global) -> Result<(), CliError> {
    let pitr = open_view(global)?;
    let names = match global.sources.as_slice() {
        [] => pitr.sources().map_err(explain)?,
        names => sources_of(&pitr, names, false).map_err(explain)?,
    };
    let verifications = pitr.verifications().map_err(explain)?;
    let sources = names.iter().map(|name| source(&pitr, name, &verifications)).collect::<Result<_, _>>()?;
    let stored_bytes = stored_bytes(pitr.objects()).map_err(|e| explain(e.into()))?;
    let readable_by = readable_by(&pitr)?;
    global.output().answer(&document::Info { sources, stored_bytes, readable_by })
}

/// Size of the repository, bytes: without leases, because this command has one itself, and without
/// log objects that were merged into others and that the next `prune` deletes.
fn stored_bytes(objects: &Objects) -> pitr::objects::Result<u64> {
    let is_lease = |entry: &Entry| matches!(ObjectName::parse(&entry.path), Some(ObjectName::Lease { .. }));
    let beside = objects.listing_beside_sources()?.entries;
    let of_sources = objects.view()?.listing(SOURCES)?.entries;
    Ok(beside.iter().chain(&of_sources).filter(|entry| !is_lease(entry)).map(|entry| entry.size).sum())
}

/// Who may read the repository besides its owner, and the command that changes it (FAILURES 58).
fn readable_by(pitr: &Pitr) -> Result<Option<Readable>, CliError> {
    let readers = pitr.objects().readers().map_err(|e| explain(e.into()))?;
    Ok(readers.map(|readers| Readable {
        who: if readers == Readers::Group { "group" } else { "everyone" },
        command: format!("chmod -R go= {}", quoted(pitr.objects().place())),
    }))
}

/// A path, quoted for a shell.
fn quoted(path: &str) -> String {
    let is_plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b));
    if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

fn source(pitr: &Pitr, name: &SourceName, verifications: &Verifications) -> Result<Source, CliError> {
    let newest = pitr.history(name, None).map_err(explain)?;
    let Backups { backups, damaged } = pitr.backups(name).map_err(explain)?;
    let followed = newest.lineage().timeline();
    let mut timelines: Vec<TimelineId> = newest.catalog().timelines().keys().copied().collect();
    if timelines.is_empty() {
        timelines.push(followed);
    }
    let mut tree = Vec::new();
    let mut restorable = Vec::new();
    let mut gaps = Vec::new();
    let mut latest: Option<Timestamp> = None;
    for timeline in timelines {
        let history = pitr.history(name, Some(timeline)).map_err(explain)?;
        let (history, spans) = history.reading(History::restorable).map_err(|e| explain(e.into()))?;
        latest = latest.max(spans.iter().map(|span| span.watermark).max());
        let is_newest = timeline == followed;
        tree.extend(in_tree(&history, is_newest)?);
        // A gap on an earlier timeline is listed with that timeline.
        let here =
            |after: Option<&Restorable>| after.map_or(is_newest, |span| span.from.timeline == timeline);
        gaps.extend(gaps::of(&history, &spans, here)?);
        // A span that ends on an earlier timeline is listed with that timeline.
        restorable.extend(spans.iter().filter(|span| span.to.timeline == timeline).map(|span| Interval {
            timeline: timeline.get(),
            from: targets::position(&span.from),
            to: targets::position(&span.to),
        }));
    }
    let engine = match backups.last() {
        Some(backup) => backup.engine.clone(),
        None => pitr.engines().default_engine().map_err(|e| explain(e.into()))?.name().to_owned(),
    };
    let points = pitr.points(name).map_err(explain)?.points;
    let now = pitr.clock().now();
    Ok(Source {
        name: name.to_string(),
        engine,
        snapshots: backups.iter().map(snapshot).collect(),
        damaged: damaged.iter().map(ToString::to_string).collect(),
        restorable,
        gaps,
        timelines: tree,
        points: points.iter().map(|point| point.name.to_string()).collect(),
        restore_seconds: estimate(newest)?,
        last_rehearsal: verifications.last_rehearsal(name).map(rehearsal),
        archive_lag_seconds: latest.filter(|at| *at > Timestamp::MIN).map(|at| seconds_since(at, now)),
    })
}

/// How long a restore of the latest state will take, by the measured rates of the repository, in
/// seconds; `None` if there is no state that can be restored, or if no rate was measured.
fn estimate(history: History) -> Result<Option<f64>, CliError> {
    let latest = |history: &History| history.estimate(&history.plan_for(&Target::latest())?);
    match history.reading(latest) {
        Ok((_, estimate)) => Ok((!estimate.is_guess).then_some(estimate.total().as_secs_f64())),
        Err(error) if error.severity() == Severity::Retry => Err(explain(error.into())),
        Err(_) => Ok(None),
    }
}

fn rehearsal(record: &Record) -> Rehearsal {
    Rehearsal {
        time: Time(record.at),
        tx: record.state.as_ref().map_or(0, |state| state.tx.get()),
        bytes: record.bytes,
        restore_seconds: record.restore_took.map_or(0.0, |took| took.as_secs_f64()),
        rto_seconds: record.rto.map(|rto| rto.as_secs_f64()),
        findings: record.count,
    }
}

/// The timeline that a history leads to; `None` for a source without a log.
fn in_tree(history: &History, followed: bool) -> Result<Option<Timeline>, CliError> {
    let timeline = history.lineage().timeline();
    let Some(began) = history.catalog().timelines().get(&timeline) else { return Ok(None) };
    let search = Search::new(history.archive(), history.pieces());
    let last = search.split(|_| true).map_err(|e| explain(e.into()))?.before;
    // The last commit before the fork is the parent's.
    let own = last.filter(|commit| began.parent.is_none() || commit.lsn > began.fork);
    Ok(Some(Timeline {
        timeline: timeline.get(),
        parent: began.parent.map(TimelineId::get),
        lsn: began.fork.get(),
        time: Time(began.created),
        reason: began.reason.as_str().to_owned(),
        newest: own.map(|commit| Position::of(commit.lsn, commit.tx, Time(commit.time))),
        followed,
    }))
}

/// Seconds from `earlier` to `now`, negative if `earlier` is later.
fn seconds_since(earlier: Timestamp, now: Timestamp) -> f64 {
    (now.since(earlier) as f64 - earlier.since(now) as f64) / 1e6
}

fn snapshot(backup: &BackupMetadata) -> Snapshot {
    Snapshot {
        snapshot_id: backup.id.to_string(),
        kind: match backup.kind {
            snapshot::SnapshotKind::Full => SnapshotKind::Full,
            snapshot::SnapshotKind::Incremental => SnapshotKind::Incremental,
        },
        parent_id: backup.parent.map(|id| id.to_string()),
        timeline: backup.timeline.get(),
        redo_from_lsn: backup.redo_from.get(),
        at: Position::of(backup.consistent_at, backup.tx, Time(backup.time)),
        created: Time(backup.created),
        logical_bytes: backup.logical_bytes,
        changed_bytes: backup.changed_bytes,
        stored_bytes: backup.stored_bytes,
        codec: backup.codec.to_string(),
        encrypted: backup.encrypted,
        root: backup.root.clone(),
    }
}
