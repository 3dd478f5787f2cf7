//! The program under test, run through its command line.

use crate::Result;
use crate::world;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ATTACH_AT_MOST: Duration = Duration::from_secs(300);
const DRAIN_AT_MOST: Duration = Duration::from_secs(120);

/// Exit code for damage.
pub(crate) const CORRUPT: i32 = 4;
/// Exit code for a target that can't be reached.
pub(crate) const UNREACHABLE: i32 = 3;

/// `pitr` with a repository for this drill.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    binary: PathBuf,
    repo: PathBuf,
    /// Key file of the repository, if it is encrypted.
    key: Option<PathBuf>,
    /// Variables for the store of the repository: its address and credentials.
    environment: Vec<(String, String)>,
}

/// The result of a finished command.
#[derive(Debug)]
pub(crate) struct CallResult {
    pub(crate) line: String,
    pub(crate) code: Option<i32>,
    pub(crate) answer: Value,
    pub(crate) stderr: String,
    pub(crate) seconds: f64,
}

impl CallResult {
    /// The answer. If the command failed, an error with the command and its output.
    pub(crate) fn done(self) -> Result<Value> {
        if self.code == Some(0) { Ok(self.answer) } else { Err(self.to_string().into()) }
    }
}

impl std::fmt::Display for CallResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("by a signal".into(), |code| format!("with {code}"));
        write!(f, "`{}` ended {code}: {}", self.line, self.stderr.trim())
    }
}

impl Program {
    /// Builds the program and creates a repository at `repo`.
    pub(crate) fn with_repository(repo: &Path) -> Result<Program> {
        Self::init(repo, None, Vec::new())
    }

    /// Like [`with_repository`](Self::with_repository), in an object store. Its address and its
    /// credentials are in these environment variables.
    pub(crate) fn in_store(url: &str, environment: Vec<(String, String)>) -> Result<Program> {
        Self::init(Path::new(url), None, environment)
    }

    /// The program with the same repository, reached through another environment.
    pub(crate) fn through(&self, environment: Vec<(String, String)>) -> Program {
        Program { environment, ..self.clone() }
    }

    /// Like [`with_repository`](Self::with_repository), encrypted.
    pub(crate) fn with_key(repo: &Path, key: &Path) -> Result<Program> {
        Self::init(repo, Some(key.to_owned()), Vec::new())
    }

    fn init(repo: &Path, key: Option<PathBuf>, environment: Vec<(String, String)>) -> Result<Program> {
        let encrypt = key.is_some().then_some("--encrypt");
        let program = Program { binary: world::build()?, repo: repo.to_owned(), key, environment };
        program.call(["init"].into_iter().chain(encrypt))?.done()?;
        Ok(program)
    }

    /// The repository's folder, or its URL.
    pub(crate) fn repo(&self) -> &Path {
        &self.repo
    }

    /// The program with these arguments, not started yet.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--repo").arg(&self.repo).arg("--json").args(args).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(key) = &self.key {
            command.arg("--key-file").arg(key);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<CallResult> {
        self.start(args)?.finish()
    }

    /// Starts a command that prints little.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Running> {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (line, begun) = (printed(&command), Instant::now());
        Ok(Running { child: command.spawn()?, line, begun })
    }

    /// Restores `to` to `output`, with further arguments.
    pub(crate) fn restore(&self, to: &str, output: &Path, more: &[&str]) -> Result<CallResult> {
        let mut args: Vec<&OsStr> = ["restore", "--to", to, "--output"].map(OsStr::new).into();
        args.push(output.as_os_str());
        args.extend(more.iter().map(OsStr::new));
        self.call(args)
    }

    /// Starts watching `database` and waits until capture is established.
    pub(crate) fn watch(&self, database: &Path, more: &[&str]) -> Result<Watch> {
        let mut command = self.command([OsStr::new("watch"), database.as_os_str()]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        Watch::start(&mut command)
    }
}

impl Program {
    /// Like [`watch`](Self::watch), with a delay before each call that opens, reads or locks a
    /// file. The tracer is not the watcher's parent, so that a kill reaches the watcher.
    pub(crate) fn watch_slowly(&self, database: &Path, micros: u32) -> Result<Watch> {
        const CALLS: &str = "openat,pread64,fcntl,newfstatat";
        let plain = self.command([OsStr::new("watch"), database.as_os_str()]);
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-q", "-o", "/dev/null", "-e"]).arg(format!("trace={CALLS}"));
        command.arg("-e").arg(format!("inject={CALLS}:delay_enter={micros}"));
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Watch::start(&mut command)
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    line: String,
    begun: Instant,
}

impl Running {
    /// Waits for the end.
    pub(crate) fn finish(self) -> Result<CallResult> {
        let Running { child, line, begun } = self;
        let output = child.wait_with_output()?;
        let seconds = begun.elapsed().as_secs_f64();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let answer = serde_json::from_str(&stdout)
            .map_err(|error| format!("`{line}` did not print one JSON document: {error}: {stdout}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if stderr.contains("panicked at") {
            return Err(format!("`{line}` panicked: {stderr}").into());
        }
        Ok(CallResult { line, code: output.status.code(), answer, stderr, seconds })
    }

    /// True if it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Continues it, or stops it for a while.
    pub(crate) fn let_run(&mut self, run: bool) -> Result<()> {
        if !self.has_ended()? {
            let signal = if run { Signal::CONT } else { Signal::STOP };
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }
}

fn printed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A running `pitr watch`; killed when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Receiver<String>,
}

/// The result of a watcher that was asked to stop.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The JSON summary that the watcher printed at its end, if any.
    pub(crate) summary: Option<Value>,
    /// Seconds from the signal to the end.
    pub(crate) seconds: f64,
}

impl Watch {
    fn start(command: &mut Command) -> Result<Watch> {
        let line = printed(command);
        let mut child = command.spawn()?;
        let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the watcher has no output pipes".into());
        };
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            text
        });
        let (sender, stderr) = channel();
        thread::spawn(move || {
            BufReader::new(err).lines().map_while(|l| l.ok()).try_for_each(|l| sender.send(l))
        });
        let mut watch = Watch { child, stdout: Some(stdout), stderr };
        let begin = Instant::now();
        let mut said = String::new();
        while let Some(left) = ATTACH_AT_MOST.checked_sub(begin.elapsed()) {
            match watch.stderr.recv_timeout(left) {
                Ok(text) if text.contains("watching") => return Ok(watch),
                Ok(text) => said = said + &text + "\n",
                Err(_) => break,
            }
        }
        let _ = watch.child.kill();
        Err(format!("`{line}` did not establish capture: {said}").into())
    }

    /// Process id of the watcher.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL, which simulates a crash.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGINT and waits until the rest is archived. Fails if the watcher reports a failure.
    pub(crate) fn stop(mut self) -> Result<Stopped> {
        let begin = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT)?;
        let status = self.wait(DRAIN_AT_MOST)?;
        let seconds = begin.elapsed().as_secs_f64();
        let said: Vec<String> = self.stderr.try_iter().collect();
        if !status.success() || said.iter().any(|line| line.contains("panicked at")) {
            return Err(format!("the watcher ended with {status}: {}", said.join("\n")).into());
        }
        let stdout = self.stdout.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let lines = std::iter::once(stdout.as_str()).chain(said.iter().map(String::as_str).rev());
        let summary = lines.filter_map(|line| serde_json::from_str(line).ok()).find(Value::is_object);
        Ok(Stopped { summary, seconds })
    }

    fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < at_most {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the watcher did not end within {} s of SIGINT", at_most.as_secs()).into())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
