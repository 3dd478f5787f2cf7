//! A folder of many small files with many backups, a few files changed before each: duration of a
//! backup and of the other commands with a long history, number of objects, and the effect of a
//! prune.

use super::judged;
use crate::Result;
use crate::compare::median;
use crate::program::Program;
use crate::usage::{self, MEMORY_MAX, Usage};
use crate::verdict::Verdict;
use crate::world::{World, bytes_below, same};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of backups whose times are combined, at the start and at the end.
const SAMPLE: usize = 10;
/// Maximum ratio of the duration of a late backup to that of an early one.
const SLOWER_MAX: f64 = 2.0;
/// Size of each file; its content does not compress.
const FILE_BYTES: usize = 3000;
/// Files that are changed before each backup.
const CHANGED: usize = 20;
/// Maximum number of pack and index objects after a prune, besides full ones.
const LEFT_MAX: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Files in the folder
    #[arg(long, default_value_t = 20_000)]
    pub(crate) files: usize,
    /// Number of backups
    #[arg(long, default_value_t = 300)]
    pub(crate) backups: usize,
}

impl History {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!("cargo xtask drill history --files {} --backups {}", self.files, self.backups);
        judged(&command, |verdict| self.body(verdict))
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        let world = World::new("history")?;
        let program = Program::with_repository(&world.path("repository"))?;
        let folder = world.path("folder");
        for nth in 0..self.files {
            let file = self.file(&folder, nth);
            fs::create_dir_all(file.parent().unwrap_or(&folder))?;
            fs::write(file, content(nth as u64))?;
        }
        let backup =
            || usage::of(&mut program.command([Path::new("backup"), &folder])).map(|(usage, _)| usage);
        let (mut taken, mut first) = (Vec::new(), 0);
        for nth in 0..self.backups {
            for changed in (0..CHANGED).map(|n| (nth * CHANGED + n) * 7919 % self.files) {
                fs::write(
                    self.file(&folder, changed),
                    content((self.files + nth * CHANGED + changed) as u64),
                )?;
            }
            taken.push(backup()?);
            if nth == 0 {
                first = bytes_below(program.repo())?;
            }
        }
        let added = (bytes_below(program.repo())? - first) / (self.backups as u64 - 1) / 1000;
        verdict
            .figure(format_args!("a backup adds {added} kB, of files of {} kB", CHANGED * FILE_BYTES / 1000));
        // The first backup reads everything.
        let (early, late) = (&taken[1..][..SAMPLE], &taken[taken.len() - SAMPLE..]);
        let [(early, _), (late, memory)] = [early, late].map(of_sample);
        verdict.figure(format_args!("a backup: {early:.3} s early, {late:.3} s late, {memory} MB"));
        let slower = late / early;
        verdict.check(
            slower < SLOWER_MAX,
            format_args!("a late backup takes {slower:.2} times as long as an early one"),
        );

        let before = [objects(program.repo(), "packs")?, objects(program.repo(), "index")?];
        let bytes = bytes_below(program.repo())?;
        let (first, second) = (world.path("first"), world.path("second"));
        self.timed("restore", restore(&program, &first), verdict)?;
        self.timed("info", program.command(["info"]), verdict)?;
        let count = self.backups.to_string();
        let prune = ["prune", "--keep-snapshots", &count, "--execute"];
        self.timed("prune", program.command(prune), verdict)?;
        let after = [objects(program.repo(), "packs")?, objects(program.repo(), "index")?];
        let grown = bytes_below(program.repo())? as f64 / bytes as f64;
        verdict.figure(format_args!(
            "packs {} and index objects {}, pruned {} and {}, {grown:.3} times the bytes",
            before[0], before[1], after[0], after[1]
        ));
        let full = bytes as usize / (8 << 20);
        verdict.check(
            after.iter().all(|left| *left <= full + LEFT_MAX),
            "a prune leaves too many small objects",
        );
        verdict.check(grown < 1.01, format_args!("a prune leaves {grown:.3} times the bytes"));
        self.timed("restore, pruned", restore(&program, &second), verdict)?;
        let pruned = backup()?;
        verdict.figure(format_args!("a backup, pruned: {:.3} s", pruned.seconds));
        self.timed("verify", program.command(["verify", "--deep"]), verdict)?;
        for nth in 0..self.files {
            let now = self.file(&folder, nth);
            for restored in [&first, &second] {
                verdict.check(
                    same(&now, &self.file(restored, nth))?,
                    format_args!("{} differs after the restore", now.display()),
                );
            }
        }
        Ok(())
    }

    fn file(&self, folder: &Path, nth: usize) -> PathBuf {
        folder.join(format!("{:03}/{nth}", nth % 200))
    }

    fn timed(&self, what: &str, mut command: Command, verdict: &mut Verdict) -> Result<()> {
        let (Usage { seconds, memory, .. }, _) = usage::of(&mut command)?;
        verdict.figure(format_args!("{what}: {seconds:.2} s, {} MB", memory / 1_000_000));
        verdict.check(memory < MEMORY_MAX, format_args!("{what} takes {memory} bytes of memory"));
        Ok(())
    }
}

fn restore(program: &Program, output: &Path) -> Command {
    let mut command = program.command(["restore", "--to", "latest", "--output"]);
    command.arg(output);
    command
}

/// Median of the times in seconds, and maximum memory in MB.
fn of_sample(taken: &[Usage]) -> (f64, u64) {
    let seconds: Vec<f64> = taken.iter().map(|usage| usage.seconds).collect();
    let memory = taken.iter().map(|usage| usage.memory).max().unwrap_or_default();
    (median(&seconds), memory / 1_000_000)
}

/// Number of files in a folder of the repository.
fn objects(repo: &Path, folder: &str) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(repo.join(folder))? {
        let entry = entry?;
        let inner = Path::new(folder).join(entry.file_name());
        count += if entry.file_type()?.is_dir() { objects(repo, &inner.to_string_lossy())? } else { 1 };
    }
    Ok(count)
}

fn content(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    (0..FILE_BYTES / 4).flat_map(|_| word().to_le_bytes()).collect()
}
