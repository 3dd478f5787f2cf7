//! Figures of single crates next to their bounds: each crate's bench `measure` prints a table,
//! which is kept.

use crate::verdict;
use crate::{Result, world};
use clap::Subcommand;
use std::process::{Command, Stdio};

#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Marks, freezes and deltas of 100 GB
    Tracker {
        /// Repetitions of each case
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
    /// Snapshots of growing files with the same amount of changes: time, memory, stored bytes
    Snapshot {
        /// Sizes of the files, GB
        #[arg(long, value_delimiter = ',', default_value = "2,4,8,16")]
        sizes: Vec<u64>,
        /// Amount of scattered changes, MB
        #[arg(long, default_value_t = 200)]
        changed: u64,
    },
    /// Bytes that an increment of a large file writes besides the changed blocks
    Metadata {
        /// Size of the file, GB. The file is never stored on disk
        #[arg(long, default_value_t = 100)]
        size: u64,
        /// Changed blocks per thousand
        #[arg(long, default_value_t = 1)]
        per_mille: u64,
    },
    /// Files with 40% duplicates, of several kinds
    Duplicates {
        /// Size of each, MB
        #[arg(long, default_value_t = 1000)]
        megabytes: u64,
    },
    /// Analysis and partitioned replay of a log of 2 GB
    Replay {
        /// Repetitions of the replay
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

/// A bench, and the file that keeps its tables.
struct Bench {
    package: &'static str,
    features: &'static str,
    file: &'static str,
    head: &'static str,
}

const TRACKER: Bench = Bench {
    package: "pitr-tracker",
    features: "",
    file: "tracker.md",
    head: "# The tracker and its bounds\n\nEach table is one run of the command above it. ns, ms and GB/s are for one core.\n",
};

const REPLAY: Bench = Bench {
    package: "pitr-wal",
    features: "parallel",
    file: "replay.md",
    head: "# Replay and a plain scan\n\nEach table is one run of the command above it, on all cores, with the log in the page cache. Rates count the\nlogical records, also in the scan, which reads commits and aborts too.\n",
};

const SNAPSHOT: Bench = Bench {
    package: "pitr-snapshot",
    features: "",
    file: "growth.md",
    head: "# Snapshots of growing files\n\nEach table is one run of the command above it. The file's blocks of 4 KiB are half noise, half text; zstd 3, a repository in a\nlocal folder with fsync. The same amount changes at each size, in single blocks all over the file, once reported by a tracker and once\nfound by reading everything. *Together* is the size of the changed blocks when compressed by the megabyte. Memory is the\npeak of anonymous memory during the column's work, including what the allocator kept from earlier work. The file is in the page cache.\n",
};

const METADATA: Bench = Bench {
    file: "metadata.md",
    head: "# What an increment writes besides the changed blocks\n\nEach table is one run of the command above it, in bytes. The changed blocks are scattered evenly over a file in which every\nextent has a chunk. They hold noise, so they are stored uncompressed. *Besides them* are leaves, frame headers, footers of\npacks with the sums of their pieces, the index and the root.\n",
    ..SNAPSHOT
};

const DUPLICATES: Bench = Bench {
    file: "duplicates.md",
    head: "# Duplicates within a file\n\nEach table is one run of the command above it: a first snapshot of a file with 60% blocks of half noise and half text,\nall different, and 40% as the row says. *Removed* is the share of the duplicates that cost nothing.\n",
    ..SNAPSHOT
};

impl Measure {
    /// Runs the bench and keeps the table. True if there was one.
    pub(crate) fn run(&self) -> Result<bool> {
        let (bench, command, args) = match self {
            Measure::Tracker { rounds } => {
                (TRACKER, format!("tracker --rounds {rounds}"), vec![rounds.to_string()])
            }
            Measure::Replay { rounds } => {
                (REPLAY, format!("replay --rounds {rounds}"), vec![rounds.to_string()])
            }
            Measure::Snapshot { sizes, changed } => {
                let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
                let command = format!("snapshot --sizes {} --changed {changed}", sizes.join(","));
                (SNAPSHOT, command, [vec!["snapshot".to_owned(), changed.to_string()], sizes].concat())
            }
            Measure::Metadata { size, per_mille } => (
                METADATA,
                format!("metadata --size {size} --per-mille {per_mille}"),
                vec!["metadata".to_owned(), size.to_string(), per_mille.to_string()],
            ),
            Measure::Duplicates { megabytes } => (
                DUPLICATES,
                format!("duplicates --megabytes {megabytes}"),
                vec!["duplicates".to_owned(), megabytes.to_string()],
            ),
        };
        let command = format!("cargo xtask measure {command}");
        println!("{command}");
        let output = Command::new(env!("CARGO"))
            .args(["bench", "--package", bench.package, "--features", bench.features, "--bench", "measure"])
            .arg("--")
            .args(args)
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
        verdict::keep(bench.file, bench.head, &block)?;
        Ok(true)
    }
}
