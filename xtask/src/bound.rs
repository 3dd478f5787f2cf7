//! The upper bound of the machine: the same bytes through read, hash, codec, write and fsync, with
//! none of our crates.
//!
//! A backup reads a file in pieces, hashes and compresses each piece, and appends it to one file,
//! which is synced. A restore reads these pieces, decompresses and hashes them, and writes each to
//! its place, through the page cache or past it. A comparison reads the file and hashes each block,
//! as an increment does when nothing tells it what changed. The fastest of several piece sizes and
//! of one or two threads is the bound.
//!
//! `--quick` takes a sample: stretches of 16 MiB, evenly spread over the file, through fewer ways.
//! The time for the whole file is its bytes divided by the rate of the sample. That is sound
//! because each operation reads with a cold cache, ends with an fsync, and costs the same for each
//! piece; a second, smaller sample shows it.

mod room;
mod sample;
mod way;

pub(crate) use sample::Sample;
pub(crate) use way::{Rates, Way, quick_ways, ways};

use crate::Result;
use crate::verdict;
use crate::world::World;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Size of a quick sample.
const QUICK_BYTES: u64 = 384 << 20;
/// Size of the sample for a restore.
const RESTORE_BYTES: u64 = 384 << 20;
const RESTORE_RUNS: usize = 2;
const LEVEL: i32 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Bound {
    /// The file to read
    file: PathBuf,
    /// Level of zstd
    #[arg(long, default_value_t = LEVEL)]
    level: i32,
    /// Runs of each combination; the fastest counts
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// Measure a sample of the file through fewer combinations: less than a minute
    #[arg(long)]
    quick: bool,
}

impl Bound {
    /// Prints the bound. It can't fail a check.
    pub(crate) fn run(&self) -> Result<bool> {
        let (world, begun) = (World::new("bound")?, Instant::now());
        println!("{}, {}, zstd {}", verdict::machine(), self.file.display(), self.level);
        let files = std::slice::from_ref(&self.file);
        let (sample, ways) = match self.quick {
            true => (Sample::of(files, QUICK_BYTES)?, quick_ways().collect::<Vec<_>>()),
            false => (Sample::of(files, u64::MAX)?, ways().collect()),
        };
        let mut best = Rates::default();
        for _ in 0..self.runs {
            for way in &ways {
                let rates = way.measure_sample(&sample, &world, self.level)?;
                println!("  {}", way.line(rates));
                best = best.best(rates);
            }
        }
        let Rates { backup, restore, decode, comparison, .. } = best;
        println!(
            "bound: backup {backup:.0} MB/s, restore {restore:.0} MB/s (without writing {decode:.0}), comparison {comparison:.0} MB/s"
        );
        if self.quick {
            self.explain(&sample, &world, best)?;
        }
        println!("{:.1} s", begun.elapsed().as_secs_f64());
        Ok(true)
    }

    /// States what the sample was, and how its rates become times of the whole file.
    fn explain(&self, sample: &Sample, world: &World, best: Rates) -> Result<()> {
        let half = Sample::of(std::slice::from_ref(&self.file), sample.bytes() / 2)?;
        let way = quick_ways().next().ok_or("no way")?;
        let rates = way.measure_sample(&half, world, self.level)?;
        let whole = self.file.metadata()?.len() as f64 / 1e6;
        println!("sample: {}", sample.line());
        println!(
            "a sample of half the size: backup {:.0} MB/s, restore {:.0} MB/s, comparison {:.0} MB/s",
            rates.backup, rates.restore, rates.comparison
        );
        println!(
            "extrapolated, bytes / rate of the sample, for {whole:.0} MB: backup {:.1} s, restore {:.1} s, comparison {:.1} s",
            whole / best.backup,
            whole / best.restore,
            whole / best.comparison
        );
        Ok(())
    }
}

/// The bytes of a restore.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    /// Length of the snapshot's files.
    pub(crate) base: u64,
    /// Length of the log after it, decoded.
    pub(crate) log: u64,
    /// Length of the restored files.
    pub(crate) result: u64,
}

/// The bound of a restore, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestoreBound {
    /// Base and log are read, hashed and decoded, and all of it is written.
    pub(crate) everything: f64,
    /// Base and log are read, hashed and decoded, and only the result is written.
    pub(crate) result_only: f64,
    /// The measured rates.
    pub(crate) rates: Rates,
    /// How much faster two threads are than one, writing and not.
    pub(crate) two_threads: [f64; 2],
}

impl RestoreBound {
    /// Measures it with a sample of `files`, which contain the same kind of data as base and log,
    /// in `world`, which is on the same disk.
    pub(crate) fn measure(files: &[PathBuf], amounts: Amounts, world: &Path) -> Result<RestoreBound> {
        let sample = Sample::of(files, RESTORE_BYTES)?;
        let (mut one, mut two) = (Rates::default(), Rates::default());
        for _ in 0..RESTORE_RUNS {
            for way in quick_ways() {
                let best = if way.threads == 1 { &mut one } else { &mut two };
                *best = best.best(way.measure_restore(&sample, world, LEVEL)?);
            }
        }
        Ok(RestoreBound::of(amounts, one, two))
    }

    /// The bound from the rates of one thread and of two.
    fn of(amounts: Amounts, one: Rates, two: Rates) -> RestoreBound {
        let rates = one.best(two);
        let Amounts { base, log, result } = amounts;
        let all = (base + log) as f64 / 1e6;
        let written = result.min(base + log) as f64 / 1e6;
        // The two are measured one after the other: on a busy machine either may come out higher.
        let decode = rates.decode.max(rates.restore);
        RestoreBound {
            everything: all / rates.restore,
            result_only: written / rates.restore + (all - written) / decode,
            rates,
            two_threads: [two.restore / one.restore, two.decode / one.decode],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_bytes_that_are_only_decoded_take_less_time() {
        let rates = Rates { restore: 1000.0, decode: 2000.0, ..Rates::default() };
        let amounts = Amounts { base: 6_000_000_000, log: 3_000_000_000, result: 6_500_000_000 };
        let one = Rates { restore: 800.0, decode: 1000.0, ..rates };
        let bound = RestoreBound::of(amounts, one, rates);
        assert_eq!(bound.two_threads, [1.25, 2.0]);
        assert!((bound.everything - 9.0).abs() < 1e-9, "{bound:?}");
        assert!((bound.result_only - 7.75).abs() < 1e-9, "{bound:?}");
        let longer = RestoreBound::of(Amounts { result: 20_000_000_000, ..amounts }, one, rates);
        assert!((longer.result_only - 9.0).abs() < 1e-9, "{longer:?}");
    }
}
