//! `pitr backup`: one snapshot, taken here or by the watcher that owns the log.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pitr::Pitr;
use pitr::engine::{
    Capture, CaptureOptions, ChangedRanges, Engine, Error as EngineError, Event, Events, ListError, Subject,
    TakeOptions, Taken,
};
use pitr::snapshot::Snapshot;

use pitr_vfs::open_file;

use super::failure::{explain, explain_of};
use super::open_writing;
use super::watch::{source_of, tell};
use crate::cli::args::{Backup, Global};
use crate::cli::documents::{self, SnapshotKind};
use crate::cli::exit::CliError;

pub(crate) fn run(global: &Global, args: &Backup) -> Result<(), CliError> {
    let pitr = open_writing(global, args.compress.unwrap_or_default())?;
    let begun = pitr.clock().monotonic();
    let engine = pitr.engines().detect(&args.database);
    match engine.capture() {
        Some(capture) => live(global, args, &pitr, engine, capture, begun),
        None => quiet(global, args, &pitr, engine, begun),
    }
}

/// A source whose commits are captured.
fn live(
    global: &Global,
    args: &Backup,
    pitr: &Pitr,
    engine: &dyn Engine,
    capture: &dyn Capture,
    begun: Duration,
) -> Result<(), CliError> {
    if args.changed_ranges.is_some() {
        return Err(CliError::usage(
            "what changed in a database stands in its log; leave --changed-ranges out",
        ));
    }
    let place = capture.locate(&args.database).map_err(|e| explain(e.into()))?;
    let source = source_of(global, &place.resolved)?;
    let subject = capture.subject(&place, source, args.state.clone());
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
    let snapshot = match pitr.capture_once(engine, &subject, options, args.full, events) {
        Err(pitr::Error::Engine(EngineError::Watched { .. })) => ask_watcher(pitr, capture, &subject, args)?,
        other => other.map_err(explain_of(&args.database))?,
    };
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    global.output().answer(&document(&snapshot, took))
}

/// A source without a log.
fn quiet(
    global: &Global,
    args: &Backup,
    pitr: &Pitr,
    engine: &dyn Engine,
    begun: Duration,
) -> Result<(), CliError> {
    if args.state.is_some() {
        return Err(CliError::usage("a folder has no local log; leave --state out"));
    }
    let changed_ranges = args.changed_ranges.as_deref().map(read_ranges).transpose()?;
    let name = source_of(global, &args.database)?;
    let phase = global.progress().phase("snapshot", 0);
    let moved = global.source()?.is_some() || args.adopt;
    let options = TakeOptions { full: args.full, moved, changed_ranges, ..TakeOptions::default() };
    let taken = pitr.take_snapshot(engine, &name, &args.database, options).map_err(explain)?;
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    global.output().answer(&taken_document(&taken, took))
}

fn taken_document(taken: &Taken, took: Duration) -> documents::Backup {
    let lossy = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    documents::Backup {
        skipped: lossy(&taken.skipped),
        vanished: lossy(&taken.vanished),
        changed: lossy(&taken.changed),
        cut: lossy(&taken.cut),
        changed_ranges: documents::ChangedRanges::of(taken.ranges),
        ..document(&taken.snapshot, took)
    }
}

fn read_ranges(list: &Path) -> Result<ChangedRanges, CliError> {
    let read = open_file(list).map_err(ListError::from);
    let read = read.and_then(|file| ChangedRanges::read(BufReader::new(file)));
    read.map_err(|e| {
        CliError::usage(e)
            .at(list.display())
            .next("mend it, or leave --changed-ranges out: then all is looked at")
    })
}

/// A running watcher owns the log; it takes the snapshot for us.
fn ask_watcher(
    pitr: &Pitr,
    capture: &dyn Capture,
    subject: &Subject,
    args: &Backup,
) -> Result<Snapshot, CliError> {
    if args.compress.is_some() {
        let what = "a process that watches this database takes the snapshot, and compresses as it was told when it began";
        return Err(CliError::usage(what).next("leave --compress out"));
    }
    capture.ask(pitr.objects(), subject, args.full).map_err(|e| explain(e.into()))
}

fn document(snapshot: &Snapshot, took: Duration) -> documents::Backup {
    documents::Backup {
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
