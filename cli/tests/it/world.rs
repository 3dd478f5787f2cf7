//! A folder with a repository, an application and the program.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use pitr_testkit::App;
use serde_json::Value;

/// Result of a command.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) stderr: String,
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    /// Path or URL of the repository.
    pub(crate) repository: OsString,
    /// Environment of the program.
    environment: Vec<(String, String)>,
    copies: usize,
    /// Shell commands that run before the program, such as umask.
    pub(crate) setup: &'static str,
}

impl World {
    /// A folder without a repository.
    pub(crate) fn empty() -> World {
        World::at(None, Vec::new())
    }

    /// Like [`empty`](Self::empty). The repository will be at this URL, or in the folder, and the
    /// program gets this environment.
    pub(crate) fn at(repository: Option<&str>, environment: Vec<(String, String)>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let repository = repository.map_or_else(|| dir.path().join("repo").into(), OsString::from);
        World { dir, repository, environment, copies: 0, setup: "umask 022" }
    }

    /// A folder with a repository.
    pub(crate) fn new() -> World {
        let world = World::empty();
        assert_eq!(world.pitr(&["init"]).code, 0);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("app.db")
    }

    /// An application on the database. It sets WAL mode and creates a table `t`.
    pub(crate) fn application(&self) -> App {
        self.application_on(&self.database())
    }

    /// Like [`application`](Self::application), on another database.
    pub(crate) fn application_on(&self, database: &Path) -> App {
        let mut app = App::start("application", database);
        app.sql("PRAGMA journal_mode=WAL");
        app.sql("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x)");
        app
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"eval "$0"; exec "$@""#, self.setup, env!("CARGO_BIN_EXE_pitr")])
            .arg("--repo")
            .arg(&self.repository)
            .arg("--json")
            .env_remove("PITR_REPO")
            .env_remove("PITR_PASSPHRASE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn pitr(&self, args: &[&str]) -> Answer {
        Self::answer(self.command().args(args), args)
    }

    /// Like [`pitr`](Self::pitr), with an environment variable.
    pub(crate) fn pitr_with(&self, variable: &str, value: &str, args: &[&str]) -> Answer {
        Self::answer(self.command().args(args).env(variable, value), args)
    }

    fn answer(command: &mut Command, args: &[&str]) -> Answer {
        let done = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        let json = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        Answer { code: done.status.code().unwrap_or(-1), json, stderr }
    }

    /// Runs a command that must succeed. Returns its JSON answer.
    pub(crate) fn done(&self, args: &[&str]) -> Value {
        let answer = self.pitr(args);
        assert_eq!(answer.code, 0, "{args:?}: {}", answer.stderr);
        answer.json
    }

    /// Like [`done`](Self::done), with an environment variable.
    pub(crate) fn done_with(&self, variable: &str, value: &str, args: &[&str]) -> Value {
        let answer = self.pitr_with(variable, value, args);
        assert_eq!(answer.code, 0, "{args:?}: {}", answer.stderr);
        answer.json
    }

    /// Starts a watcher and waits until it prints `watching`.
    pub(crate) fn watch(&self) -> Watcher {
        self.watch_with(&["--rpo", "200ms"])
    }

    pub(crate) fn watch_with(&self, more: &[&str]) -> Watcher {
        self.watch_at(&self.database(), more)
    }

    /// Like [`watch_with`](Self::watch_with), on another database.
    pub(crate) fn watch_at(&self, database: &Path, more: &[&str]) -> Watcher {
        let mut command = self.command();
        command.arg("watch").arg(database).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let remarks = BufReader::new(child.stderr.take().unwrap());
        let mut watcher = Watcher { child, remarks };
        watcher.until_line(|line| line.trim_end() == "watching");
        watcher
    }

    /// A copy of the database, taken by the application.
    pub(crate) fn copy(&mut self, app: &mut App) -> PathBuf {
        self.copies += 1;
        let path = self.path(&format!("copy-{}.db", self.copies));
        app.copy(&path);
        path
    }

    /// The last of the copies.
    pub(crate) fn last_copy(&self) -> PathBuf {
        self.path(&format!("copy-{}.db", self.copies))
    }

    /// Restores a target. Returns the result and the output's path.
    pub(crate) fn restore(&self, to: &str, more: &[&str]) -> (Answer, PathBuf) {
        let output = self.path(&format!("restored-{}.db", to.replace([':', ' ', '/'], "-")));
        let _ = std::fs::remove_file(&output);
        let text = output.to_string_lossy().into_owned();
        let mut args = vec!["restore", "--to", to, "--output", &text];
        args.extend_from_slice(more);
        (self.pitr(&args), output)
    }

    /// As [`restore`](Self::restore); it must succeed. Returns the output's path.
    pub(crate) fn restored(&self, to: &str, more: &[&str]) -> PathBuf {
        let (answer, output) = self.restore(to, more);
        assert_eq!(answer.code, 0, "{to} {more:?}: {}", answer.stderr);
        output
    }

    /// Restores a target and asserts that the output equals `copy` exactly.
    pub(crate) fn assert_exact(&self, to: &str, more: &[&str], copy: &Path) {
        let output = self.restored(to, more);
        if let Some(difference) = pitr::exact::compare(&output, copy).unwrap() {
            panic!("{to} {more:?}: {difference}");
        }
    }
}

pub(crate) struct Watcher {
    child: Child,
    remarks: BufReader<ChildStderr>,
}

impl Watcher {
    /// Waits until the watcher prints a line that contains `text`.
    pub(crate) fn until(&mut self, text: &str) {
        self.until_line(|line| line.contains(text));
    }

    fn until_line(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut said = String::new();
        loop {
            let before = said.len();
            assert!(self.remarks.read_line(&mut said).unwrap() > 0, "watch ended: {said}");
            if wanted(&said[before..]) {
                return;
            }
        }
    }

    /// The most memory that the watcher had so far, bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Sends SIGINT, as Ctrl-C does, and waits. Returns the JSON answer.
    pub(crate) fn stop(self) -> Value {
        self.stop_with_remarks().0
    }

    /// Like [`stop`](Self::stop). Also returns the messages since the last wait.
    pub(crate) fn stop_with_remarks(mut self) -> (Value, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let out = std::io::read_to_string(self.child.stdout.take().unwrap()).unwrap();
        let status = self.child.wait().unwrap();
        let said = std::io::read_to_string(&mut self.remarks).unwrap();
        assert!(status.success(), "watch ended with {status}: {said}");
        (serde_json::from_str(&out).unwrap(), said)
    }

    /// Waits until the watcher ends by itself, because another writer took over.
    pub(crate) fn until_taken_over(mut self) {
        let said = std::io::read_to_string(&mut self.remarks).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(5), "{said}");
        assert!(said.contains("another writer took over"), "{said}");
    }

    /// Kills the watcher with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Ends the watcher of a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The current time, as a target.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

pub(crate) fn pause(millis: u64) {
    std::thread::sleep(std::time::Duration::from_millis(millis));
}
