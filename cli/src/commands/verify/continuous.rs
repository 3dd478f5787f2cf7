//! `pitr verify --every`: rounds of validation until a signal.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pitr::recovery::Rto;
use pitr::verify::{Candidate, Rehearsal};
use pitr::{Pitr, Round};
use serde::Serialize;

use super::alerts::{Alerts, Findings};
use super::args::Verify;
use super::metrics;
use crate::args::Global;
use crate::commands::stopping::on_signals;
use crate::commands::{open, sources_of, within_rto};
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};
use crate::output::{Document, human};

/// Longest pause between two looks at the stop flag.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Answer of `verify --every`, at its end.
#[derive(Debug, Default, Serialize)]
struct Continuous {
    rounds: u64,
    rehearsals: u64,
    /// Rehearsals that could not be carried out.
    failed: u64,
    findings: u64,
    /// Rehearsals that took longer than --rto.
    late: u64,
    seconds: f64,
}

impl Document for Continuous {
    fn for_people(&self) -> String {
        let Continuous { rounds, rehearsals, failed, findings, late, seconds } = self;
        let time = human::seconds(*seconds);
        let unless_none =
            |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
        let failed = unless_none(*failed, "could not be carried out");
        let late = unless_none(*late, "slower than the RTO");
        format!("{rounds} rounds, {rehearsals} rehearsals{failed}{late}, {findings} findings in {time}\n")
    }
}

pub(super) fn run(global: &Global, args: &Verify, every: Duration) -> Result<(), CliError> {
    let alerts = Alerts::new(args)?;
    let stop = on_signals()?;
    let pitr = open(global)?;
    let pitr = match args.rate.and_then(NonZeroU64::new) {
        None => pitr,
        Some(rate) => pitr.at_rate(rate),
    };
    let mut options = args.validation();
    if !global.sources.is_empty() {
        options.sources = sources_of(&pitr, &global.sources, false).map_err(explain)?;
    }
    if let Some(path) = &args.metrics {
        metrics::check(path)?;
    }
    let begun = pitr.clock().monotonic();
    let mut sum = Continuous::default();
    let mut failed = None;
    while !stop.load(Ordering::Relaxed) {
        let round_begun = pitr.clock().monotonic();
        let mut tell = |one: &Candidate, outcome: &pitr::Result<Rehearsal>| match outcome {
            Ok(rehearsal) => global.output().remark(format_args!(
                "{} {}: {} restored in {}, {} findings",
                one.source,
                one.snapshot,
                human::bytes(rehearsal.bytes),
                human::duration(rehearsal.restore_time),
                rehearsal.findings.len()
            )),
            Err(error) => global.output().remark(format_args!("{} {}: {error}", one.source, one.snapshot)),
        };
        match pitr.validation_round(&options, &mut tell) {
            Ok(round) => {
                failed = None;
                sum.add(&round, args.rto);
                report(global, &pitr, args.rto, &round, &alerts);
                // A disk that is full for a while must not end the validation.
                let written =
                    args.metrics.as_deref().map_or(Ok(()), |path| metrics::write(&pitr, &round, path));
                written.unwrap_or_else(|error| global.output().always(error));
            }
            // The repository may be out of reach for a while.
            Err(error) => {
                global.output().remark(format_args!("this round ended early: {error}"));
                failed = Some(error);
            }
        }
        sum.rounds += 1;
        if args.rounds.is_some_and(|most| sum.rounds >= most) {
            break;
        }
        pause(&pitr, &stop, round_begun.saturating_add(every));
    }
    sum.seconds = pitr.clock().monotonic().saturating_sub(begun).as_secs_f64();
    let (findings, late) = (sum.findings, sum.late);
    global.output().answer(&sum)?;
    match (failed, findings) {
        (Some(error), _) => Err(explain(error).after_the_answer()),
        (None, 0) if late > 0 => {
            let what = format_args!("{late} rehearsed restores took longer than the RTO");
            Err(CliError::new(Exit::TooLate, what).next("take snapshots more often").after_the_answer())
        }
        (None, 0) => Ok(()),
        (None, _) => {
            let what = format_args!("{findings} findings in {} rounds", sum.rounds);
            Err(CliError::new(Exit::Corrupt, what)
                .next("`pitr verify` lists the faults of objects, `pitr info` the last rehearsals")
                .after_the_answer())
        }
    }
}

impl Continuous {
    fn add(&mut self, round: &Round, rto: Option<Rto>) {
        let failed = round.rehearsals.iter().filter(|(_, outcome)| outcome.is_err()).count() as u64;
        self.rehearsals += round.rehearsals.len() as u64 - failed;
        self.failed += failed;
        self.findings += round.findings() as u64;
        let copies = round.rehearsals.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        self.late += copies.filter(|copy| within_rto(rto, copy.restore_time).is_err()).count() as u64;
    }
}

/// Sleeps until a time of the monotonic clock, or until the flag is set.
fn pause(pitr: &Pitr, stop: &AtomicBool, until: Duration) {
    while !stop.load(Ordering::Relaxed) {
        match until.checked_sub(pitr.clock().monotonic()) {
            None | Some(Duration::ZERO) => return,
            Some(left) => pitr.clock().sleep(left.min(LOOK_EVERY)),
        }
    }
}

/// Prints the findings of a round, and tells those who want to know.
fn report(global: &Global, pitr: &Pitr, rto: Option<Rto>, round: &Round, alerts: &Alerts) {
    let mut text = String::new();
    for fault in &round.report.faults {
        let _ = writeln!(text, "{}: {}", fault.object, fault.what);
    }
    let of_copies = round.rehearsals.iter().filter_map(|(one, outcome)| Some((one, outcome.as_ref().ok()?)));
    for (Candidate { source, snapshot, .. }, rehearsal) in of_copies {
        for found in &rehearsal.findings {
            let _ = writeln!(text, "{source} {snapshot}: {}: {}", found.check, found.what);
        }
        if let Err(error) = within_rto(rto, rehearsal.restore_time) {
            let _ = writeln!(text, "{source} {snapshot}: {error}");
        }
    }
    if text.is_empty() {
        return;
    }
    let kind = if round.is_whole { "every byte read" } else { "a sample read" };
    global.output().always(format_args!("{} findings ({kind}):\n{}", round.findings(), text.trim_end()));
    let count = text.lines().count();
    alerts.tell(global, Findings { repository: pitr.objects().place(), count, text });
}
