//! A live database against its archive. Every comparison is equal beside an application that
//! writes, with checkpoints and VACUUM.
//!
//! Then faults: an application rests, and copies of its file are put in the place of the live one,
//! each with one fault: a changed byte, a page of an earlier commit (as if capture had dropped a
//! commit), a page of another place, an emptied page. Every one is found, at the page.
//!
//! At last the cost: an application commits as fast as it can, and a comparison beside it is
//! stopped and continued every half second. A disk's rate may change by a third within a minute, so
//! only slices that follow each other are compared. What stays while the comparison is stopped, its
//! read transaction, is part of both.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::at_rest::AtRest;
use crate::blocks::BLOCK_BYTES;
use crate::moments::Rng;
use crate::program::{CORRUPT, CallResult};
use crate::verdict::Verdict;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time until the first snapshot is stored.
const BASE_AT_MOST: Duration = Duration::from_secs(120);
/// Pause between two comparisons.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows of the database beside which is compared, and commits a second.
const STEADY: [&str; 2] = ["20000", "50"];
/// Transactions before the faults.
const TRANSACTIONS: &str = "150";
/// Rows of the database of the cost, of 300 bytes each; commits as fast as it can.
const BUSY: [&str; 2] = ["1500000", "0"];
/// How much slower the application may be beside a comparison.
const COST_MAX: f64 = 0.02;
/// Time between stopping a comparison and continuing it.
const SLICE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Live {
    /// Time of the comparisons beside a writer, seconds
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Number of faults
    #[arg(long, default_value_t = 210)]
    pub(crate) faults: usize,
    /// Pairs of half seconds, with and without a comparison
    #[arg(long, default_value_t = 200)]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Live {
    pub(crate) fn run(&self) -> Result<bool> {
        let Live { seconds, faults, pairs, seed: Seed { seed } } = self;
        let command = format!(
            "cargo xtask drill live --seconds {seconds} --faults {faults} --pairs {pairs} --seed {seed}"
        );
        judged(&command, |verdict| {
            self.beside(verdict)?;
            self.faults(verdict)?;
            self.cost(verdict)
        })
    }

    /// Compares beside a writer.
    fn beside(&self, verdict: &mut Verdict) -> Result<()> {
        if self.seconds == 0 {
            return Ok(());
        }
        let mut stage = self.stage("live-beside", STEADY)?;
        let watch = stage.program.watch(&stage.database, &[])?;
        await_base(&stage)?;
        stage.application.send("go")?;
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let (mut compared, mut equal, mut bytes) = (0, 0, 0);
        while Instant::now() < end {
            let called = verify(&stage, &[])?;
            let live = &called.answer["live"][0];
            bytes += live["compared_bytes"].as_u64().unwrap_or_default();
            let is_equal = called.code == Some(0);
            verdict.check(is_equal, format_args!("beside the writer: {called}: {live}"));
            compared += 1;
            equal += usize::from(is_equal);
            thread::sleep(PAUSE);
        }
        stage.application.send("stop")?;
        let commits = stage.application.event("stretch")?["commits"].as_u64().unwrap_or_default();
        verdict.figure(format_args!(
            "{compared} comparisons of {} MB together beside {commits} commits in {} s, {equal} equal",
            bytes / 1_000_000,
            self.seconds
        ));
        watch.stop().map(drop)
    }

    /// A stage with the steady application.
    fn stage(&self, name: &str, [rows, rate]: [&str; 2]) -> Result<Stage> {
        Stage::new(name, "steady.py", &[&self.seed.seed.to_string(), rows, rate])
    }

    /// How much slower an application is beside a comparison with the usual budget.
    fn cost(&self, verdict: &mut Verdict) -> Result<()> {
        if self.pairs == 0 {
            return Ok(());
        }
        let mut stage = self.stage("live-cost", BUSY)?;
        let watch = stage.program.watch(&stage.database, &[])?;
        await_base(&stage)?;
        // Logarithms of ratios: their mean prefers neither side.
        let (mut costs, mut compared) = (Vec::new(), 0_u64);
        while costs.len() < self.pairs {
            let mut comparison = stage.program.start(["verify", "--level", "live"])?;
            while costs.len() < self.pairs {
                let order = if costs.len() % 2 == 0 { [false, true] } else { [true, false] };
                let mut rates = [0.0; 2];
                for with in order {
                    comparison.let_run(with)?;
                    rates[usize::from(with)] = slice(&mut stage)?;
                }
                if comparison.has_ended()? {
                    break;
                }
                costs.push((rates[0] / rates[1]).ln());
            }
            comparison.let_run(true)?;
            let called = comparison.finish()?;
            verdict.check(called.code == Some(0), format_args!("beside the writer: {called}"));
            if called.code != Some(0) {
                break;
            }
            compared += called.answer["live"][0]["compared_bytes"].as_u64().unwrap_or_default();
            verdict.step(format_args!("{} pairs: {:.2}% slower", costs.len(), 100.0 * mean(&costs)));
        }
        watch.stop()?;
        let (slower, error) = (100.0 * (1.0 - (-mean(&costs)).exp()), 100.0 * error_of_mean(&costs));
        verdict.figure(format_args!(
            "an application that commits as fast as it can is {slower:.1}% slower beside comparisons (standard error {error:.1}%, {} pairs of half seconds, {} MB compared)",
            costs.len(),
            compared / 1_000_000
        ));
        verdict.check(slower <= 100.0 * COST_MAX, format_args!("{slower:.1}% slower beside comparisons"));
        Ok(())
    }

    /// Compares copies with faults.
    fn faults(&self, verdict: &mut Verdict) -> Result<()> {
        if self.faults == 0 {
            return Ok(());
        }
        let seed = self.seed.seed.to_string();
        let mut stage = Stage::new("live", "writer.py", &[&seed, TRANSACTIONS])?;
        let earlier = pages(&stage.database)?;
        let watch = stage.program.watch(&stage.database, &[])?;
        stage.application.send("go")?;
        stage.application.events_until("done")?;
        settle();

        let now = pages(&stage.database)?;
        // Not the first page: with its older length, all later pages would differ too.
        let both = 1..earlier.len().min(now.len());
        let changed: Vec<usize> = both.filter(|page| earlier[*page] != now[*page]).collect();
        let copy = stage.world.path("live.db");
        let mut rng = Rng(self.seed.seed);
        let (mut found, mut tried) = (0, 0);
        for fault in 0..self.faults {
            let mut harmed = now.clone();
            let page = match fault % 4 {
                1 if !changed.is_empty() => changed[rng.below(changed.len() as u64) as usize],
                _ => 1 + rng.below(now.len() as u64 - 1) as usize,
            };
            match fault % 4 {
                0 => harmed[page][rng.below(BLOCK_BYTES as u64) as usize] ^= 1 << rng.below(8),
                1 => harmed[page].clone_from(&earlier[page]),
                2 => harmed[page].clone_from(&now[(page + 1) % now.len()]),
                _ => harmed[page].fill(0),
            }
            if harmed[page] == now[page] {
                continue;
            }
            tried += 1;
            let called = self.compare_copy(&stage, &copy, &harmed)?;
            let at = (page * BLOCK_BYTES) as u64;
            let ranges = called.answer["live"][0]["ranges"].as_array().cloned().unwrap_or_default();
            let is_there = ranges.iter().any(|range| range[0].as_u64() == Some(at));
            let is_found = called.code == Some(CORRUPT) && is_there && ranges.len() == 1;
            verdict.check(is_found, format_args!("fault {fault} in page {page}: {called}: {ranges:?}"));
            found += usize::from(is_found);
        }
        let called = self.compare_copy(&stage, &copy, &now)?;
        verdict.check(called.code == Some(0), format_args!("a copy without a fault: {called}"));
        verdict.figure(format_args!("{found} of {tried} faults found, each at its page and nowhere else"));
        watch.stop()?;
        Ok(())
    }

    /// Compares a copy of the database, with these pages, as if it were the live one.
    fn compare_copy(&self, stage: &Stage, copy: &Path, pages: &[Vec<u8>]) -> Result<CallResult> {
        for suffix in ["", "-wal", "-shm"] {
            let beside = with_suffix(copy, suffix);
            if beside.exists() {
                fs::remove_file(beside)?;
            }
        }
        fs::write(copy, pages.concat())?;
        let state = with_suffix(&stage.database, "-pitr");
        let (copy, state) = (copy.to_string_lossy(), state.to_string_lossy());
        verify(stage, &["--database", &copy, "--state", &state])
    }
}

/// Waits until the first snapshot is stored: before it, there is nothing to compare with.
fn await_base(stage: &Stage) -> Result<()> {
    let end = Instant::now() + BASE_AT_MOST;
    while stage.source()?["snapshots"].as_array().is_none_or(Vec::is_empty) {
        if Instant::now() > end {
            return Err("the watcher stored no snapshot".into());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Lets the application commit for a slice. Returns the commits a second.
fn slice(stage: &mut Stage) -> Result<f64> {
    stage.application.send("go")?;
    thread::sleep(SLICE);
    stage.application.send("stop")?;
    let stretch = stage.application.event("stretch")?;
    let of = |name: &str| stretch[name].as_f64().ok_or("no rate");
    Ok(of("commits")? / of("seconds")?)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard error of the mean.
fn error_of_mean(values: &[f64]) -> f64 {
    let (count, mean) = (values.len().max(2) as f64, mean(values));
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0) / count).sqrt()
}

fn verify(stage: &Stage, more: &[&str]) -> Result<CallResult> {
    stage.program.call(["verify", "--level", "live"].into_iter().chain(more.iter().copied()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The pages of a database that nobody writes.
fn pages(path: &Path) -> Result<Vec<Vec<u8>>> {
    AtRest::open(path)?.pages()
}
