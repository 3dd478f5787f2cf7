//! `pitr watch`: one thread for each database, until a signal asks to end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pitr::Pitr;
use pitr::format::SourceName;
use pitr::sqlite::place::Place;
use pitr::sqlite::watch::fleet::Search;
use pitr::sqlite::watch::{Event, Events, Found, LogOptions, Subject, Summary, WatchOptions, lower_priority};

use super::failure::{explain, explain_of};
use super::folders::Searching;
use super::open_writing;
use crate::cli::args::{self, Global};
use crate::cli::documents;
use crate::cli::exit::{CliError, Exit};
use crate::cli::human;
use crate::cli::output::Output;

pub(crate) fn run(global: &Global, args: args::Watch) -> Result<(), CliError> {
    pitr_vfs::give_large_allocations_back();
    raise_descriptor_limit();
    let pitr = open_writing(global, args.compress)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends the program at once: a drain that hangs must not hold anybody up.
        let handlers = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        handlers.map_err(|e| CliError::new(Exit::Failed, e).at("installing the signal handlers"))?;
    }
    let pool = rayon::ThreadPoolBuilder::new().start_handler(|_| lower_priority()).build_global();
    pool.map_err(|e| CliError::new(Exit::Failed, e).at("starting the threads"))?;
    let (folders, databases): (Vec<PathBuf>, Vec<PathBuf>) =
        args.databases.iter().cloned().partition(|path| path.is_dir());
    let has_folders = !folders.is_empty();
    let subjects = subjects(global, &args, &databases)?;
    // A folder may hold hundreds of databases, each with a segment of log and perhaps a thread.
    let log = if has_folders { LogOptions::MANY } else { LogOptions::default() };
    let options = WatchOptions {
        log,
        ship_every: args.rpo,
        snapshot_every: Some(args.snapshot_every),
        adopt: args.adopt,
        allow_hard_links: args.allow_hard_links,
        ..WatchOptions::default()
    };
    let mut search = Searching::new(global, &args, folders, &subjects)?;
    let found = search.next_found();
    let announce = Announce::of(global.output(), subjects.len() + found.len());
    let mut fleet = pitr.fleet(options).map_err(explain)?;
    for subject in subjects {
        let events = announce.events(&subject.source);
        if subject.database.exists() {
            let explain = explain_of(&subject.database);
            fleet.add(pitr.watch(subject, options, events).map_err(explain)?);
        } else {
            fleet.add_waiting(subject, events);
        }
    }
    for subject in found {
        let events = announce.events(&subject.source);
        fleet.add_found(Found { watched: subject, events });
    }
    let begun = pitr.clock().monotonic();
    let later = announce.clone();
    let found_later = move || {
        let found = search.next_found().into_iter();
        found.map(|subject| Found { events: later.events(&subject.source), watched: subject }).collect()
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
        None => global.output().answer(&document(&done, seconds)),
        Some(error) => Err(error),
    }
}

/// Each watched database needs nine descriptors, and the usual limit is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, fewer databases can be watched; the error then says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn subjects(global: &Global, args: &args::Watch, databases: &[PathBuf]) -> Result<Vec<Subject>, CliError> {
    let several = args.databases.len() > 1 || databases.is_empty();
    if several && !global.sources.is_empty() {
        return Err(
            CliError::usage("--source names one source").next("leave it out to watch several databases")
        );
    }
    let mut names = BTreeSet::new();
    let mut subjects = Vec::new();
    for database in databases {
        // One that does not exist yet is waited for.
        let place = if database.symlink_metadata().is_ok() {
            Place::resolve(database)
        } else {
            Place::absent(database)
        };
        let place = place.map_err(|e| explain(e.into()))?;
        let source = source_of(global, place.resolved())?;
        if !names.insert(source.clone()) {
            return Err(CliError::usage(format_args!("two databases would both be the source {source}"))
                .next("watch them by two commands, each with its --source"));
        }
        let state =
            args.state.as_ref().map(|dir| if several { dir.join(source.as_str()) } else { dir.clone() });
        subjects.push(Subject::new(&place, source, state));
    }
    Ok(subjects)
}

/// The source's name: the one given, or the file's.
pub(super) fn source_of(global: &Global, database: &Path) -> Result<SourceName, CliError> {
    match global.source()? {
        Some(name) => SourceName::new(name).map_err(CliError::usage),
        None => Pitr::source_for(database).map_err(explain),
    }
}

/// Says `watching` once every database that was there at the begin is captured.
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

    /// Tells the events of one source.
    fn events(&self, source: &SourceName) -> Events {
        let (announce, source, first) = (self.clone(), source.clone(), AtomicBool::new(true));
        Arc::new(move |event| {
            let decided = matches!(event, Event::Watching | Event::Waiting(_));
            let counts = decided && first.swap(false, Ordering::Relaxed) && announce.count_down();
            // One that is captured at the begin is no news; the line for all of them is.
            if !(counts && matches!(event, Event::Watching)) {
                tell(&announce.output, source.as_str(), &event);
            }
            if counts && announce.left.load(Ordering::Relaxed) == 0 {
                announce.output.always("watching");
            }
        })
    }

    /// True if it was one of those that were there at the begin.
    fn count_down(&self) -> bool {
        let left = &self.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Says an event on standard error.
pub(super) fn tell(output: &Output, source: &str, event: &Event) {
    let text = match event {
        Event::Watching => "watched from now on".to_owned(),
        Event::Gap(reason) => format!("GAP: {}; a new base is taken", reason.as_str()),
        Event::Forked { timeline, reason } => format!("timeline {timeline} begins: {}", reason.as_str()),
        Event::ClockBehind { until } => format!(
            "the clock is behind the last archived time, {until}; commits get that time until the clock has passed it"
        ),
        Event::SetAside { path, why } => {
            format!("the local log can't be used and was set aside as {}: {why}", path.display())
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
            format!("{why}; the next snapshot is taken without it, see `pitr verify`")
        }
        Event::SnapshotFailed(why) => format!("no snapshot was taken: {why}; it is tried again"),
        Event::ShipFailed(why) => format!(
            "the repository can't be written: {why}; commits are kept in the local log and shipped later"
        ),
        Event::ShipRecovered => "the repository can be written again".to_owned(),
        Event::Waiting(why) => format!("NOT WATCHED: {why}; trying again"),
        Event::Removed => "the database is gone from the folder; it is watched no longer".to_owned(),
        Event::OldLibrary { version } => format!(
            "the application uses SQLite {}.{}.{}, which can lose commits when a checkpoint meets a restart of the log; use 3.51.3 or newer",
            version / 1_000_000,
            version / 1000 % 1000,
            version % 1000
        ),
        other => format!("{other:?}"),
    };
    if source.is_empty() {
        output.remark(text);
    } else {
        output.remark(format_args!("{source}: {text}"));
    }
}

fn document(done: &[(SourceName, Summary)], seconds: Duration) -> documents::Watch {
    let mut held: Vec<Duration> = done.iter().flat_map(|(_, summary)| &summary.write_lock).copied().collect();
    held.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |t| t.as_secs_f64() * 1e3);
    let p99 = (held.len() * 99).div_ceil(100).saturating_sub(1);
    documents::Watch {
        commits: done.iter().map(|(_, summary)| summary.commits).sum(),
        pages: done.iter().map(|(_, summary)| summary.pages).sum(),
        w_lock: documents::WriteLock {
            count: held.len(),
            p99_ms: ms(held.get(p99)),
            max_ms: ms(held.last()),
        },
        seconds: seconds.as_secs_f64(),
        sources: done
            .iter()
            .map(|(name, summary)| documents::Watched {
                name: name.to_string(),
                commits: summary.commits,
                archived_lsn: summary.archived.get(),
                last_tx: summary.last_tx.map(pitr::format::TxId::get),
            })
            .collect(),
    }
}
