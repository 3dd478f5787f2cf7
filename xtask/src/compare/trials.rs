//! Design choices of a log, one at a time: small models without our crates, in paired runs.

use super::spread;
use super::wal::build;
use crate::Result;
use crate::verdict;
use crate::world::World;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// A question and its answers. Each answer has a label, the name of the trial, and a number of
/// threads.
struct Question {
    title: &'static str,
    answers: &'static [(&'static str, &'static str, u32)],
}

const QUESTIONS: &[Question] = &[
    Question {
        title: "The file that a commit of 152 B is written to, then fdatasync",
        answers: &[
            ("a file that grows", "growing", 1),
            ("an allocated file (fallocate)", "allocated", 1),
            ("a file filled with zeros, or recycled", "zeros", 1),
        ],
    },
    Question {
        title: "How it is made durable, in a file that was written before",
        answers: &[
            ("write, fdatasync", "zeros", 1),
            ("padded to 4 KiB, write, fdatasync", "padded", 1),
            ("O_DSYNC", "dsync", 1),
            ("O_DIRECT and O_DSYNC, 4 KiB", "direct", 1),
        ],
    },
    Question {
        title: "Where 64 committers sync, and how they are woken",
        answers: &[
            ("each separately, under the lock", "locked-sync", 64),
            ("one for all, outside the lock, all woken at once", "herd", 64),
            ("one for all, outside the lock, woken one by one, the next leader first", "one-by-one", 64),
            ("as above, but all at once without the lock (a gate)", "gate", 64),
            ("at a gate, with 5 yields before they sleep", "gate-yields", 64),
            ("at a gate, with 20 yields", "gate-yields-more", 64),
        ],
    },
    Question {
        title: "How 152 B are copied into the buffer that a leader writes",
        answers: &[
            ("copied under the lock, 1 thread", "copy-locked", 1),
            ("reserved, then copied concurrently, 1 thread", "copy-reserved", 1),
            ("copied under the lock, 8 threads", "copy-locked", 8),
            ("reserved, then copied concurrently, 8 threads", "copy-reserved", 8),
        ],
    },
];

const HEAD: &str = "# Design choices of the log, measured\n\n\
    Small models without our crates, one choice at a time; the code is `benches/peers/src/trials.rs`. Each table is one run of the\n\
    command above it, medians of paired runs. `docs/choices.md` says what was chosen, and why.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Trials {
    /// Paired runs of each choice; the table shows medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each run
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

impl Trials {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!("cargo xtask compare trials --runs {} --seconds {}", self.runs, self.seconds);
        println!("{command}");
        let binary = build()?;
        let mut table = String::from(
            "| | choice | a second, median | least | most |\n| --- | --- | ---: | ---: | ---: |\n",
        );
        for question in QUESTIONS {
            let mut rates = vec![Vec::new(); question.answers.len()];
            for _ in 0..self.runs {
                for ((_, trial, threads), rates) in question.answers.iter().zip(&mut rates) {
                    rates.push(self.once(&binary, trial, *threads)?);
                }
            }
            for ((choice, ..), rates) in question.answers.iter().zip(&rates) {
                let line = format!("| {} | {choice} | {} |", question.title, spread(rates));
                println!("{line}");
                // Writing to a String cannot fail.
                let _ = writeln!(table, "{line}");
            }
        }
        let (today, machine) = (verdict::today(), verdict::machine());
        verdict::keep("choices.md", HEAD, &format!("\n## {today}, {machine}\n\n`{command}`\n\n{table}\n"))?;
        Ok(true)
    }

    fn once(&self, binary: &Path, trial: &str, threads: u32) -> Result<f64> {
        let world = World::new("trial")?;
        std::fs::create_dir_all(world.path("dir"))?;
        let output = Command::new(binary)
            .args([trial, "trial", &threads.to_string(), "0", &self.seconds.to_string()])
            .arg(world.path("dir"))
            .output()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let rate = answer["rate"].as_f64();
        rate.ok_or_else(|| format!("{trial}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
