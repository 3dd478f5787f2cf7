//! The steps of the demo.
//!
//! Every step runs this program in a process of its own, as a user would. The application is
//! independent of pitr. The demo finds the damage by the time that the application printed, as a
//! user would use a log line.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use pitr::exact::{self, Fingerprint};
use serde_json::Value;

use super::document::Demo;
use super::writer::{DATABASE, Event};
use crate::args::Global;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use crate::output::values::Phases;

const SEED: u64 = 2026;

/// Runs the demo.
pub(crate) fn run(global: &Global) -> Result<(), CliError> {
    let dir = std::env::temp_dir().join(format!("pitr-demo-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&dir).map_err(|e| failed("creating the demo's folder", &dir, e))?;
    let outcome = Story::new(global.output(), global.json, &dir).and_then(Story::tell);
    // The demo's folder is removed even after a failure.
    let cleaned = std::fs::remove_dir_all(&dir).map_err(|e| failed("removing the demo's folder", &dir, e));
    let demo = outcome?;
    cleaned?;
    global.output().answer(&demo)?;
    if demo.exact { Ok(()) } else { Err(CliError::new(Exit::Failed, "the restored database is not exact")) }
}

fn failed(what: &str, place: &Path, e: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Failed, format_args!("{what}: {e}")).at(place.display())
}

struct Story<'a> {
    output: Output,
    json: bool,
    dir: &'a Path,
    program: PathBuf,
    phases: Vec<(String, f64)>,
}

impl<'a> Story<'a> {
    fn new(output: Output, json: bool, dir: &'a Path) -> Result<Self, CliError> {
        let program = std::env::current_exe().map_err(|e| failed("finding this program", dir, e))?;
        Ok(Story { output, json, dir, program, phases: Vec::new() })
    }

    fn tell(mut self) -> Result<Demo, CliError> {
        let database = self.dir.join(DATABASE);
        self.say("1. An ordinary application creates a shop's SQLite database, in another process.");
        let mut application = Application::start(&self.program, self.dir)?;

        self.say(
            "2. pitr init, pitr watch: from now on every commit is archived. The application is unchanged.",
        );
        self.timed("init", |story| story.pitr(&["init"]))?;
        let watcher = self.timed("watch", |story| Watcher::start(story, &database))?;

        self.say("3. The application sells, damages its data by mistake, and continues to sell.");
        let trade = self.timed("trade", |_| application.trade())?;
        let Trade { commits, damage_at_us, damage, copy } = trade;
        self.timed("drain", |_| watcher.stop())?;
        self.say(&format!("   {commits} transactions; one of them was: {damage}"));

        self.say("4. pitr log: which transaction was it? The application's own log has the time.");
        let log = self.timed("log", |story| story.pitr(&["log"]))?;
        let (archived, damage_tx) = find_damage(&log, damage_at_us)?;
        self.say(&format!(
            "   {archived} of {commits} transactions are archived; the damage is transaction {damage_tx}"
        ));

        let target = format!("tx:{damage_tx}");
        let restored = self.dir.join("restored.db");
        self.say(&format!("5. pitr restore --to {target} --exclusive: the state just before it."));
        let restored_name = restored.to_string_lossy().into_owned();
        self.timed("restore", |story| {
            story.pitr(&["restore", "--to", &target, "--exclusive", "--output", &restored_name])
        })?;

        self.say(
            "6. Compare the restored database with a copy that the application took just before the damage.",
        );
        let exact_error = |e: exact::ExactError| CliError::new(Exit::Failed, e).at("comparing");
        let (ours, theirs) = self.timed("compare", |_| {
            Ok((
                Fingerprint::of(&restored).map_err(exact_error)?,
                Fingerprint::of(&copy).map_err(exact_error)?,
            ))
        })?;
        let damaged = self.dir.join("damaged.db");
        self.pitr(&["restore", "--to", "latest", "--output", &damaged.to_string_lossy()])?;
        let damaged = Fingerprint::of(&damaged).map_err(exact_error)?;
        let difference = ours.difference(&theirs);
        match &difference {
            None => self.say("   no difference"),
            Some(difference) => self.say(&format!("   DIFFERENT: {difference}")),
        }
        Ok(Demo {
            transactions: commits,
            archived,
            damage_tx,
            damage,
            target: format!("{target} --exclusive"),
            rows_before_damage: theirs.rows(),
            rows_in_damaged_database: damaged.rows(),
            restored_rows: ours.rows(),
            // Restoring the damaged state must give a different database.
            exact: difference.is_none() && damaged != ours,
            phases: Phases(self.phases),
        })
    }

    /// Prints a step for people. Scripts get only the answer.
    fn say(&self, text: &str) {
        if !self.json {
            self.output.remark(text);
        }
    }

    fn timed<T>(
        &mut self,
        name: &str,
        step: impl FnOnce(&Self) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let begun = Instant::now();
        let done = step(self)?;
        self.phases.push((name.to_owned(), begun.elapsed().as_secs_f64()));
        Ok(done)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--repo").arg(self.dir.join("repository")).arg("--json").arg("--quiet");
        command
    }

    /// Runs a command of this program and returns its JSON answer.
    fn pitr(&self, args: &[&str]) -> Result<Value, CliError> {
        let run = self.command().args(args).stdin(Stdio::null()).output();
        let run = run.map_err(|e| failed("running pitr", &self.program, e))?;
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stderr);
            return Err(CliError::new(Exit::Failed, said.trim()).at(format_args!("pitr {}", args.join(" "))));
        }
        serde_json::from_slice(&run.stdout).map_err(|e| {
            CliError::new(Exit::Failed, e).at(format_args!("the answer of pitr {}", args.join(" ")))
        })
    }
}

/// The number of archived transactions, and the last one that was committed at or before the
/// damage.
fn find_damage(log: &Value, damage_at_us: i64) -> Result<(u64, u64), CliError> {
    let unreadable = || CliError::new(Exit::Failed, "the answer of pitr log is incomplete");
    let transactions = log["transactions"].as_array().ok_or_else(unreadable)?;
    // The commit was captured within milliseconds of this time. The application pauses before and
    // after it.
    let slack = Duration::from_millis(100).as_micros() as i64;
    let until = damage_at_us + slack;
    let before = |tx: &&Value| {
        let time = tx["time"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
        time.is_some_and(|time| time.as_microsecond() <= until)
    };
    let last = transactions.iter().rfind(before).and_then(|tx| tx["tx"].as_u64()).ok_or_else(unreadable)?;
    Ok((transactions.len() as u64, last))
}

/// The application's report.
struct Trade {
    commits: u64,
    damage_at_us: i64,
    damage: String,
    copy: PathBuf,
}

struct Application {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Application {
    fn start(program: &Path, dir: &Path) -> Result<Self, CliError> {
        let mut child = Command::new(program)
            .arg("demo-writer")
            .arg(dir)
            .arg(SEED.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed("starting the application", program, e))?;
        let pipe = child.stdout.take();
        let lines = pipe.map(|out| BufReader::new(out).lines());
        let lines = lines.ok_or_else(|| failed("starting the application", program, "it has no output"))?;
        let mut application = Application { child, lines };
        application.event()?; // ready
        Ok(application)
    }

    fn event(&mut self) -> Result<Option<Event>, CliError> {
        let broken = |e: &dyn std::fmt::Display| CliError::new(Exit::Failed, e).at("the demo's application");
        match self.lines.next() {
            None => Ok(None),
            Some(line) => {
                let line = line.map_err(|e| broken(&e))?;
                serde_json::from_str(&line).map(Some).map_err(|e| broken(&e))
            }
        }
    }

    fn trade(&mut self) -> Result<Trade, CliError> {
        let lost = || CliError::new(Exit::Failed, "the demo's application ended too early");
        let mut input = self.child.stdin.take().ok_or_else(lost)?;
        writeln!(input).map_err(|_| lost())?;
        drop(input);
        let mut done = None;
        let (mut damaged, mut copy) = (None, None);
        while let Some(event) = self.event()? {
            match event {
                Event::Commit { time_us, label, damage: true, .. } => damaged = Some((time_us, label)),
                Event::Copy { path, .. } => copy = Some(path),
                Event::Done { commits } => done = Some(commits),
                _ => {}
            }
        }
        let ((damage_at_us, damage), copy) = damaged.zip(copy).ok_or_else(lost)?;
        Ok(Trade { commits: done.ok_or_else(lost)?, damage_at_us, damage, copy })
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // The application has already ended, unless the demo failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Watcher {
    child: Child,
    // Kept open: the watcher would fail with a broken pipe when it prints a message.
    _remarks: BufReader<ChildStderr>,
}

impl Watcher {
    /// Starts the watcher and waits until it prints `watching`.
    fn start(story: &Story<'_>, database: &Path) -> Result<Self, CliError> {
        let mut command = story.command();
        command.arg("watch").arg(database).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed("running pitr watch", database, e))?;
        let pipe = child.stderr.take();
        let mut remarks =
            BufReader::new(pipe.ok_or_else(|| failed("running pitr watch", database, "no output"))?);
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = remarks.read_line(&mut line).map_err(|e| failed("pitr watch", database, e))?;
            if read == 0 {
                let _ = child.wait();
                return Err(CliError::new(Exit::Failed, said.trim()).at("pitr watch"));
            }
            if line.trim_end() == "watching" {
                return Ok(Watcher { child, _remarks: remarks });
            }
            said += &line;
        }
    }

    /// Sends SIGINT, as Ctrl-C does, and waits until the rest is archived.
    fn stop(mut self) -> Result<(), CliError> {
        let broken = |e: std::io::Error| CliError::new(Exit::Failed, e).at("pitr watch");
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).map_err(|e| broken(e.into()))?;
        let ended = self.child.wait().map_err(broken)?;
        if ended.success() { Ok(()) } else { Err(CliError::new(Exit::Failed, ended).at("pitr watch")) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The watcher has already ended, unless the demo failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
