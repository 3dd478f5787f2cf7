//! A command that must succeed on a restored copy.

use super::probe::{Probe, RestoredCopy};
use pitr_recovery::{BoxError, Finding};
use pitr_vfs::Env;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Bytes of a failed command's output that a finding shows.
const SHOWN_BYTES: usize = 400;
/// Pause between two looks at a running command.
const PAUSE: Duration = Duration::from_millis(20);

/// A shell command that must end with exit code 0.
///
/// It finds the copy's path in `PITR_COPY`, and the source's name in `PITR_SOURCE`. Its working
/// folder is the sandbox. It has no standard input. At the limit, it is killed with all processes
/// that it has started in its process group.
#[derive(Debug, Clone)]
pub struct CommandProbe {
    command: OsString,
}

impl CommandProbe {
    /// A command for `/bin/sh -c`.
    pub fn new(command: impl Into<OsString>) -> Self {
        CommandProbe { command: command.into() }
    }
}

impl Probe for CommandProbe {
    fn name(&self) -> String {
        self.command.to_string_lossy().into_owned()
    }

    fn check(&self, copy: &RestoredCopy<'_>) -> Result<Vec<Finding>, BoxError> {
        let folder = copy.path.parent().unwrap_or(copy.path);
        // A file: nothing fills a pipe that nobody reads. It goes with the sandbox.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let output = rustix::fs::open(folder.join("output"), flags, Mode::RUSR | Mode::WUSR)?;
        let mut command = shell(&self.command);
        command.env("PITR_COPY", copy.path).env("PITR_SOURCE", copy.source.as_str()).current_dir(folder);
        command.stdout(output.try_clone()?).stderr(output.try_clone()?);
        let ended = run_within(&mut command, copy.limit);
        let said = end_of(&output);
        Ok(match ended? {
            Some(status) if status.success() => Vec::new(),
            Some(status) => vec![Finding::new(format!("ended with {status}{}", said?))],
            None => vec![Finding::new(format!("did not end within {} s", copy.limit.as_secs_f64()))],
        })
    }
}

/// A command for `/bin/sh -c`, without standard input.
#[must_use]
pub fn shell(command: &OsStr) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    shell
}

/// Runs a command to its end. At the limit, it is killed with all processes that it has started in
/// its process group; then returns `None`.
///
/// # Errors
/// Errors of starting and of stopping it.
pub fn run_within(command: &mut Command, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let mut child = command.process_group(0).spawn()?;
    let clock = Env::system().clock;
    let begun = clock.monotonic();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if clock.monotonic().saturating_sub(begun) >= limit {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                kill_process_group(group, Signal::KILL)?;
            }
            child.wait()?;
            return Ok(None);
        }
        clock.sleep(PAUSE.min(limit));
    }
}

/// The end of a command's output, for a message.
fn end_of(output: &OwnedFd) -> io::Result<String> {
    let len = u64::try_from(rustix::fs::fstat(output)?.st_size).unwrap_or(0);
    let mut bytes = [0; SHOWN_BYTES];
    let read = rustix::io::pread(output, &mut bytes, len.saturating_sub(SHOWN_BYTES as u64))?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    let text = text.trim();
    Ok(if text.is_empty() { String::new() } else { format!(": {text}") })
}
