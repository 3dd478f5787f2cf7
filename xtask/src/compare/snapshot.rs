//! Snapshots beside other people's backups of the same file: a first one, a second one after a share of its pages changed, a
//! restore, and whatever each has for checking all that it stored.
//!
//! Every program starts with nothing in the page cache and a repository of its own, and is timed until all that it wrote is
//! on the disk. Each runs with its documented fast settings and zstd; what each stored stands beside its time. The changes are
//! written into the file in place.

use super::median;
use crate::Result;
use crate::application::Application;
use crate::bound;
use crate::usage::{self, Usage};
use crate::verdict;
use crate::world::{self, World, bytes_below, forget};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE_BYTES: usize = 4096;
const LEVEL: i32 = 3;
const STEPS: [&str; 4] = ["first", "second", "restore", "check"];

const HEAD: &str = "# Snapshots beside other backups\n\nEach table is one run of the command that stands over it; MB are decimal. Memory is the peak of anonymous memory. The\n\
    bound is the same bytes through read, hash, codec, write and fsync with none of our crates, fastest of several ways.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Snapshots {
    /// Size of the database, megabytes
    #[arg(long, default_value_t = 4000)]
    megabytes: u32,
    /// Share of its pages that is changed before the second backup
    #[arg(long, default_value_t = 0.05)]
    share: f64,
    /// Paired runs; the table shows medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these: pitr, restic, rustic, borg, bound
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Pitr,
    Restic,
    Rustic,
    Borg,
}

impl Peer {
    const ALL: [Peer; 4] = [Peer::Pitr, Peer::Restic, Peer::Rustic, Peer::Borg];

    fn name(self) -> &'static str {
        match self {
            Peer::Pitr => "pitr",
            Peer::Restic => "restic",
            Peer::Rustic => "rustic",
            Peer::Borg => "borg",
        }
    }

    /// Its version, if it is installed.
    fn version(self) -> Option<String> {
        let argument = if self == Peer::Restic { "version" } else { "--version" };
        let output = Command::new(self.name()).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }
}

/// What one step of one run took.
#[derive(Debug, Clone, Copy)]
struct Figures {
    usage: Usage,
    /// Bytes of the repository afterwards, and how many of them are new.
    stored: u64,
    added: u64,
}

type Table = BTreeMap<(usize, &'static str), Vec<Figures>>;

impl Snapshots {
    pub(crate) fn run(&self) -> Result<bool> {
        let mut command = format!(
            "cargo xtask compare snapshot --megabytes {} --share {} --runs {}",
            self.megabytes, self.share, self.runs
        );
        if !self.only.is_empty() {
            command += &format!(" --only {}", self.only.join(","));
        }
        println!("{command}");
        let data = self.data()?;
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let mut peers = Vec::new();
        for peer in Peer::ALL.into_iter().filter(|peer| wanted(peer.name())) {
            match if peer == Peer::Pitr { Some(verdict::commit()) } else { peer.version() } {
                Some(version) => peers.push((peer, version)),
                None => println!("  {} is not installed and left out", peer.name()),
            }
        }
        let (mut table, mut bounds) = (Table::new(), [0.0f64; 2]);
        for round in 0..self.runs {
            for nth in 0..peers.len() {
                let (peer, _) = peers[(round + nth) % peers.len()];
                self.once(peer, &data, &mut table)?;
            }
            if wanted("bound") {
                let world = World::new("bound")?;
                for way in bound::ways() {
                    let rates = way.measure(&data.before, &world, LEVEL)?;
                    bounds = [bounds[0].max(rates.backup), bounds[1].max(rates.restore)];
                }
            }
        }
        self.keep(&command, &data, &peers, &table, bounds)?;
        Ok(true)
    }

    /// The database before and after the change, made once for each size.
    fn data(&self) -> Result<Data> {
        let dir = world::target().join(format!("data/snapshot-{}-{}", self.megabytes, self.share));
        let data = Data { before: dir.join("before.db"), after: dir.join("after.db") };
        if !dir.join("made").exists() {
            println!("  making a database of {} MB", self.megabytes);
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)?;
            let folder = dir.to_string_lossy().into_owned();
            let args = [&folder, &self.megabytes.to_string(), &self.share.to_string(), "1"];
            let application = Application::start("snapshot.py", &args)?;
            application.event("done")?;
            application.end()?;
            File::create(dir.join("made"))?;
        }
        Ok(data)
    }

    /// All steps of one program.
    fn once(&self, peer: Peer, data: &Data, table: &mut Table) -> Result<()> {
        let world = World::new(peer.name())?;
        let run = Run::new(peer, &world)?;
        fs::copy(&data.before, &run.source)?;
        let mut before = bytes_below(&run.repo)?;
        for (nth, step) in STEPS.into_iter().enumerate() {
            if step == "second" {
                patch(&run.source, &data.after)?;
            }
            let Some(mut command) = run.command(step)? else { continue };
            forget(&run.source)?;
            forget_below(&run.repo)?;
            let (usage, _) = usage::of(&mut command)?;
            let stored = bytes_below(&run.repo)?;
            let figures = Figures { usage, stored, added: stored.saturating_sub(before) };
            before = stored;
            println!(
                "  {} {step}: {:.2} s, {} MB added",
                peer.name(),
                usage.seconds,
                figures.added / 1_000_000
            );
            table.entry((nth, peer.name())).or_default().push(figures);
        }
        if !same(&run.restored(), &data.after)? {
            return Err(format!("{} restored something else", peer.name()).into());
        }
        Ok(())
    }

    fn keep(
        &self,
        command: &str,
        data: &Data,
        peers: &[(Peer, String)],
        table: &Table,
        bounds: [f64; 2],
    ) -> Result<()> {
        let megabytes = data.before.metadata()?.len() as f64 / 1e6;
        let mut text = String::from(
            "| step | program | s | MB/s | CPU s | memory, MB | repository, MB | added, MB |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for ((nth, name), runs) in table {
            let of = |get: fn(&Figures) -> f64| median(&runs.iter().map(get).collect::<Vec<_>>());
            let seconds = of(|figures| figures.usage.seconds);
            let (cpu, memory) =
                (of(|figures| figures.usage.cpu_seconds), of(|figures| figures.usage.memory as f64 / 1e6));
            let (stored, added) =
                (of(|figures| figures.stored as f64 / 1e6), of(|figures| figures.added as f64 / 1e6));
            let rate = megabytes / seconds;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {name} | {seconds:.2} | {rate:.0} | {cpu:.1} | {memory:.0} | {stored:.0} | {added:.1} |",
                STEPS[*nth]
            );
        }
        if bounds[0] > 0.0 {
            let _ = writeln!(text, "| first | the bound | | {:.0} | | | | |", bounds[0]);
            let _ = writeln!(text, "| restore | the bound | | {:.0} | | | | |", bounds[1]);
        }
        print!("{text}");
        let versions: Vec<String> = peers
            .iter()
            .filter(|(peer, _)| *peer != Peer::Pitr)
            .map(|(_, version)| version.clone())
            .collect();
        let block = format!(
            "\n## {}, {}, pitr at {}\n\n`{command}`: a database of {megabytes:.0} MB; {}\n\n{text}",
            verdict::today(),
            verdict::machine(),
            verdict::commit(),
            versions.join(", ")
        );
        verdict::keep("snapshot.md", HEAD, &block)
    }
}

/// A database, and the same with some pages changed.
struct Data {
    before: PathBuf,
    after: PathBuf,
}

/// Writes into `file` the pages of `to` that differ from it, and no other.
fn patch(file: &Path, to: &Path) -> Result<()> {
    let (file, to) = (File::options().read(true).write(true).open(file)?, File::open(to)?);
    let len = to.metadata()?.len();
    file.set_len(len)?;
    let (mut old, mut new) = (vec![0; 256 * PAGE_BYTES], vec![0; 256 * PAGE_BYTES]);
    for from in (0..len).step_by(old.len()) {
        let bytes = old.len().min((len - from) as usize);
        file.read_exact_at(&mut old[..bytes], from)?;
        to.read_exact_at(&mut new[..bytes], from)?;
        let pages = old[..bytes].chunks(PAGE_BYTES).zip(new[..bytes].chunks(PAGE_BYTES));
        for (nth, (old, new)) in pages.enumerate() {
            if old != new {
                file.write_all_at(new, from + (nth * PAGE_BYTES) as u64)?;
            }
        }
    }
    Ok(file.sync_all()?)
}

/// One program with its folders.
struct Run {
    peer: Peer,
    binary: PathBuf,
    repo: PathBuf,
    /// The file that is backed up, alone in its folder.
    source: PathBuf,
    output: PathBuf,
}

impl Run {
    /// With an empty repository.
    fn new(peer: Peer, world: &World) -> Result<Run> {
        let (repo, folder, output) = (world.path("repo"), world.path("source"), world.path("output"));
        fs::create_dir(&folder)?;
        fs::create_dir(&output)?;
        let binary = match peer {
            Peer::Pitr => world::build()?,
            _ => PathBuf::from(peer.name()),
        };
        let run = Run { peer, binary, repo, source: folder.join("app.db"), output };
        let mut init = run.bare();
        match peer {
            Peer::Pitr | Peer::Restic | Peer::Rustic => init.arg("init"),
            Peer::Borg => init.args(["init", "--encryption", "none"]),
        };
        usage::of(&mut init)?;
        Ok(run)
    }

    fn restored(&self) -> PathBuf {
        match self.peer {
            // These keep the whole path.
            Peer::Restic | Peer::Rustic => {
                let inner = self.source.strip_prefix("/").unwrap_or(&self.source);
                let whole = self.output.join(inner);
                if whole.exists() { whole } else { self.output.join("app.db") }
            }
            Peer::Pitr | Peer::Borg => self.output.join("app.db"),
        }
    }

    fn bare(&self) -> Command {
        let mut command = Command::new(&self.binary);
        match self.peer {
            Peer::Pitr => _ = command.arg("--quiet").arg("--repo").arg(&self.repo),
            Peer::Restic => {
                command.env("RESTIC_PASSWORD", "x").env("RESTIC_REPOSITORY", &self.repo);
                command.arg("--no-cache");
            }
            Peer::Rustic => {
                command.env("RUSTIC_PASSWORD", "x").env("RUSTIC_REPOSITORY", &self.repo);
                command.args(["--no-cache", "--no-progress"]);
            }
            Peer::Borg => {
                command.env("BORG_REPO", &self.repo).env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
                command.env("BORG_BASE_DIR", self.output.with_file_name("borg"));
            }
        }
        command
    }

    /// What this program calls the step; `None` if it has none.
    fn command(&self, step: &str) -> Result<Option<Command>> {
        let mut command = self.bare();
        let folder = self.source.parent().unwrap_or(&self.source);
        match (self.peer, step) {
            (Peer::Pitr, "first" | "second") => _ = command.arg("backup").arg(&self.source),
            (Peer::Pitr, "restore") => {
                _ = command.args(["restore", "--to", "latest", "--output"]).arg(self.restored())
            }
            (Peer::Pitr, _) => return Ok(None),
            (Peer::Restic | Peer::Rustic, "first" | "second") => _ = command.arg("backup").arg(folder),
            (Peer::Restic, "restore") => {
                _ = command.args(["restore", "latest", "--target"]).arg(&self.output)
            }
            (Peer::Rustic, "restore") => _ = command.args(["restore", "latest"]).arg(&self.output),
            (Peer::Restic | Peer::Rustic, _) => _ = command.args(["check", "--read-data"]),
            (Peer::Borg, "first" | "second") => {
                command.current_dir(folder).args(["create", "--compression", "zstd,3"]);
                _ = command.arg(format!("::{step}")).arg("app.db");
            }
            (Peer::Borg, "restore") => _ = command.current_dir(&self.output).args(["extract", "::second"]),
            (Peer::Borg, _) => _ = command.args(["check", "--verify-data"]),
        }
        Ok(Some(command))
    }
}

fn forget_below(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_below(&entry.path())?;
        } else {
            forget(&entry.path())?;
        }
    }
    Ok(())
}

fn same(a: &Path, b: &Path) -> Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let bytes = a.read(&mut left)?;
        if bytes == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..bytes])?;
        if left[..bytes] != right[..bytes] {
            return Ok(false);
        }
    }
}
