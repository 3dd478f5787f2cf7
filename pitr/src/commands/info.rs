//! `pitr info`.

use pitr::Pitr;
use pitr::format::{SourceName, TimelineId, Timestamp};
use pitr::recovery::{History, Restorable};
use pitr::snapshot::{self, Manifest};

use super::failure::explain;
use super::{open, targets};
use crate::cli::args::Global;
use crate::cli::documents::{self, Gap, Interval, Kind, Position, Snapshot, Source, Time};
use crate::cli::exit::CliError;

pub(crate) fn run(global: &Global) -> Result<(), CliError> {
    let pitr = open(global)?;
    let names = match &global.source {
        Some(name) => vec![pitr.source(Some(name)).map_err(explain)?],
        None => pitr.sources().map_err(explain)?,
    };
    let sources = names.iter().map(|name| source(&pitr, name)).collect::<Result<_, _>>()?;
    let objects = pitr.objects().list("").map_err(|e| explain(e.into()))?;
    let stored_bytes = objects.iter().map(|entry| entry.size).sum();
    global.output().answer(&documents::Info { sources, stored_bytes })
}

fn source(pitr: &Pitr, name: &SourceName) -> Result<Source, CliError> {
    let newest = pitr.history(name, None).map_err(explain)?;
    let roots = snapshot::load_all(pitr.objects(), name).map_err(|e| explain(e.into()))?;
    let mut timelines: Vec<TimelineId> = newest.catalog().timelines().keys().copied().collect();
    if timelines.is_empty() {
        timelines.push(newest.lineage().timeline());
    }
    let mut restorable = Vec::new();
    let mut gaps = Vec::new();
    let mut latest: Option<Timestamp> = None;
    for timeline in timelines {
        let history = pitr.history(name, Some(timeline)).map_err(explain)?;
        let spans = history.restorable().map_err(|e| explain(e.into()))?;
        latest = latest.max(spans.iter().map(|span| span.watermark).max());
        gaps.extend(gaps_of(&history, &spans, timeline, timeline == newest.lineage().timeline())?);
        // A span that lies wholly on an earlier timeline is listed there.
        restorable.extend(spans.iter().filter(|span| span.to.timeline == timeline).map(|span| Interval {
            timeline: timeline.get(),
            from: targets::position(&span.from),
            to: targets::position(&span.to),
        }));
    }
    let engine = roots.manifests.last().map_or("sqlite", |m| m.meta.engine.as_str()).to_owned();
    let now = pitr.clock().now();
    Ok(Source {
        name: name.to_string(),
        engine,
        snapshots: roots.manifests.iter().map(snapshot_document).collect(),
        restorable,
        gaps,
        points: Vec::new(),
        archive_lag_seconds: latest.filter(|at| *at > Timestamp::MIN).map(|at| now.since(at) as f64 / 1e6),
    })
}

fn gaps_of(
    history: &History,
    spans: &[Restorable],
    timeline: TimelineId,
    newest: bool,
) -> Result<Vec<Gap>, CliError> {
    let mut out = Vec::new();
    for gap in history.gaps().map_err(|e| explain(e.into()))? {
        let from = spans
            .iter()
            .rev()
            .find(|span| span.end <= gap.from)
            .map(|span| Position { time: Time(span.watermark), ..targets::position(&span.to) });
        let after = spans.iter().find(|span| span.from.lsn >= gap.to);
        let here = after.map_or(newest, |span| span.from.timeline == timeline);
        let Some(from) = from.filter(|_| here) else { continue };
        let to = after.map(|span| targets::position(&span.from));
        out.push(Gap { from, to, reason: gap.cause.to_string() });
    }
    Ok(out)
}

fn snapshot_document(manifest: &Manifest) -> Snapshot {
    Snapshot {
        snapshot_id: manifest.id.to_string(),
        kind: match manifest.kind {
            snapshot::Kind::Full => Kind::Full,
            snapshot::Kind::Incremental => Kind::Incremental,
        },
        timeline: manifest.meta.timeline.get(),
        at: Position {
            lsn: manifest.meta.consistent_at.get(),
            tx: manifest.meta.tx.get(),
            time: Time(manifest.meta.time),
        },
        logical_bytes: manifest.sizes.logical,
        stored_bytes: manifest.sizes.stored,
    }
}
