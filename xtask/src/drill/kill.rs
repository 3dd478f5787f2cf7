//! The watcher killed while the application writes and truncates its log, then started again, some times over. What was committed in
//! between and is gone from the application's log is a hole: it stands under `gaps`, and a moment inside is refused or exact, never
//! quietly wrong. Everything else comes back.

use super::exact::{compare, remove};
use super::{Seed, Stage, check_order, judged, settle};
use crate::Result;
use crate::moments::{self, Dice, MARGIN_US, Moment, micros};
use crate::program::UNREACHABLE;
use crate::verdict::Verdict;
use crate::witness::Witness;
use jiff::Timestamp;
use serde_json::Value;
use std::thread;
use std::time::Duration;

const NUMBERS_TRIED: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// How often the watcher is killed
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Delay each file and lock call of the watcher by this many microseconds, so that the application comes between any
    /// two steps of its attach. Needs strace
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) slow: Option<u32>,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

/// From the kill until the next watcher stood. That nothing was committed after the last commit before the kill is known to no one.
#[derive(Debug, Clone, Copy)]
struct Unwatched {
    from_us: i64,
    to_us: i64,
}

impl Unwatched {
    /// Whether a moment may be refused: from the last commit before the kill on; commits near the ends may have been seen or not.
    fn touches(&self, at_us: i64, witness: &Witness) -> bool {
        let last = witness.states.iter().rev().find(|state| state.after_us < self.from_us - MARGIN_US);
        let from = last.map_or(self.from_us, |state| state.after_us);
        (from..=self.to_us + MARGIN_US).contains(&at_us)
    }
}

impl Kill {
    pub(crate) fn run(&self) -> Result<bool> {
        let slow = self.slow.map_or_else(String::new, |micros| format!(" --slow {micros}"));
        let command =
            format!("cargo xtask drill kill --rounds {}{slow} --seed {}", self.rounds, self.seed.seed);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let seed = self.seed.seed.to_string();
        let mut stage = Stage::new("kill", "writer.py", &[&seed, "0", "--truncate"])?;
        let mut witness = Witness::new(&stage.ready)?;
        let dice = &mut Dice(self.seed.seed);

        let watch_again = || match self.slow {
            None => stage.program.watch(&stage.database, &[]),
            Some(micros) => stage.program.watch_slowly(&stage.database, micros),
        };
        let mut watch = watch_again()?;
        stage.application.tell("go")?;
        let mut unwatched = Vec::new();
        for _ in 0..self.rounds {
            thread::sleep(Duration::from_millis(2_000 + dice.below(700)));
            watch.kill()?;
            let from_us = Timestamp::now().as_microsecond();
            thread::sleep(Duration::from_millis(2_500));
            watch = watch_again()?;
            let span = Unwatched { from_us, to_us: Timestamp::now().as_microsecond() };
            verdict.step(format_args!(
                "unwatched {} to {}",
                moments::rfc3339(span.from_us),
                moments::rfc3339(span.to_us)
            ));
            unwatched.push(span);
        }
        thread::sleep(Duration::from_millis(2_000));
        stage.application.tell("stop")?;
        let events = stage.application.until("done")?;
        witness.add(&events)?;
        settle();
        watch.stop()?;
        verdict.figure(format_args!("{} commits, {} kills", witness.commits(), self.rounds));

        check_gaps(&stage, &witness, &events, &unwatched, verdict)?;
        check_latest(&stage, &mut witness, verdict)?;
        check_moments(&stage, &mut witness, &unwatched, dice, verdict)?;
        check_numbers(&stage, &mut witness, dice, verdict)
    }
}

/// Each time that commits were truncated away unseen must be covered by a gap.
fn check_gaps(
    stage: &Stage,
    witness: &Witness,
    events: &[Value],
    unwatched: &[Unwatched],
    verdict: &mut Verdict,
) -> Result<()> {
    let source = stage.source()?;
    let gaps = source["gaps"].as_array().cloned().unwrap_or_default();
    let mut expected = 0;
    for span in unwatched {
        let truncated = events.iter().filter(|event| event["event"] == "checkpoint" && event["busy"] == 0);
        let truncated = truncated
            .filter_map(|event| event["time_us"].as_i64())
            .filter(|at| (span.from_us..span.to_us).contains(at))
            .max();
        let lost = |at: i64| {
            witness.states.iter().find(|state| state.before_us > span.from_us && state.after_us < at)
        };
        let Some(lost) = truncated.and_then(lost) else { continue };
        expected += 1;
        let covers = |gap: &Value| {
            micros(&gap["from"]["time"]).is_some_and(|from| from <= lost.after_us)
                && micros(&gap["to"]["time"]).is_none_or(|to| to >= lost.before_us)
        };
        verdict.check(
            gaps.iter().any(covers),
            format_args!(
                "commit of {} was truncated away unseen, gaps are {gaps:?}",
                moments::rfc3339(lost.after_us)
            ),
        );
    }
    verdict.check(
        expected > 0,
        "the application never truncated its log unwatched: the drill proved nothing; try another seed",
    );
    verdict.check(
        gaps.len() <= unwatched.len(),
        format_args!("{} gaps after {} kills", gaps.len(), unwatched.len()),
    );
    verdict.figure(format_args!("{} gaps, {expected} holes certain", gaps.len()));
    Ok(())
}

fn check_latest(stage: &Stage, witness: &mut Witness, verdict: &mut Verdict) -> Result<()> {
    let output = stage.world.path("latest.db");
    let called = stage.program.restore("latest", &output, &[])?;
    let state = witness.commits();
    compare(witness, verdict, &called, &output, state)?;
    remove(&output)
}

/// Watched moments are exact; unwatched ones are refused or exact.
fn check_moments(
    stage: &Stage,
    witness: &mut Witness,
    unwatched: &[Unwatched],
    dice: &mut Dice,
    verdict: &mut Verdict,
) -> Result<()> {
    let log = stage.log()?;
    let (mut exact, mut refused, mut uncertain) = (0, 0, 0);
    for moment in moments::quiet(witness, dice) {
        let output = stage.world.path("moment.db");
        let called = stage.program.restore(&moment.target(), &output, &[])?;
        if called.code == Some(UNREACHABLE) && !output.exists() {
            if unwatched.iter().any(|span| span.touches(moment.at_us, witness)) {
                refused += 1;
            } else if is_uncertain(&log, moment) {
                uncertain += 1;
            } else {
                verdict
                    .fail(format_args!("watched moment refused: {called}; expected state {}", moment.state));
            }
            continue;
        }
        compare(witness, verdict, &called, &output, moment.state)?;
        remove(&output)?;
        exact += 1;
    }
    verdict.check(exact > 0, "not one moment was restored");
    verdict.figure(format_args!(
        "moments by time: {exact} restored, {refused} refused in or beside a hole, {uncertain} refused as uncertain"
    ));
    Ok(())
}

fn is_uncertain(log: &[Value], moment: Moment) -> bool {
    log.iter().any(|entry| {
        micros(&entry["earliest"]).is_some_and(|from| from <= moment.at_us)
            && micros(&entry["time"]).is_some_and(|to| moment.at_us <= to)
    })
}

/// What the log shows comes back as a state that was, in the order in which they were.
fn check_numbers(stage: &Stage, witness: &mut Witness, dice: &mut Dice, verdict: &mut Verdict) -> Result<()> {
    let log = stage.log()?;
    check_order(&log, verdict);
    let log = dice.sample(log, NUMBERS_TRIED);
    let mut last = 0;
    for entry in &log {
        let target = format!("tx:{}", entry["tx"]);
        let output = stage.world.path("number.db");
        let called = stage.program.restore(&target, &output, &[])?;
        if called.code != Some(0) {
            verdict.fail(format_args!("{target} stands in the log, but {called}"));
            continue;
        }
        match witness.which(&output)? {
            None => verdict.fail(format_args!("`{}` is no state that ever was", called.line)),
            Some(state) => {
                verdict.check(
                    state > last,
                    format_args!("{target} is state {state}, after one that is state {last}"),
                );
                let (from, to) = (micros(&entry["earliest"]), micros(&entry["time"]));
                let at = &witness.states[state];
                verdict.check(
                    from.is_some_and(|from| from <= at.after_us) && to.is_some_and(|to| to >= at.before_us),
                    format_args!(
                        "{target} is state {state} of {}, not {entry}",
                        moments::rfc3339(at.after_us)
                    ),
                );
                last = state;
            }
        }
        remove(&output)?;
    }
    verdict.figure(format_args!("{} transactions by number", log.len()));
    Ok(())
}
