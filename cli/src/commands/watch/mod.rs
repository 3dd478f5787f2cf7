//! `pitr watch`: archives the commits of databases until SIGINT or SIGTERM.

pub(crate) mod args;
mod document;
mod folders;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pitr::engine::{Capture, CaptureOptions, Event, Events, Found, LiveSource, Search, Summary};
use pitr::format::SourceName;
use pitr::vfs::lower_priority;

use self::args::Watch;
use self::folders::Searching;
use super::stopping::on_signals;
use super::{open_writing, source_of};
use crate::args::Global;
use crate::failure::explain::{explain, explain_of};
use crate::failure::{CliError, Exit};
use crate::output::{Output, human};

pub(crate) fn run(global: &Global, args: Watch) -> Result<(), CliError> {
    pitr::vfs::give_large_allocations_back();
    raise_descriptor_limit();
    let pitr = open_writing(global, args.compress)?;
    // A second signal ends the program at once, even if archiving the rest hangs.
    let stop = on_signals()?;
    let pool = rayon::ThreadPoolBuilder::new().start_handler(|_| lower_priority()).build_global();
    pool.map_err(|e| CliError::new(Exit::Failed, e).at("starting the threads"))?;
    let (folders, databases): (Vec<PathBuf>, Vec<PathBuf>) =
        args.databases.iter().cloned().partition(|path| path.is_dir());
    let has_folders = !folders.is_empty();
    // Named sources, and sources found in folders, belong to one engine.
    let engines = pitr.engines();
    let engine = databases.first().map_or_else(|| engines.default_engine(), |path| engines.detect(path));
    let engine = engine.map_err(|e| explain(e.into()))?;
    let capture = engine.need_capture().map_err(|e| explain(e.into()))?;
    let sources = live_sources(global, &args, capture, &databases)?;
    let options = CaptureOptions {
        // A folder may contain hundreds of databases, each with a log.
        is_fleet: has_folders,
        ship_every: args.rpo.get(),
        snapshot_every: Some(args.snapshot_every),
        adopt: args.adopt,
        allow_hard_links: args.allow_hard_links,
        ..CaptureOptions::default()
    };
    let mut search = Searching::new(global, &args, capture, folders, &sources)?;
    let found = search.next_found();
    let announce = Announce::of(global.output(), sources.len() + found.len());
    let mut fleet = pitr.fleet(engine, options).map_err(explain)?;
    for live in sources {
        let events = announce.events(&live.source);
        if live.place.resolved.exists() {
            let explain = explain_of(&live.place.resolved);
            fleet.add(live, events).map_err(|e| explain(e.into()))?;
        } else {
            fleet.add_waiting(live, events);
        }
    }
    for live in found {
        let events = announce.events(&live.source);
        fleet.add_found(Found { live, events });
    }
    let begun = pitr.clock().monotonic();
    let later = announce.clone();
    let found_later = move || {
        let found = search.next_found().into_iter();
        found.map(|live| Found { events: later.events(&live.source), live }).collect()
    };
    let ended = fleet.run(&stop, has_folders.then_some(Box::new(found_later) as Search<'_>));
    let ended = ended.map_err(|e| explain(e.into()))?;
    let seconds = pitr.clock().monotonic().saturating_sub(begun);
    let mut done = Vec::new();
    let mut failed = None;
    for (name, outcome) in ended {
        match outcome {
            Ok(summary) => done.push((name, summary)),
            Err(e) => {
                failed.get_or_insert(explain(e.into()).at(&name));
            }
        }
    }
    match failed {
        None => global.output().answer(&describe(&done, seconds)),
        Some(error) => Err(error),
    }
}

/// Raises the limit of open files: each watched database needs nine, and the usual limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If this fails, fewer databases can be watched. An event names each database that is not
    // watched.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn live_sources(
    global: &Global,
    args: &Watch,
    capture: &dyn Capture,
    databases: &[PathBuf],
) -> Result<Vec<LiveSource>, CliError> {
    let several = args.databases.len() > 1 || databases.is_empty();
    if several && !global.sources.is_empty() {
        return Err(CliError::usage("--source names one source").next("omit it to watch several databases"));
    }
    let mut names = BTreeSet::new();
    let mut sources = Vec::new();
    for database in databases {
        // A database that does not exist yet is waited for.
        let place = capture.locate(database).map_err(|e| explain(e.into()))?;
        let source = source_of(global, &place.resolved)?;
        if !names.insert(source.clone()) {
            return Err(CliError::usage(format_args!(
                "two databases would both have the source name {source}"
            ))
            .next("watch them with separate commands, each with its own --source"));
        }
        let state =
            args.state.as_ref().map(|dir| if several { dir.join(source.as_str()) } else { dir.clone() });
        sources.push(capture.source(&place, source, state));
    }
    Ok(sources)
}

/// Prints `watching` when every database that existed at the start is captured.
#[derive(Clone)]
struct Announce {
    output: Output,
    left: Arc<AtomicUsize>,
}

impl Announce {
    fn of(output: Output, databases: usize) -> Self {
        if databases == 0 {
            output.always("watching");
        }
        Announce { output, left: Arc::new(AtomicUsize::new(databases)) }
    }

    /// A handler that prints the events of one source.
    fn events(&self, source: &SourceName) -> Events {
        let (announce, source, first) = (self.clone(), source.clone(), AtomicBool::new(true));
        Arc::new(move |event| {
            let decided = matches!(event, Event::Watching | Event::Waiting(_));
            let counts = decided && first.swap(false, Ordering::Relaxed) && announce.count_down();
            // Databases that exist at the start share one line, `watching`.
            if !(counts && matches!(event, Event::Watching)) {
                tell(&announce.output, source.as_str(), &event);
            }
            if counts && announce.left.load(Ordering::Relaxed) == 0 {
                announce.output.always("watching");
            }
        })
    }

    /// True if the database existed at the start.
    fn count_down(&self) -> bool {
        let left = &self.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Prints an event to standard error.
pub(super) fn tell(output: &Output, source: &str, event: &Event) {
    let text = match event {
        Event::Watching => "watched from now on".to_owned(),
        Event::Gap(reason) => format!("GAP: {}; taking a new base", reason.as_str()),
        Event::Forked { timeline, reason } => format!("timeline {timeline} begins: {}", reason.as_str()),
        Event::ClockBehind { until } => format!(
            "the clock is earlier than the last archived time, {until}; commits get that time until the clock passes it"
        ),
        Event::SetAside { path, why } => {
            format!("the local log can't be used and was moved to {}: {why}", path.display())
        }
        Event::Snapshot { snapshot, took } => format!(
            "snapshot {} at transaction {}: {} changed, {} stored, in {}",
            snapshot.id.short(),
            snapshot.meta.tx,
            human::bytes(snapshot.sizes.changed),
            human::bytes(snapshot.sizes.stored),
            human::duration(*took)
        ),
        Event::ParentDamaged(why) => {
            format!("{why}; the next snapshot does not use it; run `pitr verify`")
        }
        Event::SnapshotFailed(why) => format!("snapshot failed: {why}; retrying"),
        Event::ShipFailed(why) => {
            format!("the repository can't be written: {why}; commits stay in the local log until it can")
        }
        Event::ShipRecovered => "the repository can be written again".to_owned(),
        Event::Waiting(why) => format!("NOT WATCHED: {why}; retrying"),
        Event::Removed => "the database was removed from the folder; no longer watched".to_owned(),
        Event::Warning(what) => what.clone(),
        other => format!("{other:?}"),
    };
    if source.is_empty() {
        output.remark(text);
    } else {
        output.remark(format_args!("{source}: {text}"));
    }
}

fn describe(done: &[(SourceName, Summary)], seconds: Duration) -> document::Watch {
    let mut held: Vec<Duration> = done.iter().flat_map(|(_, summary)| &summary.write_lock).copied().collect();
    held.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let p99 = (held.len() * 99).div_ceil(100).saturating_sub(1);
    document::Watch {
        commits: done.iter().map(|(_, summary)| summary.commits).sum(),
        pages: done.iter().map(|(_, summary)| summary.pages).sum(),
        w_lock: document::WriteLock { count: held.len(), p99_ms: ms(held.get(p99)), max_ms: ms(held.last()) },
        seconds: seconds.as_secs_f64(),
        sources: done
            .iter()
            .map(|(name, summary)| document::Watched {
                name: name.to_string(),
                commits: summary.commits,
                archived_lsn: summary.archived.get(),
                last_tx: summary.last_tx.map(pitr::format::TxId::get),
            })
            .collect(),
    }
}
