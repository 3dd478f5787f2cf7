//! pitr and Litestream: a SQLite file that the same application writes.

use super::{Changes, Moment, Outcome, Work};
use crate::Result;
use crate::application;
use crate::at_rest::AtRest;
use crate::blocks::Blocks;
use crate::compare::litestream;
use crate::drill::recovery::sqlite::{self, DATABASE};
use crate::moments::rfc3339;
use crate::program::{Program, UNREACHABLE};
use crate::usage;
use crate::world::{World, bytes_below, drop_cache_below};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Litestream collects for a second by default.
const STILL: Duration = Duration::from_secs(3);
const STILL_AT_MOST: Duration = Duration::from_secs(1200);
/// Distance of a target by time from the commits around it.
const PAUSE: Duration = Duration::from_millis(500);

/// The states that an application left.
struct Written {
    target: Blocks,
    /// Argument of a restore for the target.
    to: String,
    /// The event in the middle.
    moment: Value,
    changes: Changes,
}

impl Written {
    /// Runs the application. `started` returns when the database is protected; `target` waits until
    /// everything is, and names the state after that many commits.
    fn run(
        work: Work,
        folder: &Path,
        started: impl FnOnce(&Path) -> Result<()>,
        target: impl FnOnce(u64) -> Result<String>,
    ) -> Result<Written> {
        fs::create_dir(folder)?;
        let mut writer = sqlite::start(folder, work.sizes, work.target_at(), work.seed)?;
        let database = application::path(&writer.event("ready")?, "database")?;
        let before = AtRest::open(&database)?.blocks(DATABASE)?;
        started(&database)?;
        writer.send("go")?;
        let events = writer.events_until("target")?;
        let moment = events.iter().find(|event| event["event"] == "moment").ok_or("no moment")?.clone();
        let count = |name| events.last().and_then(|event| event[name].as_u64()).ok_or("no count");
        let (commits, rows) = (count("commits")?, count("rows")?);
        let to = target(commits)?;
        let target = AtRest::open(&database)?.blocks(DATABASE)?;
        let changes = Changes { base: before.bytes(), commits, rows, pages: target.changed_since(&before) };
        writer.send("go")?;
        writer.event("done")?;
        writer.send("go")?;
        writer.end()?;
        Ok(Written { target, to, moment, changes })
    }

    /// Commits at the busy moment, and its time.
    fn busy(&self) -> Result<(u64, String)> {
        let at = self.moment["at_us"].as_i64().ok_or("no time")?;
        Ok((self.moment["commits"].as_u64().ok_or("no commits")?, rfc3339(at)))
    }
}

/// A restore with a cold cache; its seconds and output.
fn timed(command: &mut Command, copies: &Path) -> Result<(f64, Vec<u8>)> {
    rustix::fs::sync();
    drop_cache_below(copies)?;
    let (usage, output) = usage::of(command)?;
    Ok((usage.seconds, output.stdout))
}

pub(super) fn pitr(work: Work) -> Result<Option<Outcome>> {
    let world = World::new("restore-pitr")?;
    let (program, folder) = (Program::with_repository(&world.path("repository"))?, world.path("source"));
    let (mut watch, first) = (None, Cell::new(0));
    let started = |database: &Path| {
        watch = Some(program.watch(database, &[])?);
        first.set(sqlite::archived(&program, |source| source["snapshots"][0]["tx"].as_u64())?);
        Ok(())
    };
    let target = |commits| Ok(format!("tx:{}", sqlite::archived_to(&program, first.get() + commits)?));
    let written = Written::run(work, &folder, started, target)?;
    let first = first.get();
    watch.ok_or("no watcher")?.stop()?;
    fs::remove_dir_all(&folder)?;

    let output = world.path(DATABASE);
    let restore = |to: &str| {
        let mut command = program.command(["restore", "--to", to, "--output"]);
        command.arg(&output);
        timed(&mut command, program.repo())
    };
    // The first write to a part of the disk is slower than later ones: the faster of two counts.
    let (mut base_seconds, mut seconds) = (f64::INFINITY, f64::INFINITY);
    let (mut log, mut difference) = (0, None);
    for _ in 0..2 {
        base_seconds = base_seconds.min(restore(&format!("tx:{first}"))?.0);
        fs::remove_file(&output)?;
        let (took, answer) = restore(&written.to)?;
        seconds = seconds.min(took);
        log = serde_json::from_slice::<Value>(&answer)?["wal_bytes"].as_u64().ok_or("no wal_bytes")?;
        let found = written.target.difference(&Blocks::of_files(std::slice::from_ref(&output))?);
        difference = difference.or(found);
        fs::remove_file(&output)?;
    }
    let (wanted, time) = written.busy()?;
    restore(&format!("tx:{}", first + wanted))?;
    let by_transaction = Some(Moment { wanted, found: Some(sqlite::progress(&output)?) });
    fs::remove_file(&output)?;
    let call = program.restore(&time, &output, &[])?;
    let found = match call.code {
        Some(UNREACHABLE) => None,
        _ => call.done().and_then(|_| sqlite::progress(&output)).map(Some)?,
    };
    Ok(Some(Outcome {
        name: "pitr".into(),
        changes: written.changes,
        seconds,
        base_seconds: Some(base_seconds),
        // The timer's resolution: a log that costs nothing has no rate.
        log: Some((log, (seconds - base_seconds).max(0.01))),
        stored: bytes_below(program.repo())?,
        difference,
        by_time: Some(Moment { wanted, found }),
        by_transaction,
        settings: "`pitr watch` with its defaults, local repository with fsync, zstd 3. Result synced before it is published. Target by transaction.".into(),
    }))
}

pub(super) fn litestream(work: Work) -> Result<Option<Outcome>> {
    let binary = match litestream::install() {
        Ok(binary) => binary,
        Err(error) => {
            println!("  {error}");
            return Ok(None);
        }
    };
    let world = World::new("restore-litestream")?;
    let (folder, replica) = (world.path("source"), world.path("replica"));
    let still = || wait_until_still(&folder, &replica);
    let mut running = None;
    let started = |database: &Path| {
        running = Some(Replicating::start(&binary, database, &replica)?);
        still()
    };
    let written = Written::run(work, &folder, started, |_| {
        still()?;
        let now = jiff::Timestamp::now().as_microsecond();
        thread::sleep(PAUSE);
        Ok(rfc3339(now))
    })?;
    still()?;
    running.ok_or("litestream does not run")?.stop()?;
    fs::remove_dir_all(&folder)?;

    let output = world.path(DATABASE);
    let restore = |to: &str| {
        let mut command = Command::new(&binary);
        command.arg("restore").arg("-o").arg(&output).args(["-timestamp", to]);
        timed(command.arg(litestream::url(&replica)), &replica)
    };
    let mut seconds = f64::INFINITY;
    let mut difference = None;
    for _ in 0..2 {
        seconds = seconds.min(restore(&written.to)?.0);
        let found = written.target.difference(&Blocks::of_files(std::slice::from_ref(&output))?);
        difference = difference.or(found);
        fs::remove_file(&output)?;
    }
    let (wanted, time) = written.busy()?;
    let found = match restore(&time) {
        Ok(_) => Some(sqlite::progress(&output)?),
        Err(error) => {
            println!("  {error}");
            None
        }
    };
    Ok(Some(Outcome {
        name: format!("litestream {}", litestream::version(&binary)?),
        changes: written.changes,
        seconds,
        stored: bytes_below(&replica)?,
        difference,
        by_time: Some(Moment { wanted, found }),
        settings: "`replicate` with its defaults (sync interval 1 s), local folder. The restored file is synced within its time. Target by time. Moments are restored when everything is replicated.".into(),
        ..Outcome::default()
    }))
}

/// Waits until something is stored, and nothing changed for [`STILL`]: neither the replica nor what
/// Litestream prepares beside the database.
fn wait_until_still(source: &Path, replica: &Path) -> Result<()> {
    let (begun, mut last) = (Instant::now(), None);
    while begun.elapsed() < STILL_AT_MOST {
        thread::sleep(STILL);
        // A temporary file may vanish between its name and its size.
        let found = bytes_below(replica).ok().zip(bytes_below(source).ok());
        if found.is_some_and(|(stored, _)| stored > 0) && found == last {
            return Ok(());
        }
        last = found;
    }
    Err("litestream did not replicate everything in time".into())
}

/// A running Litestream; killed when dropped.
struct Replicating(Child);

impl Replicating {
    fn start(binary: &PathBuf, database: &Path, replica: &Path) -> Result<Replicating> {
        let mut command = Command::new(binary);
        command.arg("replicate").arg(database).arg(litestream::url(replica));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let running = Replicating(child);
        // It reads the whole database first.
        let begun = Instant::now();
        while begun.elapsed() < STILL_AT_MOST {
            if replica.exists() {
                return Ok(running);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("litestream does not replicate".into())
    }

    /// Fails if it has ended before.
    fn stop(mut self) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            return Err(format!("litestream has ended with {status}").into());
        }
        kill_process(Pid::from_child(&self.0), Signal::INT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Replicating {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
