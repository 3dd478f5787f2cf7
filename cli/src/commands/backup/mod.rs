//! `pitr backup`: takes one snapshot, or asks the running watcher of the database for one.

pub(crate) mod args;
mod document;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pitr::Pitr;
use pitr::directory::{self, ChangedRanges, ListError, Taken};
use pitr::snapshot::Snapshot;
use pitr::sqlite::Error as SqliteError;
use pitr::sqlite::place::Place;
use pitr::sqlite::watch::control::{self, Request};
use pitr::sqlite::watch::{Event, Events, WatchOptions, WatchSource};
use pitr::vfs::open_file;

use self::args::Backup;
use super::watch::tell;
use super::{open_writing, source_of};
use crate::args::Global;
use crate::failure::explain::{explain, explain_of};
use crate::failure::{CliError, Exit};
use crate::output::values::SnapshotKind;

pub(crate) fn run(global: &Global, args: &Backup) -> Result<(), CliError> {
    let pitr = open_writing(global, args.compress.unwrap_or_default())?;
    let begun = pitr.clock().monotonic();
    if args.database.is_dir() {
        let taken = folder(global, args, &pitr)?;
        let took = pitr.clock().monotonic().saturating_sub(begun);
        let lossy = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
        return global.output().answer(&document::Backup {
            skipped: lossy(&taken.skipped),
            vanished: lossy(&taken.vanished),
            changed: lossy(&taken.changed),
            cut: lossy(&taken.cut),
            changed_ranges: document::ChangedRanges::of(taken.ranges),
            ..describe(&taken.snapshot, took)
        });
    }
    if args.changed_ranges.is_some() {
        return Err(CliError::usage("--changed-ranges is for folders; omit it for a database"));
    }
    let place = Place::resolve(&args.database).map_err(|e| explain(e.into()))?;
    let source = source_of(global, place.resolved())?;
    let watched = WatchSource::new(&place, source, args.state.clone());
    let options = WatchOptions {
        adopt: args.adopt,
        allow_hard_links: args.allow_hard_links,
        ..WatchOptions::default()
    };
    let output = global.output();
    let events: Events = Arc::new(move |event| match event {
        Event::Watching | Event::Snapshot { .. } => {}
        other => tell(&output, "", &other),
    });
    let phase = global.progress().phase("snapshot", 0);
    let snapshot = match pitr.watch(watched.clone(), options, events) {
        Ok(mut watch) => watch.snapshot_once(args.full).map_err(|e| explain(e.into()))?,
        Err(pitr::Error::Sqlite(SqliteError::Locked { .. })) => ask_watcher(&pitr, &watched, args)?,
        Err(e) => return Err(explain_of(&args.database)(e)),
    };
    drop(phase);
    let took = pitr.clock().monotonic().saturating_sub(begun);
    global.output().answer(&describe(&snapshot, took))
}

fn folder(global: &Global, args: &Backup, pitr: &Pitr) -> Result<Taken, CliError> {
    if args.state.is_some() {
        return Err(CliError::usage("a folder has no local log; omit --state"));
    }
    let changed_ranges = args.changed_ranges.as_deref().map(read_ranges).transpose()?;
    let name = source_of(global, &args.database)?;
    let phase = global.progress().phase("snapshot", 0);
    let moved = global.source()?.is_some() || args.adopt;
    let options = directory::BackupOptions { full: args.full, moved, changed_ranges, ..Default::default() };
    let taken = pitr.backup_folder(&name, &args.database, options).map_err(explain)?;
    drop(phase);
    Ok(taken)
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
fn ask_watcher(pitr: &Pitr, watched: &WatchSource, args: &Backup) -> Result<Snapshot, CliError> {
    if args.compress.is_some() {
        let what = "the running watcher of this database takes the snapshot, with its own compression";
        return Err(CliError::usage(what).next("omit --compress"));
    }
    let request = if args.full { Request::FullSnapshot } else { Request::Snapshot };
    let answer = control::ask(&watched.state, request).map_err(|e| {
        CliError::new(
            Exit::Locked,
            format_args!("another pitr process uses this database and answers no requests: {e}"),
        )
        .at(watched.state.display())
        .next("wait until it ends, or stop it")
    })?;
    let answer = answer.map_err(|e| CliError::new(Exit::Failed, e).at("the running watcher"))?;
    let path = answer.split(' ').next().unwrap_or_default();
    Snapshot::load(pitr.objects(), path).map_err(|e| explain(e.into()))
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
