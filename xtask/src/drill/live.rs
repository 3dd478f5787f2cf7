//! A live database against its archive. While an application writes, every comparison is equal.
//! Then its application rests, and copies of its file are put in the place of the live one, each
//! with one fault: a changed byte, a page of an earlier commit (as if capture had dropped a
//! commit), a page of another place, an emptied page. Every one is found, at the page.

use super::{Seed, Stage, judged, settle};
use crate::Result;
use crate::at_rest::AtRest;
use crate::blocks::BLOCK_BYTES;
use crate::moments::Rng;
use crate::program::CallResult;
use crate::verdict::Verdict;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CORRUPT: i32 = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Live {
    /// Time of the comparisons beside a writer, seconds
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Number of faults
    #[arg(long, default_value_t = 200)]
    pub(crate) faults: usize,
    #[command(flatten)]
    pub(crate) seed: Seed,
}

impl Live {
    pub(crate) fn run(&self) -> Result<bool> {
        let Live { seconds, faults, seed: Seed { seed } } = self;
        let command = format!("cargo xtask drill live --seconds {seconds} --faults {faults} --seed {seed}");
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let seed = self.seed.seed.to_string();
        let mut stage = Stage::new("live", "writer.py", &[&seed, "0"])?;
        let earlier = pages(&stage.database)?;
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
        }
        stage.application.send("stop")?;
        stage.application.events_until("done")?;
        verdict.figure(format_args!(
            "{compared} comparisons of {} MB together beside a writer, {equal} equal",
            bytes / 1_000_000
        ));
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
