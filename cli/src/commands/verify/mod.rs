//! `pitr verify`.

mod alerts;
pub(crate) mod args;
mod continuous;
mod document;
mod metrics;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use pitr::format::SourceName;
use pitr::verify::{COVERAGE_WINDOW, Fault, Options, Progress, Report};
use pitr::vfs::lower_priority;
use pitr::{LiveOptions, Pitr, RehearsalRequest};

use self::args::{Parts, Verify};
use self::document::{Failure, Finding, Live, Rehearsal, Spoiled};
use super::bars::Bars;
use super::targets::{self, Wanted};
use super::{open, sources_of, within_rto};
use crate::args::Global;
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};

pub(crate) fn run(global: &Global, args: &Verify) -> Result<(), CliError> {
    args.check_budget()?;
    if let Some(every) = args.every {
        return continuous::run(global, args, every);
    }
    let Parts { objects, rehearsal, live } = args.parts()?;
    if live.is_some() {
        // An application writes to the database. Threads inherit the priority.
        lower_priority();
    }
    if let Some(path) = args.report.as_deref().filter(|path| path.exists()) {
        let what = "the report exists already; nothing was verified";
        return Err(CliError::usage(what).at(path.display()).next("give another name"));
    }
    let pitr = open(global)?;
    let begun = pitr.clock().monotonic();
    let report = match objects {
        Some(options) => check_objects(global, &pitr, options)?,
        None => Report::default(),
    };
    let copies = || -> Result<(Vec<Rehearsal>, Vec<Live>), CliError> {
        let rehearse = |request| rehearse(global, args, &pitr, &request);
        let compare = |options| compare_live(global, args, &pitr, &options);
        Ok((rehearsal.map_or(Ok(Vec::new()), rehearse)?, live.map_or(Ok(Vec::new()), compare)?))
    };
    let (rehearsals, compared) = match copies() {
        Ok(done) => done,
        // The faults explain it, and are not kept from the user.
        Err(error) if !report.faults.is_empty() => {
            global.output().always(&error);
            (Vec::new(), Vec::new())
        }
        Err(error) => return Err(error),
    };
    if let Some(path) = &args.report {
        write_report(&pitr, objects.is_some().then_some(&report), path)?;
    }
    let seconds = pitr.clock().monotonic().saturating_sub(begun).as_secs_f64();
    let findings: usize = rehearsals.iter().map(|rehearsal| rehearsal.findings.len()).sum();
    let slowest = rehearsals.iter().map(|rehearsal| rehearsal.restore_seconds).fold(0.0, f64::max);
    let differing = compared.iter().filter(|compared| !compared.ok).count();
    let count = report.faults.len() + findings + differing;
    global.output().answer(&document::Verify {
        ok: count == 0,
        checked_bytes: report.bytes,
        checked_objects: report.objects,
        snapshots: report.snapshots,
        failures: report.faults.iter().map(failure).collect(),
        rehearsals,
        live: compared,
        pending: report.pending.clone(),
        strangers: report.strangers.clone(),
        seconds,
    })?;
    match (count, report.faults.len()) {
        (0, _) => within_rto(args.rto, Duration::from_secs_f64(slowest))
            .map_err(|error| error.next("the copy is sound; take snapshots more often").after_the_answer()),
        (_, 0) if differing > 0 => {
            Err(CliError::new(Exit::Corrupt, "the live database and the archive differ")
                .next("take a new base with `pitr backup --full`, and keep the repository for an examination")
                .after_the_answer())
        }
        (count, 0) => Err(CliError::new(Exit::Corrupt, format_args!("{count} findings in restored copies"))
            .after_the_answer()),
        (count, _) => Err(CliError::new(Exit::Corrupt, format_args!("{count} faults found"))
            .next("snapshots without a fault can still be restored")
            .after_the_answer()),
    }
}

/// Writes the report. A file of that name is refused before, and never replaced.
fn write_report(pitr: &Pitr, report: Option<&Report>, path: &Path) -> Result<(), CliError> {
    let page = pitr.audit(report, COVERAGE_WINDOW).map_err(explain)?.html();
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| CliError::new(Exit::Failed, error).at(path.display()))
}

fn check_objects(global: &Global, pitr: &Pitr, options: Options) -> Result<Report, CliError> {
    let phase = OnceLock::new();
    let progress =
        |at: Progress| phase.get_or_init(|| global.progress().phase("verify", at.total)).set(at.done);
    pitr.verify(options, &progress).map_err(explain)
}

fn failure(fault: &Fault) -> Failure {
    let spoiled = |(source, id): &(SourceName, pitr::snapshot::SnapshotId)| Spoiled {
        source: source.to_string(),
        snapshot_id: id.to_string(),
    };
    Failure {
        kind: fault.kind.into(),
        object: fault.object.clone(),
        what: fault.what.clone(),
        snapshots: fault.snapshots.iter().map(spoiled).collect(),
    }
}

/// Compares the live database of each source, or of those named, with the archive.
fn compare_live(
    global: &Global,
    args: &Verify,
    pitr: &Pitr,
    options: &LiveOptions,
) -> Result<Vec<Live>, CliError> {
    let sources = sources_of(pitr, &global.sources, args.database.is_none()).map_err(explain)?;
    if let (Some(path), 2..) = (&args.database, sources.len()) {
        let what = "--database is the place of one source, and several are given";
        return Err(CliError::usage(what).at(path.display()).next("give --source once"));
    }
    let mut compared = Vec::new();
    for source in sources {
        let report = pitr.compare_live(&source, args.database.as_deref(), options).map_err(explain)?;
        compared.push(Live::of(&source, &report));
    }
    Ok(compared)
}

/// Rehearses the target of each source, or of those named.
fn rehearse(
    global: &Global,
    args: &Verify,
    pitr: &Pitr,
    request: &RehearsalRequest,
) -> Result<Vec<Rehearsal>, CliError> {
    let pitr = pitr.view().map_err(explain)?;
    let sources = sources_of(&pitr, &global.sources, true).map_err(explain)?;
    let now = pitr.clock().now();
    let mut rehearsals = Vec::new();
    for source in sources {
        let wanted = Wanted::new(&pitr, &source, &args.to, now)?;
        let history = wanted.history(&pitr, &source, None)?;
        let target = pitr::recovery::Target::at(wanted.moment.clone());
        let plan = history.plan_for(&target).map_err(|error| explain(error.into()))?;
        let bars = Bars::new(global.progress());
        let rehearsal = pitr.rehearse(&history, &plan, request, &|at| bars.tell(at)).map_err(explain)?;
        let finding = |found: &pitr::verify::RehearsalFinding| Finding {
            check: found.check.clone(),
            what: found.what.clone(),
        };
        rehearsals.push(Rehearsal {
            source: source.to_string(),
            snapshot_id: plan.snapshot.map(|id| id.to_string()),
            timeline: plan.reached.timeline.get(),
            state: targets::position(&rehearsal.state),
            bytes: rehearsal.bytes,
            compared_bytes: rehearsal.compared_bytes,
            restore_seconds: rehearsal.restore_time.as_secs_f64(),
            check_seconds: rehearsal.check_time.as_secs_f64(),
            findings: rehearsal.findings.iter().map(finding).collect(),
        });
    }
    Ok(rehearsals)
}
