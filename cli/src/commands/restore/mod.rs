//! `pitr restore`: restores one source, or several to the same time.

pub(crate) mod args;
mod document;
mod job;
mod layout;
mod several;

use std::path::Path;
use std::time::Duration;

use pitr::Pitr;
use pitr::format::SourceName;
use pitr::recovery::{Estimate, RecoveryTarget, Target};

use self::args::Restore;
use self::document as documents;
use self::job::Job;
use super::targets::Wanted;
use super::{open_view, sources_of, within_rto};
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Code, Exit};

pub(crate) fn run(global: &Global, args: &Restore) -> Result<(), CliError> {
    // Needs no repository: a container can restart while the repository is unreachable.
    if args.if_absent && is_there(args.output())? {
        return skip(global, args, Code::OutputExists);
    }
    let pitr = open_view(global)?;
    let sources = match sources_of(&pitr, &global.sources, args.all) {
        Err(pitr::Error::NoSource { .. } | pitr::Error::UnknownSource { .. }) if args.if_source_exists => {
            return skip(global, args, Code::NoSource);
        }
        other => other.map_err(explain)?,
    };
    match sources.as_slice() {
        [_, _, ..] if args.validate => Err(CliError::usage("--validate is for one source")
            .next("give one --source, and validate the sources one by one")),
        [source] if !args.all => one(global, args, &pitr, source),
        several => several::restore(global, args, &pitr, several),
    }
}

fn one(global: &Global, args: &Restore, pitr: &Pitr, source: &SourceName) -> Result<(), CliError> {
    if args.if_source_exists && holds_nothing(pitr, source)? {
        return skip(global, args, Code::NoSource);
    }
    let begun = pitr.clock().monotonic();
    let wanted = Wanted::new(pitr, source, &args.to, pitr.clock().now())?;
    if let RecoveryTarget::Timestamp(time) = wanted.moment {
        global.output().remark(format_args!("target: {time}"));
    }
    let history = wanted.history(pitr, source, args.timeline)?;
    let others = wanted.others(&history, args.timeline)?;
    let target = Target { moment: wanted.moment, exclusive: args.exclusive };
    let job = Job::new(history, &target, args).map_err(|error| others.explain(error))?;
    others.remark(global);
    if args.validate {
        return global.output().answer(&job.validate(global, args, pitr)?);
    }
    if args.dry_run {
        let (room, estimate) = (job.room(pitr, args).map_err(explain)?, job.estimate().map_err(explain)?);
        global.output().answer(&job.plan_document(args.output(), room, &estimate).map_err(explain)?)?;
        return check_estimate(args, &estimate).map_err(CliError::after_the_answer);
    }
    if args.rto.is_some() {
        check_estimate(args, &job.estimate().map_err(explain)?)?;
    }
    let document = job.build(global, args, pitr, args.output(), args.in_place, begun)?;
    global.output().answer(&document)?;
    check_rto(args, pitr.clock().monotonic().saturating_sub(begun))
}

/// True if the output exists. A dangling link does not count; a restore refuses it.
fn is_there(output: &Path) -> Result<bool, CliError> {
    output.try_exists().map_err(|error| CliError::new(Exit::Failed, error).at(output.display()))
}

/// True if a source has neither a snapshot nor a log yet. A damaged snapshot counts.
fn holds_nothing(pitr: &Pitr, source: &SourceName) -> Result<bool, CliError> {
    let found = pitr.backups(source).map_err(explain)?;
    let has_snapshots = !found.backups.is_empty() || !found.damaged.is_empty();
    Ok(!has_snapshots && pitr.history(source, None).map_err(explain)?.pieces().is_empty())
}

fn skip(global: &Global, args: &Restore, code: Code) -> Result<(), CliError> {
    let existed = code == Code::OutputExists;
    let output = args.output().display().to_string();
    global.output().answer(&documents::Skipped { skipped: code, existed, output })
}

/// Fails if the restore would not meet the RTO.
fn check_estimate(args: &Restore, estimate: &Estimate) -> Result<(), CliError> {
    let within = args.rto.map_or(Ok(()), |rto| estimate.within(rto));
    within.map_err(|error| {
        let next = if args.dry_run {
            "take snapshots more often"
        } else {
            "nothing was restored; omit --rto to restore without a limit"
        };
        explain(error.into()).next(next)
    })
}

/// Fails if the restore has not met the RTO. The result is kept.
fn check_rto(args: &Restore, took: Duration) -> Result<(), CliError> {
    within_rto(args.rto, took).map_err(|error| {
        let next = "the result is kept; take snapshots more often, or use more --workers";
        error.next(next).after_the_answer()
    })
}
