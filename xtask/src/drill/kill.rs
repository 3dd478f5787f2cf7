//! The watcher is killed while the application writes and truncates its -wal file, and started
//! again, several times. Commits in between that are gone from the -wal file are a gap: `gaps`
//! lists it, and a moment inside is refused or exact, never silently wrong. Everything else is
//! restored.

use super::archive::{Place, StoreKind, Way};
use super::exact::{compare, remove};
use super::{Seed, Stage, check_order, judged, settle};
use crate::Result;
use crate::moments::{self, MARGIN_US, Moment, Rng, micros};
use crate::program::{Program, UNREACHABLE};
use crate::verdict::Verdict;
use crate::witness::Witness;
use crate::world::World;
use jiff::Timestamp;
use pitr_testkit::proxy::Faults;
use serde_json::Value;
use std::thread;
use std::time::Duration;

const NUMBERS_TRIED: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// Number of kills
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Delay each file and lock call of the watcher by this many microseconds, so that the
    /// application runs between any two steps of its attach. Needs strace
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) slow: Option<u32>,
    /// Put the repository into this object store, on this machine
    #[arg(long, value_enum)]
    pub(crate) store: Option<StoreKind>,
    /// Delay each request to the store
    #[arg(long, value_name = "MILLISECONDS", requires = "store", default_value_t = 0)]
    pub(crate) delay: u64,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

/// The time from the kill until the next watcher was attached. It is unknown whether anything was
/// committed between the last commit before the kill and the kill.
#[derive(Debug, Clone, Copy)]
struct Unwatched {
    from_us: i64,
    to_us: i64,
}

impl Unwatched {
    /// True if a moment may be refused: from the last commit before the kill on. Commits near the
    /// ends may have been captured or not.
    fn touches(&self, at_us: i64, witness: &Witness) -> bool {
        let last = witness.states.iter().rev().find(|state| state.after_us < self.from_us - MARGIN_US);
        let from = last.map_or(self.from_us, |state| state.after_us);
        (from..=self.to_us + MARGIN_US).contains(&at_us)
    }
}

impl Kill {
    pub(crate) fn run(&self) -> Result<bool> {
        let slow = self.slow.map_or_else(String::new, |micros| format!(" --slow {micros}"));
        let store =
            self.store.map_or_else(String::new, |store| format!(" --store {store} --delay {}", self.delay));
        let command =
            format!("cargo xtask drill kill --rounds {}{slow}{store} --seed {}", self.rounds, self.seed.seed);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let seed = self.seed.seed.to_string();
        let args = [seed.as_str(), "0", "--truncate"];
        let server = World::new("kill-store")?;
        let latency = Duration::from_millis(self.delay);
        let faults = Faults { latency, ..Faults::none(self.seed.seed) };
        // Dropped after the stage, which uses it.
        let place = self.store.map(|store| Place::start(store, &server, faults)).transpose()?;
        let mut stage = match &place {
            None => Stage::new("kill", "writer.py", &args)?,
            Some(place) => {
                let program = Program::in_store(&place.url(), place.environment(Way::ByProxy))?;
                Stage::with("kill", "writer.py", &args, program)?
            }
        };
        let mut witness = Witness::new(&stage.ready)?;
        let rng = &mut Rng(self.seed.seed);

        let watch_again = || match self.slow {
            None => stage.program.watch(&stage.database, &[]),
            Some(micros) => stage.program.watch_slowly(&stage.database, micros),
        };
        let mut watch = watch_again()?;
        stage.application.send("go")?;
        let mut unwatched = Vec::new();
        for _ in 0..self.rounds {
            thread::sleep(Duration::from_millis(2_000 + rng.below(700)));
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
        stage.application.send("stop")?;
        let events = stage.application.events_until("done")?;
        witness.add(&events)?;
        settle();
        watch.stop()?;
        verdict.figure(format_args!("{} commits, {} kills", witness.commits(), self.rounds));
        if let Some(place) = &place {
            // What was archived is the subject: it is read without the delay.
            stage.program = stage.program.through(place.environment(Way::Direct));
        }

        check_gaps(&stage, &witness, &events, &unwatched, verdict)?;
        check_latest(&stage, &mut witness, verdict)?;
        check_moments(&stage, &mut witness, &unwatched, rng, verdict)?;
        check_numbers(&stage, &mut witness, rng, verdict)
    }
}

/// Every commit that was truncated away uncaptured must be covered by a gap.
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
                "the commit of {} was truncated away uncaptured, but the gaps are {gaps:?}",
                moments::rfc3339(lost.after_us)
            ),
        );
    }
    verdict.check(
        expected > 0,
        "the application never truncated its -wal file while unwatched: the drill proved nothing; try another seed",
    );
    verdict.check(
        gaps.len() <= unwatched.len(),
        format_args!("{} gaps after {} kills", gaps.len(), unwatched.len()),
    );
    verdict.figure(format_args!("{} gaps, {expected} of them certain", gaps.len()));
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
    rng: &mut Rng,
    verdict: &mut Verdict,
) -> Result<()> {
    let log = stage.log()?;
    let (mut exact, mut refused, mut uncertain) = (0, 0, 0);
    for moment in moments::quiet(witness, rng) {
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
    verdict.check(exact > 0, "no moment was restored");
    verdict.figure(format_args!(
        "moments by time: {exact} restored, {refused} refused in or near a gap, {uncertain} refused as uncertain"
    ));
    Ok(())
}

fn is_uncertain(log: &[Value], moment: Moment) -> bool {
    log.iter().any(|entry| {
        micros(&entry["earliest"]).is_some_and(|from| from <= moment.at_us)
            && micros(&entry["time"]).is_some_and(|to| moment.at_us <= to)
    })
}

/// Each transaction in the log is restored as a state that existed, in the order of the states.
fn check_numbers(stage: &Stage, witness: &mut Witness, rng: &mut Rng, verdict: &mut Verdict) -> Result<()> {
    let log = stage.log()?;
    check_order(&log, verdict);
    let log = rng.sample(log, NUMBERS_TRIED);
    let mut last = 0;
    for entry in &log {
        let target = format!("tx:{}", entry["tx"]);
        let output = stage.world.path("number.db");
        let called = stage.program.restore(&target, &output, &[])?;
        if called.code != Some(0) {
            verdict.fail(format_args!("{target} is in the log, but {called}"));
            continue;
        }
        match witness.which(&output)? {
            None => verdict.fail(format_args!("`{}` restored a state that never existed", called.line)),
            Some(state) => {
                verdict.check(
                    state > last,
                    format_args!("{target} is state {state}, after a transaction that is state {last}"),
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
