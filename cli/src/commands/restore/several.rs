//! Restores several sources to the same time: all of them, or none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pitr::Pitr;
use pitr::format::{SourceName, Timestamp};
use pitr::recovery::{self, Estimate, History, OutputRules, RecoveryTarget, StagedOutput, Target};
use pitr::vfs::OsFs;

use super::args::Restore;
use super::document::{self as documents, Room};
use super::job::Job;
use super::layout::layout;
use super::{check_estimate, check_rto};
use crate::args::Global;
use crate::args::target;
use crate::failure::explain::explain;
use crate::failure::{CliError, Code};
use crate::output::values::Time;

/// A source to restore.
struct Part<'a> {
    source: &'a SourceName,
    /// The source's path in the output folder.
    path: PathBuf,
    job: Job,
}

pub(super) fn restore(
    global: &Global,
    args: &Restore,
    pitr: &Pitr,
    sources: &[SourceName],
) -> Result<(), CliError> {
    check_options(args)?;
    let begun = pitr.clock().monotonic();
    let histories = sources.iter().map(|source| pitr.history(source, None).map_err(explain));
    let histories = histories.collect::<Result<Vec<_>, _>>()?;
    let moment = moment(args, &histories, pitr.clock().now()).map_err(|(number, error)| {
        let source = sources.get(number).map_or("", |source| source.as_str());
        explain(error.into()).at(format_args!("source {source}"))
    })?;
    global.output().remark(format_args!("target: {moment}"));
    let target = Target { moment: RecoveryTarget::Timestamp(moment), exclusive: args.exclusive };
    let origins = sources.iter().zip(&histories).map(|(source, history)| {
        let origin = history.archive().origin().map_err(|error| explain(error.into()))?;
        Ok((source.clone(), origin))
    });
    let origins = origins.collect::<Result<Vec<_>, CliError>>()?;
    let paths = layout(&origins, &pitr.engines().companions())?;
    let jobs = sources.iter().zip(histories).zip(paths).map(|((source, history), path)| {
        match Job::new(history, &target, args) {
            Ok(job) => Ok(Part { source, path, job }),
            Err(error) => Err(explain(error).at(format_args!("source {source}"))),
        }
    });
    let parts = jobs.collect::<Result<Vec<_>, _>>()?;
    let room = room(args, pitr, &parts)?;
    let estimate = match args.dry_run || args.rto.is_some() {
        true => estimate(&parts)?,
        false => None,
    };
    if let Some(estimate) = estimate.filter(|_| !args.dry_run) {
        check_estimate(args, &estimate)?;
    }
    let (documents, room) = match args.dry_run {
        true => (plans(args, pitr, &parts)?, Some(room)),
        false => (build(global, args, pitr, &parts, begun)?, None),
    };
    let took = match estimate.filter(|_| args.dry_run) {
        Some(estimate) => estimate.total(),
        None => pitr.clock().monotonic().saturating_sub(begun),
    };
    global.output().answer(&documents::Together {
        moment: Time(moment),
        output: args.output().display().to_string(),
        sources: documents,
        room,
        seconds: took.as_secs_f64(),
        dry_run: args.dry_run,
    })?;
    match estimate.filter(|_| args.dry_run) {
        Some(estimate) => check_estimate(args, &estimate).map_err(CliError::after_the_answer),
        None => check_rto(args, took),
    }
}

/// How long the restores take, one after the other.
fn estimate(parts: &[Part<'_>]) -> Result<Option<Estimate>, CliError> {
    let each = parts.iter().map(|part| part.job.estimate().map_err(explain));
    let each = each.collect::<Result<Vec<_>, _>>()?;
    Ok(each.into_iter().reduce(|sum, one| sum.and(&one)))
}

fn check_options(args: &Restore) -> Result<(), CliError> {
    let refuse = |what: &str, next: &str| Err(CliError::usage(what).next(next));
    match args {
        _ if !matches!(args.to, target::Target::Latest | target::Target::Time(_)) => {
            refuse("several sources need a common time", "give --to a time, or latest")
        }
        _ if args.timeline.is_some() => {
            refuse("each source has its own timelines", "restore the sources one by one, or omit --timeline")
        }
        _ if args.exclusive && args.to == target::Target::Latest => {
            refuse("several sources have no common last commit", "give --to a time, or omit --exclusive")
        }
        _ if args.delta => {
            refuse("--delta is for one source", "restore the sources one by one, or omit --delta")
        }
        _ => Ok(()),
    }
}

/// The time to restore to. For `latest`, the newest time at which the state of every source is
/// known.
fn moment(
    args: &Restore,
    histories: &[History],
    now: Timestamp,
) -> Result<Timestamp, (usize, recovery::Error)> {
    match args.to {
        target::Target::Time(moment) => Ok(moment.resolve(now)),
        _ if args.or_before => recovery::earliest_watermark(histories),
        _ => recovery::newest_common(histories),
    }
}

/// The disk space that all sources need together. Fails if less is free.
fn room(args: &Restore, pitr: &Pitr, parts: &[Part<'_>]) -> Result<Room, CliError> {
    let mut all = Room { needed_bytes: 0, free_bytes: None };
    for part in parts {
        let room = part.job.room(pitr, args).map_err(explain)?;
        all.needed_bytes = all.needed_bytes.saturating_add(room.needed_bytes);
        all.free_bytes = room.free_bytes;
    }
    match all.free_bytes {
        Some(free) if free < all.needed_bytes => Err(CliError::of(
            Code::NoRoom,
            format_args!("the restore needs {} bytes, and {free} bytes are free", all.needed_bytes),
        )
        .at(args.output().display())
        .next("nothing was written; free disk space, or give an output on another disk")),
        _ => Ok(all),
    }
}

fn plans(args: &Restore, pitr: &Pitr, parts: &[Part<'_>]) -> Result<Vec<documents::Restore>, CliError> {
    let plan = |Part { source, path, job }: &Part<'_>| {
        let room = job.room(pitr, args).map_err(explain)?;
        let estimate = job.estimate().map_err(explain)?;
        let document = job.plan_document(&args.output().join(path), room, &estimate).map_err(explain)?;
        Ok(documents::Restore { source: Some(source.to_string()), ..document })
    };
    parts.iter().map(plan).collect()
}

/// The folders and files in the output, unfinished files too.
fn inside(parts: &[Part<'_>]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let above = |path: &Path| -> Vec<PathBuf> {
        let mut above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        above.retain(|folder| !folder.as_os_str().is_empty());
        above.reverse();
        above
    };
    let mut folders: Vec<PathBuf> = parts.iter().flat_map(|part| above(&part.path)).collect();
    folders.sort();
    folders.dedup();
    let files = parts.iter().flat_map(|part| StagedOutput::files(&part.path)).collect();
    (folders, files)
}

/// Builds all sources in a temporary folder, and publishes it when it is complete. What an
/// interrupted restore left there is used again.
fn build(
    global: &Global,
    args: &Restore,
    pitr: &Pitr,
    parts: &[Part<'_>],
    begun: Duration,
) -> Result<Vec<documents::Restore>, CliError> {
    let failed = |error: recovery::Error| explain(error.into());
    let rules = OutputRules { force: args.force, companions: &[] };
    let mut folder = StagedOutput::take(&OsFs, args.output(), rules).map_err(failed)?;
    let (folders, files) = inside(parts);
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let is_resumed = folder.resume_folder(&folders, &files).map_err(failed)?;
    folder.keep(true);
    let mut documents = Vec::with_capacity(parts.len());
    for Part { source, path, job } in parts {
        if let Some(parent) = path.parent() {
            folder.create_dirs(parent).map_err(failed)?;
        }
        let built = job.build(global, args, pitr, &folder.partial().join(path), is_resumed, begun)?;
        let output = args.output().join(path).display().to_string();
        documents.push(documents::Restore { source: Some(source.to_string()), output, ..built });
    }
    for moved in folder.publish(pitr.clock().now()).map_err(failed)? {
        global.output().remark(format_args!("moved aside: {}", moved.display()));
    }
    Ok(documents)
}
