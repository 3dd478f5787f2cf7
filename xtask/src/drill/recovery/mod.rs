//! Recovery at full size: a base and a log of given sizes, restored to a transaction by a separate
//! process with a cold cache, and compared block by block.
//!
//! 1. A seeded workload fills an engine with rows (`rows.rs`). A snapshot of it goes into a
//!    repository. Then transactions change rows at random places and add some, until the log has
//!    its size; everything is archived. Shortly before the end, one transaction is the target, and
//!    the hash of every block at that moment is kept.
//! 2. The source is deleted, and the repository is dropped from the page cache.
//! 3. A process restores the target. All files, their lengths and every block are compared.
//! 4. The bound of the machine is measured with the same kind of data on the same disk
//!    ([`RestoreBound`]). The rate is base plus log, divided by the time.
//!
//! The log is then validated, which is timed, too. `--cores` restores with one worker on one core
//! and with two on two, and compares the times of the whole processes.
//!
//! `--kill` kills restores at random moments. What they leave must not open, and the restore that
//! comes last must be exact.

mod kill;
mod part;
mod reference;
mod report;
pub(crate) mod sqlite;

pub(crate) use part::Part;

use super::judged;
use crate::Result;
use crate::blocks::{Blocks, Content};
use crate::bound::{Amounts, RestoreBound};
use crate::size::{Size, Sizes, check_free};
use crate::usage::{self, DiskPeak};
use crate::verdict::Verdict;
use crate::world::{self, World, drop_cache_below};
use pitr::Pitr;
use report::{Report, Run};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Part of the log before the target.
const TARGET_SHARE: f64 = 0.97;
/// Up to this size of base and log, the latest state is restored and compared too.
const SMALL_BYTES: u64 = 4_000_000_000;
/// Space besides base, log and repository: segments of the local log, and the sample of the bound.
const SPARE_BYTES: u64 = 2_500_000_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Recovery {
    /// Size of the base
    #[arg(long, default_value = "1G")]
    base: Size,
    /// Size of the log after it
    #[arg(long, default_value = "500M")]
    wal: Size,
    /// Several sizes of base and log, in GB, instead: `2+1,6+3`
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["base", "wal"])]
    sizes: Vec<Sizes>,
    /// The engine that is restored
    #[arg(long, value_enum, default_value_t = Engine::Reference)]
    engine: Engine,
    /// The same seed writes the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of a restore; as many as there are cores if not set
    #[arg(long)]
    workers: Option<NonZeroUsize>,
    /// Timed restores of each size; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Number of restores that are killed at random moments
    #[arg(long, default_value_t = 0)]
    kill: u32,
    /// Compare one worker on one core with two on two
    #[arg(long)]
    cores: bool,
    /// Leave repository and result on the disk
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// The store of `engines/reference`, restored through the library
    Reference,
    /// A SQLite file under `pitr watch`, restored by the program
    Sqlite,
}

/// A repository whose source is gone.
#[derive(Debug)]
struct Protected {
    repo: PathBuf,
    /// Length of the snapshot's files, bytes.
    base_bytes: u64,
    content: Content,
    /// Bytes of the repository.
    stored_bytes: u64,
    target: State,
    /// Only of a small run.
    latest: Option<State>,
}

/// A state that can be restored.
#[derive(Debug)]
struct State {
    /// The argument of `--to`.
    to: String,
    blocks: Blocks,
}

/// The folders of a run, and its sizes.
struct Site<'a> {
    world: &'a World,
    sizes: Sizes,
    seed: u64,
    /// True if the latest state is wanted too.
    small: bool,
}

impl Site<'_> {
    /// Folder of the source.
    fn source(&self) -> PathBuf {
        self.world.path("source")
    }

    fn repo(&self) -> PathBuf {
        self.world.path("repository")
    }

    /// Bytes of log at which the target is noted.
    fn target_at(&self) -> u64 {
        (self.sizes.log.bytes() as f64 * TARGET_SHARE) as u64
    }
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Reference => "reference",
            Engine::Sqlite => "sqlite",
        }
    }

    fn protect(self, site: &Site<'_>, verdict: &Verdict) -> Result<Protected> {
        match self {
            Engine::Reference => reference::protect(site, verdict),
            Engine::Sqlite => sqlite::protect(site, verdict),
        }
    }

    /// The name of a restored output.
    fn output(self) -> &'static str {
        match self {
            Engine::Reference => "store",
            Engine::Sqlite => sqlite::DATABASE,
        }
    }

    /// The files that a restored output consists of.
    fn files(self, output: &Path) -> Result<Vec<PathBuf>> {
        match self {
            Engine::Reference => reference::files(output),
            Engine::Sqlite => Ok(vec![output.to_owned()]),
        }
    }

    /// A process that restores `to`.
    fn restore(self, repo: &Path, to: &str, output: &Path, workers: Option<NonZeroUsize>) -> Result<Command> {
        let mut command = match self {
            Engine::Reference => part::command("restore", repo)?,
            Engine::Sqlite => sqlite::restore(repo),
        };
        command.args(["--to", to]).arg("--output").arg(output);
        if let Some(workers) = workers {
            command.args(["--workers", &workers.to_string()]);
        }
        Ok(command)
    }

    /// A process that validates the log up to `to`.
    fn validate(self, repo: &Path, to: &str) -> Result<Command> {
        let mut command = match self {
            Engine::Reference => part::command("validate", repo)?,
            Engine::Sqlite => {
                let mut command = sqlite::restore(repo);
                command.arg("--validate");
                command
            }
        };
        command.args(["--to", to]);
        Ok(command)
    }

    /// Fails if the output of a killed restore opens. `None` if it has no content yet.
    fn opens(self, leftover: &Path, aside: &Path) -> Result<Option<bool>> {
        match self {
            Engine::Reference => reference::opens(leftover, aside),
            Engine::Sqlite => sqlite::opens(leftover),
        }
    }
}

impl Recovery {
    /// The drill with a base of 1 GB.
    pub(super) fn both(seed: u64) -> [Recovery; 2] {
        let of = |engine| Recovery {
            base: Size::mega(1000),
            wal: Size::mega(500),
            sizes: Vec::new(),
            engine,
            seed,
            workers: None,
            runs: 3,
            kill: 3,
            cores: false,
            keep: false,
        };
        [Engine::Reference, Engine::Sqlite].map(of)
    }

    pub(crate) fn run(&self) -> Result<bool> {
        judged(&self.command(), |verdict| self.body(verdict))
    }

    fn command(&self) -> String {
        let sizes = match self.sizes.as_slice() {
            [] => format!("--base {} --wal {}", self.base, self.wal),
            sizes => format!("--sizes {}", sizes.iter().map(Sizes::to_string).collect::<Vec<_>>().join(",")),
        };
        let workers = self.workers.map_or_else(String::new, |workers| format!(" --workers {workers}"));
        let kill = if self.kill > 0 { format!(" --kill {}", self.kill) } else { String::new() };
        let cores = if self.cores { " --cores" } else { "" };
        let (engine, seed, runs) = (self.engine.name(), self.seed, self.runs);
        format!(
            "cargo xtask drill recovery {sizes} --engine {engine} --seed {seed} --runs {runs}{workers}{kill}{cores}"
        )
    }

    fn body(&self, verdict: &mut Verdict) -> Result<()> {
        if self.engine == Engine::Sqlite {
            world::build()?;
        }
        let one = [Sizes { base: self.base, log: self.wal }];
        let sizes = if self.sizes.is_empty() { &one[..] } else { &self.sizes };
        let mut runs = Vec::new();
        for sizes in sizes {
            runs.push(self.once(*sizes, verdict)?);
        }
        report::project(&runs, verdict);
        Ok(())
    }

    /// One run with a base and a log of these sizes.
    fn once(&self, sizes: Sizes, verdict: &mut Verdict) -> Result<Run> {
        let world = World::new("recovery")?;
        let needed = needed(sizes);
        let free = check_free(&world.path(""), needed)?;
        verdict.step(format_args!(
            "{sizes}: needs {} MB, {} MB are free",
            needed / 1_000_000,
            free / 1_000_000
        ));
        let disk = DiskPeak::of(&world.path(""));
        let small = sizes.base.bytes() + sizes.log.bytes() <= SMALL_BYTES;
        let site = Site { world: &world, sizes, seed: self.seed, small };
        let protected = self.engine.protect(&site, verdict)?;
        std::fs::remove_dir_all(site.source())?;
        report::data(sizes, &protected, verdict);

        let folder = world.path("restored");
        std::fs::create_dir(&folder)?;
        let output = folder.join(self.engine.output());
        let mut run = self.timed(&protected, &output, verdict)?;
        let amounts = Amounts {
            base: protected.base_bytes,
            log: run.report.wal_bytes,
            result: protected.target.blocks.bytes(),
        };
        let files = self.engine.files(&output)?;
        run.set_bound(amounts, RestoreBound::measure(&files, amounts, &folder)?);
        if self.engine == Engine::Sqlite {
            sqlite::check(&output, verdict)?;
        }
        self.validated(&protected, verdict)?;
        if self.cores {
            self.compare_cores(&protected, &output, verdict)?;
        }
        if let Some(latest) = protected.latest.as_ref().filter(|_| !self.keep) {
            remove(&output)?;
            self.measured(&protected, latest, &output, verdict)?;
        }
        if self.kill > 0 {
            remove(&output)?;
            self.kill(&protected, &output, run.seconds, verdict)?;
        }
        run.print(sizes, disk.stop(), verdict);
        if self.keep {
            println!("  kept: {}", world.keep().display());
        }
        Ok(run)
    }

    /// Restores the target several times; the run of the median time. The last result stays.
    fn timed(&self, protected: &Protected, output: &Path, verdict: &mut Verdict) -> Result<Run> {
        let mut runs = Vec::new();
        for nth in 0..self.runs.max(1) {
            if nth > 0 {
                remove(output)?;
            }
            runs.push(self.measured(protected, &protected.target, output, verdict)?);
        }
        Ok(Run::median(runs))
    }

    /// Restores a state with a cold cache, and compares every block.
    fn measured(
        &self,
        protected: &Protected,
        state: &State,
        output: &Path,
        verdict: &mut Verdict,
    ) -> Result<Run> {
        drop_cache_below(&protected.repo)?;
        let mut command = self.engine.restore(&protected.repo, &state.to, output, self.workers)?;
        let (usage, answer) = usage::of_durable(&mut command)?;
        let report = Report::of(&serde_json::from_slice(&answer.stdout)?)?;
        verdict.step(format_args!(
            "to {}: {:.2} s, {:.1} s of processor time ({}), {:.0} MB",
            state.to,
            usage.seconds,
            usage.cpu_seconds,
            report.phases,
            usage.memory as f64 / 1e6
        ));
        self.compare(state, output, verdict)?;
        Ok(Run::of(usage, report))
    }

    /// Times the validation of the log up to the target, with a cold cache.
    fn validated(&self, protected: &Protected, verdict: &mut Verdict) -> Result<()> {
        let mut times = Vec::new();
        let mut log = 0;
        for _ in 0..self.runs.max(1) {
            drop_cache_below(&protected.repo)?;
            let mut command = self.engine.validate(&protected.repo, &protected.target.to)?;
            let (usage, answer) = usage::of_durable(&mut command)?;
            log = serde_json::from_slice::<Value>(&answer.stdout)?["wal_bytes"].as_u64().unwrap_or_default();
            times.push(usage.seconds);
        }
        report::validation(log, times, verdict);
        Ok(())
    }

    /// Restores the target with one worker on one core and with two on two, in turns.
    fn compare_cores(&self, protected: &Protected, output: &Path, verdict: &mut Verdict) -> Result<()> {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..self.runs.max(1) {
            for (cores, times) in ["0", "0,1"].into_iter().zip(&mut times) {
                remove(output)?;
                drop_cache_below(&protected.repo)?;
                let workers = NonZeroUsize::new(cores.split(',').count());
                let restore = self.engine.restore(&protected.repo, &protected.target.to, output, workers)?;
                let mut command = Command::new("taskset");
                command.args(["-c", cores]).arg(restore.get_program()).args(restore.get_args());
                times.push(usage::of_durable(&mut command)?.0.seconds);
            }
        }
        let [one, two] = times;
        report::cores(one, two, verdict);
        Ok(())
    }

    fn compare(&self, state: &State, output: &Path, verdict: &mut Verdict) -> Result<()> {
        let found = Blocks::of_files(&self.engine.files(output)?)?;
        if let Some(difference) = state.blocks.difference(&found) {
            verdict.fail(format_args!("{}: {difference}", state.to));
        }
        Ok(())
    }
}

/// A store that was filled and archived, to compare a restore of its latest state.
pub(super) struct Archived {
    latest: Blocks,
}

/// Fills a store of the reference engine, takes a snapshot, logs, archives all of it in this
/// repository, and removes the store.
pub(super) fn archive_into(
    pitr: &Pitr,
    world: &World,
    sizes: Sizes,
    seed: u64,
    verdict: &Verdict,
) -> Result<Archived> {
    let site = Site { world, sizes, seed, small: true };
    let filled = reference::fill(pitr, &site, verdict)?;
    std::fs::remove_dir_all(site.source())?;
    Ok(Archived { latest: filled.latest.ok_or("the latest state was not kept")?.blocks })
}

impl Archived {
    /// Compares a restored store with the latest state.
    pub(super) fn check(&self, output: &Path, verdict: &mut Verdict) -> Result<()> {
        let found = Blocks::of_files(&reference::files(output)?)?;
        if let Some(difference) = self.latest.difference(&found) {
            verdict.fail(format_args!("the latest state: {difference}"));
        }
        Ok(())
    }
}

/// The free space that a run needs: source and repository, then repository and result.
fn needed(sizes: Sizes) -> u64 {
    let (base, log) = (sizes.base.bytes(), sizes.log.bytes());
    // The workload adds a tenth of the log to the files; rows compress 2 : 1 or better.
    base + log / 10 + base / 20 + (base + log) / 2 + SPARE_BYTES
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    match (path.is_dir(), path.exists()) {
        (true, _) => Ok(std::fs::remove_dir_all(path)?),
        (_, true) => Ok(std::fs::remove_file(path)?),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_for_18_gb_is_below_45() {
        let sizes: Sizes = "12+6".parse().unwrap();
        assert!((20_000_000_000..45_000_000_000).contains(&needed(sizes)));
    }
}
