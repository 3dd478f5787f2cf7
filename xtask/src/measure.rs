//! Figures of single crates beside their bounds: each crate's bench `measure` prints a table, which is kept.

use crate::verdict;
use crate::{Result, world};
use clap::Subcommand;
use std::process::{Command, Stdio};

const HEAD: &str = "# The tracker beside its bounds\n\nEach table is one run of the command that stands over it. ns, ms and GB/s are those of one core.\n";

#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Marks, freezes and deltas of 100 GB
    Tracker {
        /// How often each case is timed
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
}

impl Measure {
    /// Runs it and keeps the table; whether there was one.
    pub(crate) fn run(&self) -> Result<bool> {
        let Measure::Tracker { rounds } = self;
        let command = format!("cargo xtask measure tracker --rounds {rounds}");
        println!("{command}");
        let output = Command::new(env!("CARGO"))
            .args(["bench", "--package", "pitr-tracker", "--bench", "measure", "--", &rounds.to_string()])
            .current_dir(world::root())
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let table: String =
            text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
        print!("{table}");
        if !output.status.success() || table.is_empty() {
            return Ok(false);
        }
        let (day, machine, commit) = (verdict::today(), verdict::machine(), verdict::commit());
        let block = format!("\n## {day}, {machine}, pitr at {commit}\n\n`{command}`\n\n{table}");
        verdict::keep("tracker.md", HEAD, &block)?;
        Ok(true)
    }
}
