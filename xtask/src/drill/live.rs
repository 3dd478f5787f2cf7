//! A live database against its archive. Every comparison is equal beside an application that
//! writes, with checkpoints and VACUUM.
//!
//! Then faults: an application rests, and copies of its file are put in the place of the live one,
//! each with one fault: a changed byte, a page of an earlier commit (as if capture had dropped a
//! commit), a page of another place, an emptied page. Every one is found, at the page.
//!
//! At last the cost: an application commits as fast as it can, in pairs of stretches, with and
//! without a comparison beside it.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::at_rest::AtRest;
use crate::blocks::BLOCK_BYTES;
use crate::compare::median;
use crate::moments::Rng;
use crate::program::{CORRUPT, CallResult};
use crate::verdict::Verdict;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

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
/// Shortest stretch. One without a comparison is as long as the last with one.
const STRETCH: Duration = Duration::from_secs(8);

#[derive(Debug, clap::Args)]
pub(crate) struct Live {
    /// Time of the comparisons beside a writer, seconds
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Number of faults
    #[arg(long, default_value_t = 210)]
    pub(crate) faults: usize,
    /// Pairs of stretches, with and without a comparison
    #[arg(long, default_value_t = 6)]
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
        let (mut ratios, mut length) = (Vec::new(), STRETCH);
        // The first stretch is not counted: the database is new.
        for pair in 0..=self.pairs {
            let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
            let mut rates = [0.0; 2];
            for with in order {
                stage.application.send("go")?;
                let begun = Instant::now();
                if with {
                    let called = verify(&stage, &[])?;
                    verdict.check(called.code == Some(0), format_args!("beside the writer: {called}"));
                    length = begun.elapsed().max(STRETCH);
                }
                thread::sleep(length.saturating_sub(begun.elapsed()));
                stage.application.send("stop")?;
                let stretch = stage.application.event("stretch")?;
                let (commits, seconds) = (stretch["commits"].as_f64(), stretch["seconds"].as_f64());
                let rate = commits.zip(seconds).map(|(commits, seconds)| commits / seconds);
                rates[usize::from(with)] = rate.ok_or("no rate")?;
                verdict.step(format_args!("with a comparison: {with}: {stretch}"));
            }
            if pair > 0 {
                ratios.push(rates[1] / rates[0]);
            }
        }
        watch.stop()?;
        let slower = 1.0 - median(&ratios);
        verdict.figure(format_args!(
            "an application that commits as fast as it can is {:.1}% slower beside comparisons",
            100.0 * slower
        ));
        verdict.check(slower <= COST_MAX, format_args!("{:.1}% slower beside comparisons", 100.0 * slower));
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
