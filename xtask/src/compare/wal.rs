//! Compares our log with others, in paired runs: each round runs every log once, in its own
//! process.

use super::{median, order, spread};
use crate::Result;
use crate::verdict;
use crate::world::{self, World};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the table: the workload, threads, bytes per operation, and the contenders.
#[derive(Debug)]
struct Row {
    title: &'static str,
    workload: &'static str,
    threads: u32,
    bytes: u32,
    logs: &'static [&'static str],
}

const DURABLE: &[&str] = &["pitr", "bare", "raft-engine", "okaywal", "fjall", "sled", "redb", "sqlite"];
/// The bare loop syncs separately on each thread: it is a bound for one thread only.
const SHARED: &[&str] = &["pitr", "raft-engine", "okaywal", "fjall", "sled", "redb", "sqlite"];
const UNSYNCED: &[&str] = &["pitr", "bare", "raft-engine", "fjall", "sled", "redb"];

/// Logs that return all records after reopening. Without sled, which takes six minutes to fill and
/// reads 29,000 records a second.
const SCANNED: &[&str] = &["pitr", "pitr-apart", "raft-engine", "okaywal", "fjall", "redb", "sqlite"];

const ROWS: &[Row] = &[
    Row { title: "durable, 128 B, 1 thread", workload: "commit", threads: 1, bytes: 128, logs: DURABLE },
    Row { title: "durable, 128 B, 8 threads", workload: "commit", threads: 8, bytes: 128, logs: SHARED },
    Row { title: "durable, 128 B, 64 threads", workload: "commit", threads: 64, bytes: 128, logs: SHARED },
    Row { title: "durable, 4 KiB, 1 thread", workload: "commit", threads: 1, bytes: 4096, logs: DURABLE },
    Row { title: "durable, 4 KiB, 8 threads", workload: "commit", threads: 8, bytes: 4096, logs: SHARED },
    Row { title: "durable, 4 KiB, 64 threads", workload: "commit", threads: 64, bytes: 4096, logs: SHARED },
    Row { title: "durable by tickets, 128 B", workload: "tickets", threads: 1, bytes: 128, logs: &["pitr"] },
    Row { title: "not synced, 128 B, 1 thread", workload: "append", threads: 1, bytes: 128, logs: UNSYNCED },
    Row { title: "not synced, 4 KiB, 1 thread", workload: "append", threads: 1, bytes: 4096, logs: UNSYNCED },
    Row { title: "reopen and scan of 1 GB, 128 B", workload: "scan", threads: 2, bytes: 128, logs: SCANNED },
];

const HEAD: &str = "# The log compared with other logs\n\nEach table is one run of the command above it.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Paired runs of each row; the table shows medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only rows whose title contains this
    #[arg(long, default_value = "")]
    only: String,
}

impl Logs {
    pub(crate) fn run(&self) -> Result<bool> {
        let mut command = format!("cargo xtask compare wal --runs {} --seconds {}", self.runs, self.seconds);
        if !self.only.is_empty() {
            command += &format!(" --only '{}'", self.only);
        }
        println!("{command}");
        let binary = build()?;
        let mut table = String::from(
            "| | log | operations/s, median | least | most | of pitr, median of pairs | syncs for each |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        );
        let mut leads = true;
        for row in ROWS.iter().filter(|row| row.title.contains(&self.only)) {
            let mut rates = vec![Vec::new(); row.logs.len()];
            for round in 0..self.runs {
                for nth in order(row.logs.len(), round) {
                    // Pending writes of the previous run must not slow down this one.
                    rustix::fs::sync();
                    rates[nth].push(self.once(&binary, row.logs[nth], row)?);
                }
            }
            for (log, theirs) in row.logs.iter().zip(&rates) {
                let ratio = of_pairs(theirs, &rates[0]);
                leads &= ["bare", "pitr-apart"].contains(log) || ratio <= 1.0;
                let syncs = self.syncs(&binary, log, row)?;
                let (title, cells) = (row.title, spread(theirs));
                let line = format!("| {title} | {log} | {cells} | {ratio:.2} | {syncs} |");
                println!("{line}");
                // Writing to a String cannot fail.
                let _ = writeln!(table, "{line}");
            }
        }
        write_table(&command, &table)?;
        println!("{}", if leads { "pitr leads in every row" } else { "pitr does not lead in every row" });
        Ok(leads)
    }

    fn once(&self, binary: &Path, log: &str, row: &Row) -> Result<f64> {
        self.answer(Command::new(binary), log, row, "rate")
    }

    /// Syncs per operation according to the kernel, counted in a separate run; a dash if `strace`
    /// is missing.
    fn syncs(&self, binary: &Path, log: &str, row: &Row) -> Result<String> {
        if row.workload == "scan" {
            return Ok("-".to_owned());
        }
        if !matches!(row.workload, "commit" | "tickets") {
            return Ok("-".to_owned());
        }
        let world = World::new("syncs")?;
        let counts = world.path("counts");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-e", "trace=fsync,fdatasync,msync,sync_file_range", "-o"]);
        strace.arg(&counts).arg(binary);
        if Command::new("strace").arg("--version").output().is_err() {
            return Ok("-".to_owned());
        }
        let operations = self.answer(strace, log, row, "operations")?;
        let table = std::fs::read_to_string(counts)?;
        // Columns: share of time, seconds, time of each, calls, errors if there were any, name.
        let calls = table.lines().filter(|line| line.contains("sync") && !line.contains("total"));
        let calls: f64 = calls.filter_map(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok()).sum();
        Ok(format!("{:.3}", calls / operations))
    }

    /// Runs a log once with `command` and returns the value of `key` in its answer.
    fn answer(&self, mut command: Command, log: &str, row: &Row, key: &str) -> Result<f64> {
        let world = World::new("wal")?;
        command.args([log, row.workload, &row.threads.to_string(), &row.bytes.to_string()]);
        let output = command.arg(self.seconds.to_string()).arg(world.path("log")).output()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer[key].as_f64().ok_or_else(|| {
            format!("{log}, {}: {}", row.title, String::from_utf8_lossy(&output.stderr)).into()
        })
    }
}

/// The median of the ratios within pairs: a disk that is slow for a minute is slow for both.
fn of_pairs(theirs: &[f64], ours: &[f64]) -> f64 {
    median(&theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect::<Vec<_>>())
}

/// Builds the peers, which are a separate workspace.
pub(super) fn build() -> Result<PathBuf> {
    let target = world::target().join("peers");
    let manifest = world::root().join("benches/peers/Cargo.toml");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", &target)
        .status()?;
    if status.success() {
        Ok(target.join("release/pitr-peers"))
    } else {
        Err("the peers do not build".into())
    }
}

fn write_table(command: &str, table: &str) -> Result<()> {
    let (today, machine, commit) = (verdict::today(), verdict::machine(), verdict::commit());
    let text = format!("\n## {today}, {machine}, pitr at {commit}\n\n`{command}`\n\n{table}\n");
    verdict::keep("wal.md", HEAD, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_minute_affects_both_of_a_pair() {
        let (theirs, ours) = ([90.0, 9.0, 45.0], [100.0, 10.0, 50.0]);
        assert!((of_pairs(&theirs, &ours) - 0.9).abs() < 1e-9);
    }
}
