//! Compares snapshots with other backups of the same data: a first backup, a second one after a
//! share of the blocks changed, a restore, and each program's check of its repository.
//!
//! Every program starts with an empty page cache and its own repository. Its time ends when
//! everything it wrote is on the disk. Each runs with its documented fast settings and zstd; the
//! stored bytes are shown next to the time. The changes are written into the data in place. There
//! are two more cases. For a database, an application commits the changes under `pitr watch`, and
//! then `pitr backup` is timed. For a cluster, the writer of the changes passes a list of its
//! changes to `pitr backup`.

mod data;
mod peer;
mod targets;

use super::{median, order};
use crate::Result;
use crate::application::Application;
use crate::bound::{self, Rates, Way};
use crate::drill::settle;
use crate::program::Program;
use crate::usage::{self, Usage};
use crate::verdict;
use crate::world::{World, drop_cache, drop_cache_below};
use data::{Change, Data, Kind, size};
use peer::{LEVEL, Peer, Run, Step};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use targets::Outcome;

const HEAD: &str = "# Snapshots compared with other backups\n\nEach table is one run of the command above it; MB are decimal. Memory is the peak of anonymous memory. The\n\
    bound is the same bytes through read, hash, codec, write and fsync with none of our crates: the fastest of several ways by their medians,\n\
    measured between the programs. For a second backup it is reading and hashing all bytes, which a program must do if nothing tells it what changed.\n\
    *second, watched*: an application committed the changes under `pitr watch`; the time is that of `pitr backup`. *second, listed*:\n\
    the program that changed the files kept a list of what it wrote; the time is that of `pitr backup --changed-ranges`.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Snapshots {
    /// The data to back up
    #[arg(long, value_delimiter = ',', default_value = "database,cluster")]
    data: Vec<Kind>,
    /// Size of the data, megabytes
    #[arg(long, default_value_t = 4000)]
    megabytes: u32,
    /// Share of the data's blocks that is changed before the second backup
    #[arg(long, default_value_t = 0.05)]
    share: f64,
    /// Paired runs; the table shows medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these contenders: pitr, restic, rustic, borg, pgbackrest, bound
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A pgBackRest with bundles and block increments, in addition to the distribution's
    #[arg(long)]
    pgbackrest: Option<PathBuf>,
}

/// Figures of one step of one run.
#[derive(Debug, Clone, Copy)]
struct Figures {
    usage: Usage,
    /// Size of the repository afterwards, and number of new bytes.
    stored: u64,
    added: u64,
}

type Table = BTreeMap<(&'static str, &'static str), Vec<Figures>>;

const WATCHED: &str = "second, watched";
const LISTED: &str = "second, listed";

impl Snapshots {
    pub(crate) fn run(&self) -> Result<bool> {
        let reached: Result<Vec<bool>> = self.data.iter().map(|kind| self.compare(*kind)).collect();
        Ok(reached?.into_iter().all(|reached| reached))
    }

    /// Compares the programs on one kind of data. True if no target is missed.
    fn compare(&self, kind: Kind) -> Result<bool> {
        let mut command = format!(
            "cargo xtask compare snapshot --data {} --megabytes {} --share {} --runs {}",
            kind.name(),
            self.megabytes,
            self.share,
            self.runs
        );
        if !self.only.is_empty() {
            command += &format!(" --only {}", self.only.join(","));
        }
        println!("{command}");
        let data = Data::make(kind, self.megabytes, self.share)?;
        let peers = self.peers(kind);
        let ways: Vec<Way> = bound::ways().filter(|_| self.wants("bound")).collect();
        let (mut table, mut bounds) = (Table::new(), vec![Vec::new(); ways.len()]);
        for round in 0..self.runs {
            // The bound is measured between the programs: the speed of a shared machine changes by
            // the minute.
            for nth in order(peers.len() + ways.len(), round) {
                let Some((peer, _)) = peers.get(nth) else {
                    let nth = nth - peers.len();
                    let rates = ways[nth].measure(&data.whole, &World::new("bound")?, LEVEL)?;
                    println!("  {}", ways[nth].line(rates));
                    bounds[nth].push(rates);
                    continue;
                };
                once(peer, &data, &mut table)?;
                if *peer == Peer::Pitr {
                    let (step, figures) = match kind {
                        Kind::Database => (WATCHED, watched(&data, self.share)?),
                        Kind::Cluster => (LISTED, listed(&data)?),
                    };
                    print_figures("pitr", step, figures);
                    table.entry((step, "pitr")).or_default().push(figures);
                }
            }
        }
        let bounds = Bounds::of_all(&bounds);
        let table = table.iter().map(|(row, runs)| (*row, Medians::of(runs))).collect();
        keep(&command, &data, &peers, &table, bounds)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The installed programs that support this kind of data, with their versions.
    fn peers(&self, kind: Kind) -> Vec<(Peer, String)> {
        let mut peers = vec![Peer::Pitr, Peer::Restic, Peer::Rustic, Peer::Borg];
        if kind == Kind::Cluster {
            peers.push(Peer::PgBackRest(None));
            peers.extend(self.pgbackrest.iter().map(|path| Peer::PgBackRest(Some(path.clone()))));
        }
        peers.retain(|peer| self.wants(peer.name().split(',').next().unwrap_or_default()));
        let installed = |peer: Peer| match peer.version() {
            Some(version) => Some((peer, version)),
            None => {
                println!("  {} is not installed; skipped", peer.name());
                None
            }
        };
        peers.into_iter().filter_map(installed).collect()
    }
}

fn print_figures(name: &str, step: &str, figures: Figures) {
    println!("  {name} {step}: {:.2} s, {} MB added", figures.usage.seconds, figures.added / 1_000_000);
}

/// Runs all steps of one program.
fn once(peer: &Peer, data: &Data, table: &mut Table) -> Result<()> {
    let world = World::new("compare")?;
    let source = data.lay_out(&world.path("source"))?;
    let run = Run::new(peer, &source, &world)?;
    let mut before = size(&run.repo)?;
    for step in Step::ALL {
        if step == Step::Second {
            source.change(data)?;
        }
        let mut command = run.command(step);
        source.drop_cache()?;
        drop_cache_below(&run.repo)?;
        let (usage, _) = usage::of(&mut command)?;
        let stored = size(&run.repo)?;
        let figures = Figures { usage, stored, added: stored.saturating_sub(before) };
        before = stored;
        print_figures(peer.name(), step.name(), figures);
        table.entry((step.name(), peer.name())).or_default().push(figures);
    }
    source.compare(&run.restored(), data)
}

/// Measures an increment of what an application committed under a watch.
fn watched(data: &Data, share: f64) -> Result<Figures> {
    let world = World::new("watched")?;
    let source = data.lay_out(&world.path("source"))?;
    let database = source.path();
    let program = Program::with_repository(&world.path("repo"))?;
    let watch = program.watch(database, &[])?;
    let path = database.to_string_lossy().into_owned();
    let application = Application::start("snapshot.py", &["change", &path, &share.to_string(), "1"])?;
    application.event("done")?;
    settle();
    watch.stop()?;
    drop_cache(database)?;
    drop_cache_below(program.repo())?;
    let before = size(program.repo())?;
    let (usage, _) = usage::of(&mut program.command([Path::new("backup"), database]))?;
    application.end()?;
    let stored = size(program.repo())?;
    Ok(Figures { usage, stored, added: stored.saturating_sub(before) })
}

/// Measures an increment from a list of changed ranges, and checks its restore.
fn listed(data: &Data) -> Result<Figures> {
    let world = World::new("listed")?;
    let source = data.lay_out(&world.path("source"))?;
    let run = Run::new(&Peer::Pitr, &source, &world)?;
    let (_, first) = usage::of(&mut run.command(Step::First))?;
    let first = String::from_utf8_lossy(&first.stdout).into_owned();
    let id = first.split_whitespace().skip_while(|word| *word != "snapshot").nth(1);
    let mut list =
        format!("pitr changed ranges 1\nsince {}\n", id.ok_or("the first backup names no snapshot")?);
    for Change { file, offset, len } in source.change(data)? {
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{offset} {len} {}", file.display());
    }
    let path = world.path("list");
    std::fs::write(&path, list)?;
    source.drop_cache()?;
    drop_cache_below(&run.repo)?;
    let before = size(&run.repo)?;
    let (usage, _) = usage::of(run.command(Step::Second).arg("--changed-ranges").arg(path))?;
    let stored = size(&run.repo)?;
    usage::of(&mut run.command(Step::Restore))?;
    source.compare(&run.restored(), data)?;
    Ok(Figures { usage, stored, added: stored.saturating_sub(before) })
}

/// Medians of one step of one program.
#[derive(Debug, Clone, Copy)]
struct Medians {
    seconds: f64,
    cpu_seconds: f64,
    memory: f64,
    stored: f64,
    added: f64,
}

impl Medians {
    fn of(runs: &[Figures]) -> Self {
        let of = |get: fn(&Figures) -> f64| median(&runs.iter().map(get).collect::<Vec<_>>());
        Medians {
            seconds: of(|figures| figures.usage.seconds),
            cpu_seconds: of(|figures| figures.usage.cpu_seconds),
            memory: of(|figures| figures.usage.memory as f64),
            stored: of(|figures| figures.stored as f64),
            added: of(|figures| figures.added as f64),
        }
    }
}

type MedianTable = BTreeMap<(&'static str, &'static str), Medians>;

/// Rates of the bound, MB/s; 0 where it was not measured.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: f64,
    second: f64,
    restore: f64,
}

impl Bounds {
    /// The median of each combination, as for the programs; of these the fastest.
    fn of_all(ways: &[Vec<Rates>]) -> Self {
        let best = |rate: fn(&Rates) -> f64| {
            let medians = ways.iter().map(|rates| median(&rates.iter().map(rate).collect::<Vec<_>>()));
            medians.filter(|rate| rate.is_finite()).fold(0.0, f64::max)
        };
        Bounds {
            first: best(|rates| rates.backup),
            second: best(|rates| rates.comparison),
            restore: best(|rates| rates.restore),
        }
    }

    fn of(&self, step: &str) -> Option<f64> {
        let of = [(Step::First, self.first), (Step::Second, self.second), (Step::Restore, self.restore)];
        of.into_iter().find(|(of, bound)| of.name() == step && *bound > 0.0).map(|(_, bound)| bound)
    }
}

fn rows() -> [&'static str; 6] {
    let [first, second, restore, check] = Step::ALL.map(Step::name);
    [first, second, WATCHED, LISTED, restore, check]
}

/// Keeps the table and the outcomes. True if no target is missed.
fn keep(
    command: &str,
    data: &Data,
    peers: &[(Peer, String)],
    table: &MedianTable,
    bounds: Bounds,
) -> Result<bool> {
    let megabytes = data.megabytes()?;
    let mut text = String::from(
        "| step | program | s | MB/s | CPU s | memory, MB | repository, MB | added, MB |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for step in rows() {
        for ((_, name), row) in table.iter().filter(|((of, _), _)| *of == step) {
            let Medians { seconds, cpu_seconds, .. } = row;
            let rate = megabytes / seconds;
            let [memory, stored, added] = [row.memory, row.stored, row.added].map(|bytes| bytes / 1e6);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {step} | {name} | {seconds:.2} | {rate:.0} | {cpu_seconds:.1} | {memory:.0} | {stored:.0} | {added:.1} |"
            );
        }
        if let Some(bound) = bounds.of(step) {
            let _ = writeln!(text, "| {step} | the bound | | {bound:.0} | | | | |");
        }
    }
    let targets = targets::of(megabytes, table, bounds);
    text.push('\n');
    for (outcome, target) in &targets {
        let _ = writeln!(text, "- {target}: {outcome}");
    }
    print!("{text}");
    let versions: Vec<&str> =
        peers.iter().filter(|(peer, _)| *peer != Peer::Pitr).map(|(_, version)| version.as_str()).collect();
    let block = format!(
        "\n## {}, {}, pitr at {}\n\n`{command}`: a {} of {megabytes:.0} MB; {}\n\n{text}",
        verdict::today(),
        verdict::machine(),
        verdict::commit(),
        data.kind.name(),
        versions.join(", ")
    );
    verdict::keep("snapshot.md", HEAD, &block)?;
    Ok(targets.iter().all(|(outcome, _)| *outcome != Outcome::Missed))
}
