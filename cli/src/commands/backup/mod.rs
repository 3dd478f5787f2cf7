//! `pitr backup`: takes one snapshot, or asks the running watcher of the database for one.

pub(crate) mod args;
mod document;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pitr::Pitr;
use pitr::engine::{
    Capture, CaptureOptions, ChangedRanges, Engine, Error as EngineError, Event, Events, ListError,
    LiveSource, TakeOptions, Taken,
};
use pitr::snapshot::Snapshot;
use pitr::vfs::open_file;

use self::args::Backup;
use super::watch::tell;
use super::{open_writing, source_of};
use crate::args::Global;
use crate::failure::CliError;
use crate::failure::explain::{explain, explain_of};
use crate::output::values::SnapshotKind;

pub(crate) fn run(global: &Global, args: &Backup) -> Result<(), CliError> {
    let pitr = open_writing(global, args.compress.unwrap_or_default())?;
    let begun = pitr.clock().monotonic();
    let engine = pitr.engines().detect(&args.database).map_err(|e| explain(e.into()))?;
    match engine.capture() {
        Some(capture) => captured(global, args, &pitr, engine, capture, begun),
        None => without_log(global, args, &pitr, engine, begun),
    }
}

/// A source whose commits are captured.
fn captured(
    global: &Global,
    args: &Backup,
    pitr: &Pitr,
    engine: &dyn Engine,
    capture: &dyn Capture,
    begun: Duration,
) -> Result<(), CliError> {
    if args.changed_ranges.is_some() {
        return Err(CliError::usage("--changed-ranges is for folders; omit it for a database"));
    }
    let place = capture.locate(&args.database).map_err(|e| explain(e.into()))?;
    let source = source_of(global, &place.resolved)?;
    let live = capture.source(&place, source, args.state.clone());
    let options = CaptureOptions {
        adopt: args.adopt,
        allow_hard_links: args.allow_hard_links,
        ..CaptureOptions::default()
    };
    let output = global.output();
    let events: Events = Arc::new(move |event| match event {
        Event::Watching | Event::Snapshot { .. } => {}
        other => tell(&output, "", &other),
    });
    let phase = global.progress().phase("snapshot", 0);
    let snapshot = match pitr.capture_once(engine, &live, options, args.full, events) {
        Err(pitr::Error::Engine(EngineError::Watched { .. })) => ask_watcher(pitr, capture, &live, args)?,
        other => other.map_err(explain_of(&args.database))?,
    };
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    global.output().answer(&describe(&snapshot, took))
}

/// A source without a log.
fn without_log(
    global: &Global,
    args: &Backup,
    pitr: &Pitr,
    engine: &dyn Engine,
    begun: Duration,
) -> Result<(), CliError> {
    if args.state.is_some() {
        return Err(CliError::usage("a folder has no local log; omit --state"));
    }
    let changed_ranges = args.changed_ranges.as_deref().map(read_ranges).transpose()?;
    let name = source_of(global, &args.database)?;
    let phase = global.progress().phase("snapshot", 0);
    let moved = global.source()?.is_some() || args.adopt;
    let options = TakeOptions { full: args.full, moved, changed_ranges, ..TakeOptions::default() };
    let taken = pitr.take_snapshot(engine, &name, &args.database, options).map_err(explain)?;
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    global.output().answer(&describe_taken(&taken, took))
}

fn describe_taken(taken: &Taken, took: Duration) -> document::Backup {
    let lossy = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    document::Backup {
        skipped: lossy(&taken.skipped),
        vanished: lossy(&taken.vanished),
        changed: lossy(&taken.changed),
        cut: lossy(&taken.cut),
        changed_ranges: document::ChangedRanges::of(taken.ranges),
        ..describe(&taken.snapshot, took)
    }
}

fn read_ranges(list: &Path) -> Result<ChangedRanges, CliError> {
    let read = open_file(list).map_err(ListError::from);
    let read = read.and_then(|file| ChangedRanges::read(BufReader::new(file)));
    read.map_err(|e| {
        CliError::usage(e)
            .at(list.display())
            .next("correct the list, or omit --changed-ranges to compare all files")
    })
}

/// Asks the running watcher, which holds the log, to take the snapshot.
fn ask_watcher(
    pitr: &Pitr,
    capture: &dyn Capture,
    live: &LiveSource,
    args: &Backup,
) -> Result<Snapshot, CliError> {
    if args.compress.is_some() {
        let what = "the running watcher of this database takes the snapshot, with its own compression";
        return Err(CliError::usage(what).next("omit --compress"));
    }
    capture.ask(pitr.objects(), live, args.full).map_err(|e| explain(e.into()))
}

fn describe(snapshot: &Snapshot, took: Duration) -> document::Backup {
    document::Backup {
        snapshot_id: snapshot.id.to_string(),
        kind: match snapshot.kind {
            pitr::snapshot::SnapshotKind::Full => SnapshotKind::Full,
            pitr::snapshot::SnapshotKind::Incremental => SnapshotKind::Incremental,
        },
        lsn: snapshot.meta.consistent_at.get(),
        logical_bytes: snapshot.sizes.logical,
        changed_bytes: snapshot.sizes.changed,
        stored_bytes: snapshot.sizes.stored,
        seconds: took.as_secs_f64(),
        skipped: Vec::new(),
        vanished: Vec::new(),
        changed: Vec::new(),
        cut: Vec::new(),
        changed_ranges: None,
    }
}
