//! Several sources at one moment: all of them, or none.

use std::time::Duration;

use pitr::Pitr;
use pitr::directory::OutputFolder;
use pitr::format::{SourceName, Timestamp};
use pitr::recovery::{self, History, Moment, Target};

use super::check_rto;
use super::job::Job;
use crate::cli::args::{Global, Restore};
use crate::cli::code::Code;
use crate::cli::documents::Time;
use crate::cli::exit::CliError;
use crate::cli::restored::{self as documents, Room};
use crate::cli::target;
use crate::commands::failure::explain;

/// Names beside a database that SQLite takes for parts of it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(super) fn restore(
    global: &Global,
    args: &Restore,
    pitr: &Pitr,
    sources: &[SourceName],
) -> Result<(), CliError> {
    check_options(args)?;
    check_names(sources)?;
    let begun = pitr.clock().monotonic();
    let histories = sources.iter().map(|source| pitr.history(source, None).map_err(explain));
    let histories = histories.collect::<Result<Vec<_>, _>>()?;
    let moment = moment(args, &histories, pitr.clock().now()).map_err(|(number, error)| {
        let source = sources.get(number).map_or("", |source| source.as_str());
        explain(error.into()).at(format_args!("source {source}"))
    })?;
    global.output().remark(format_args!("target: {moment}"));
    let target = Target { moment: Moment::Time(moment), exclusive: args.exclusive };
    let jobs = sources.iter().zip(histories).map(|(source, history)| {
        let job = Job::new(history, &target, args.or_before);
        job.map(|job| (source, job)).map_err(|error| explain(error).at(format_args!("source {source}")))
    });
    let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    let room = room(args, pitr, &jobs)?;
    let (documents, room) = match args.dry_run {
        true => (plans(args, pitr, &jobs)?, Some(room)),
        false => (build(global, args, pitr, &jobs, begun)?, None),
    };
    let took = match args.dry_run {
        true => Duration::from_secs_f64(documents.iter().map(|document| document.seconds).sum()),
        false => pitr.clock().monotonic().saturating_sub(begun),
    };
    global.output().answer(&documents::Together {
        moment: Time(moment),
        output: args.output.display().to_string(),
        sources: documents,
        room,
        seconds: took.as_secs_f64(),
        dry_run: args.dry_run,
    })?;
    check_rto(args, took)
}

fn check_options(args: &Restore) -> Result<(), CliError> {
    let refuse = |what: &str, next: &str| Err(CliError::usage(what).next(next));
    match args {
        _ if !matches!(args.to, target::Target::Latest | target::Target::Time(_)) => {
            refuse("several sources have only times in common", "give --to a time, or latest")
        }
        _ if args.timeline.is_some() => refuse(
            "each source has timelines of its own",
            "restore the sources one by one, or leave --timeline out",
        ),
        _ if args.exclusive && args.to == target::Target::Latest => refuse(
            "several sources have no last commit in common",
            "give --to a time, or leave --exclusive out",
        ),
        _ if args.delta => {
            refuse("--delta is for one source", "restore the sources one by one, or leave it out")
        }
        _ => Ok(()),
    }
}

/// Each source is restored under its name: two must not meet, and none may be taken for a part of another.
fn check_names(sources: &[SourceName]) -> Result<(), CliError> {
    let names: Vec<String> = sources.iter().map(|source| source.as_str().to_lowercase()).collect();
    for (number, name) in names.iter().enumerate() {
        let others = names.iter().enumerate().filter(|(other, _)| *other != number);
        for (_, other) in others {
            let rest = other.strip_prefix(name.as_str());
            if rest.is_some_and(|rest| rest.is_empty() || COMPANIONS.contains(&rest)) {
                return Err(CliError::usage(format_args!(
                    "the sources {name} and {other} would meet in one folder"
                ))
                .next("restore them one by one"));
            }
        }
    }
    Ok(())
}

/// The moment to which all are restored. For `latest` it is the newest at which the state of each is known.
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

/// The room that all take together; refused if there is less.
fn room(args: &Restore, pitr: &Pitr, jobs: &[(&SourceName, Job)]) -> Result<Room, CliError> {
    let mut all = Room { needed_bytes: 0, free_bytes: None };
    for (_, job) in jobs {
        let room = job.room(pitr, &args.output).map_err(explain)?;
        all.needed_bytes = all.needed_bytes.saturating_add(room.needed_bytes);
        all.free_bytes = room.free_bytes;
    }
    match all.free_bytes {
        Some(free) if free < all.needed_bytes => Err(CliError::of(
            Code::NoRoom,
            format_args!("the restore needs {} bytes, and {free} bytes are free", all.needed_bytes),
        )
        .at(args.output.display())
        .next("nothing was written; make room, or name an output on another disk")),
        _ => Ok(all),
    }
}

fn plans(
    args: &Restore,
    pitr: &Pitr,
    jobs: &[(&SourceName, Job)],
) -> Result<Vec<documents::Restore>, CliError> {
    let plan = |(source, job): &(&SourceName, Job)| {
        let room = job.room(pitr, &args.output).map_err(explain)?;
        let document = job.plan_document(&args.output.join(source.as_str()), room).map_err(explain)?;
        Ok(documents::Restore { source: Some(source.to_string()), ..document })
    };
    jobs.iter().map(plan).collect()
}

/// Builds all in a folder that gets its name when it is whole.
fn build(
    global: &Global,
    args: &Restore,
    pitr: &Pitr,
    jobs: &[(&SourceName, Job)],
    begun: Duration,
) -> Result<Vec<documents::Restore>, CliError> {
    let failed = |error: pitr::directory::Error| explain(error.into());
    let folder = OutputFolder::begin(&args.output, args.force).map_err(failed)?;
    let mut documents = Vec::with_capacity(jobs.len());
    for (source, job) in jobs {
        let built = job.build(global, args, pitr, &folder.folder().join(source.as_str()), begun)?;
        let output = args.output.join(source.as_str()).display().to_string();
        documents.push(documents::Restore { source: Some(source.to_string()), output, ..built });
    }
    if let Some(moved) = folder.publish(args.force, pitr.clock().now()).map_err(failed)? {
        global.output().remark(format_args!("moved aside: {}", moved.display()));
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_would_meet_are_refused() {
        let check = |names: &[&str]| {
            check_names(&names.iter().map(|name| SourceName::new(name).unwrap()).collect::<Vec<_>>()).is_ok()
        };
        assert!(check(&["a", "b", "a-b", "wal", "aa"]));
        for names in
            [&["a", "a"][..], &["App", "app"], &["a-wal", "a"], &["b", "a", "A-journal"], &["a", "a-shm"]]
        {
            assert!(!check(names), "{names:?}");
        }
    }
}
