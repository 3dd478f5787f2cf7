//! Random transactions under a watcher. Every commit is in the log. Each is restored by its number,
//! exactly, and so is the state before it, with `--exclusive`. The state at any moment far enough
//! from a commit is restored by time.

use super::{Seed, Stage, check_order, judged, settle};
use crate::Result;
use crate::moments::{self, MARGIN_US, Rng, micros};
use crate::program::{CallResult, UNREACHABLE};
use crate::verdict::Verdict;
use crate::witness::Witness;
use serde_json::Value;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(crate) struct Exact {
    /// How many transactions are committed
    #[arg(long, default_value_t = 400)]
    pub(crate) transactions: usize,
    /// Restore only this many of them by number [default: all]
    #[arg(long)]
    pub(crate) sample: Option<usize>,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Exact {
    pub(crate) fn run(&self) -> Result<bool> {
        let sample = self.sample.map_or(String::new(), |n| format!(" --sample {n}"));
        let command = format!(
            "cargo xtask drill exact --transactions {}{sample} --seed {}",
            self.transactions, self.seed.seed
        );
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let seed = self.seed.seed.to_string();
        let transactions = self.transactions.to_string();
        let mut stage = Stage::new("exact", "writer.py", &[&seed, &transactions])?;
        let mut witness = Witness::new(&stage.ready)?;
        let watch = stage.program.watch(&stage.database, &[])?;
        let before = stage.log()?.len();
        stage.application.send("go")?;
        witness.add(&stage.application.events_until("done")?)?;
        settle();
        let stopped = watch.stop()?;
        verdict.step(format_args!("{} commits, drained in {:.2} s", witness.commits(), stopped.seconds));

        let log: Vec<Value> = stage.log()?.split_off(before);
        verdict.check(
            log.len() == witness.commits(),
            format_args!("the log has {} of {} commits", log.len(), witness.commits()),
        );
        check_times(&log, &witness, verdict);
        let mut run = Run { stage: &stage, witness: &mut witness, verdict, seconds: Vec::new() };
        run.by_number(&log, self.sample, &mut Rng(self.seed.seed))?;
        run.by_time(&log, &mut Rng(self.seed.seed))?;
        run.latest()?;
        let mut seconds = run.seconds;
        seconds.sort_by(f64::total_cmp);
        if let Some(median) = seconds.get(seconds.len() / 2) {
            verdict.figure(format_args!("median restore {median:.3} s"));
        }
        Ok(())
    }
}

/// Checks the logged times. The commit happened between the application's two clock readings. The
/// log says that it happened after `earliest` and not after `time`. The two intervals must overlap.
fn check_times(log: &[Value], witness: &Witness, verdict: &mut Verdict) {
    let mut widths = Vec::new();
    for (entry, state) in log.iter().zip(&witness.states[1..]) {
        let (Some(earliest), Some(time)) = (micros(&entry["earliest"]), micros(&entry["time"])) else {
            verdict.fail(format_args!("a log entry has no times: {entry}"));
            return;
        };
        widths.push(time - earliest);
        verdict.check(
            earliest <= state.after_us && time >= state.before_us,
            format_args!(
                "tx {} was committed between {} and {}, which does not overlap the log's {} to {}",
                entry["tx"],
                moments::rfc3339(state.before_us),
                moments::rfc3339(state.after_us),
                entry["earliest"],
                entry["time"]
            ),
        );
    }
    check_order(log, verdict);
    widths.sort_unstable();
    if let Some(p99) = widths.get((widths.len() * 99).div_ceil(100).saturating_sub(1)) {
        verdict.figure(format_args!("uncertainty of times p99 {:.1} ms", *p99 as f64 / 1000.0));
    }
}

struct Run<'a> {
    stage: &'a Stage,
    witness: &'a mut Witness,
    verdict: &'a mut Verdict,
    seconds: Vec<f64>,
}

impl Run<'_> {
    /// Restores and compares; `None` when the target was refused as unreachable.
    fn restore(&mut self, to: &str, more: &[&str], state: usize) -> Result<Option<()>> {
        let output = self.stage.world.path("restored.db");
        let called = self.stage.program.restore(to, &output, more)?;
        if called.code == Some(UNREACHABLE) && !output.exists() {
            return Ok(None);
        }
        self.seconds.push(called.seconds);
        compare(self.witness, self.verdict, &called, &output, state)?;
        remove(&output)?;
        Ok(Some(()))
    }

    fn by_number(&mut self, log: &[Value], sample: Option<usize>, rng: &mut Rng) -> Result<()> {
        let all: Vec<usize> = (1..=log.len().min(self.witness.commits())).collect();
        let count = sample.unwrap_or(all.len());
        let states = rng.sample(all, count);
        for &state in &states {
            let target = format!("tx:{}", log[state - 1]["tx"]);
            for (more, state) in [(&[][..], state), (&["--exclusive"][..], state - 1)] {
                if self.restore(&target, more, state)?.is_none() {
                    self.verdict.fail(format_args!("{target} {more:?} was refused, expected state {state}"));
                }
            }
        }
        self.verdict
            .figure(format_args!("{} transactions restored by number, each also exclusively", states.len()));
        Ok(())
    }

    /// A moment may be refused only inside the recorded uncertainty of a commit.
    fn by_time(&mut self, log: &[Value], rng: &mut Rng) -> Result<()> {
        let moments = moments::quiet(self.witness, rng);
        let mut refused = 0;
        for moment in &moments {
            let target = moment.target();
            if self.restore(&target, &[], moment.state)?.is_some() {
                continue;
            }
            refused += 1;
            let uncertain = log.iter().any(|entry| {
                micros(&entry["earliest"]).is_some_and(|from| from <= moment.at_us)
                    && micros(&entry["time"]).is_some_and(|to| moment.at_us <= to)
            });
            self.verdict.check(
                uncertain,
                format_args!(
                    "{target} was refused, although outside every uncertainty; state {}",
                    moment.state
                ),
            );
        }
        self.verdict.check(moments.len() > refused, "no moment was restored by time");
        let margin = MARGIN_US / 1000;
        self.verdict.figure(format_args!(
            "{} moments {margin} ms from a commit by time, {refused} refused as uncertain",
            moments.len()
        ));
        Ok(())
    }

    fn latest(&mut self) -> Result<()> {
        let state = self.witness.commits();
        if self.restore("latest", &[], state)?.is_none() {
            self.verdict.fail("latest was refused");
        }
        Ok(())
    }
}

/// Fails unless `called` succeeded and restored state `state` to `output`.
pub(super) fn compare(
    witness: &mut Witness,
    verdict: &mut Verdict,
    called: &CallResult,
    output: &Path,
    state: usize,
) -> Result<()> {
    if called.code != Some(0) {
        verdict.fail(format_args!("{called}; expected state {state}"));
    } else if let Err(found) = witness.exact(output, state)? {
        verdict.fail(format_args!("`{}`: {found}", called.line));
    }
    Ok(())
}

/// Removes the output of a restore, if any.
pub(super) fn remove(output: &Path) -> Result<()> {
    if output.exists() {
        std::fs::remove_file(output)?;
    }
    Ok(())
}
