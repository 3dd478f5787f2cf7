//! Runs tests with any number of seeds.
//!
//! A crate's own tests try a hundred seeds. Here the same test is told which seeds to try. A
//! failing seed can be repeated alone.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;
use clap::{Args, Subcommand};
use std::ops::Range;
use std::process::Command;

#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Lives of a log over the simulated disk: faults, kills and power losses, several in a row
    Log(Seeds),
}

/// The seeds to try.
#[derive(Debug, Args)]
pub(crate) struct Seeds {
    /// Number of seeds, from 0
    #[arg(long, default_value_t = 100_000, conflicts_with = "seed")]
    seeds: u64,
    /// Only this seed
    #[arg(long)]
    seed: Option<u64>,
}

impl Soak {
    /// Runs the test. True if every seed passed.
    pub(crate) fn run(&self) -> Result<bool> {
        let Soak::Log(seeds) = self;
        let (range, command) = seeds.range("cargo xtask soak log");
        println!("{command}");
        let output = Command::new(env!("CARGO"))
            .args(["test", "--release", "--quiet", "--package", "pitr-wal", "--test", "it", "seeds"])
            .args(["--", "--nocapture"])
            .current_dir(world::root())
            .env("PITR_SEEDS", format!("{}..{}", range.start, range.end))
            .output()?;
        let mut verdict = Verdict::default();
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("soak: ")).collect();
        verdict.check(!lines.is_empty(), "the run did not finish");
        lines.iter().for_each(|line| verdict.figure(line));
        verdict.check(output.status.success(), "a seed fails; repeat it with cargo xtask soak log --seed N");
        if !output.status.success() {
            eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        verdict.close(&command)
    }
}

impl Seeds {
    /// The seeds, and the command that names them.
    fn range(&self, command: &str) -> (Range<u64>, String) {
        match self.seed {
            Some(seed) => (seed..seed.saturating_add(1), format!("{command} --seed {seed}")),
            None => (0..self.seeds, format!("{command} --seeds {}", self.seeds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_seed_runs_alone() {
        let all = Seeds { seeds: 7, seed: None };
        assert_eq!(all.range("x"), (0..7, "x --seeds 7".into()));
        let one = Seeds { seeds: 7, seed: Some(9) };
        assert_eq!(one.range("x"), (9..10, "x --seed 9".into()));
    }
}
