//! The protected application: a Python program of `drills/` that writes to SQLite and reports its
//! commits.

use crate::{Result, world};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const SILENT_AT_MOST: Duration = Duration::from_secs(600);

/// A running application; killed when dropped.
#[derive(Debug)]
pub(crate) struct Application {
    child: Child,
    orders: Option<ChildStdin>,
    events: Receiver<Value>,
}

impl Application {
    /// Starts `drills/SCRIPT` with these arguments.
    pub(crate) fn start(script: &str, args: &[&str]) -> Result<Application> {
        let mut command = Command::new("python3");
        command.arg("-B").arg(world::root().join("xtask/drills").join(script)).args(args);
        Self::spawn(&mut command)
    }

    /// Starts a command that reports as the scripts do.
    pub(crate) fn spawn(command: &mut Command) -> Result<Application> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| match name.as_str() {
            "python3" => format!("python3: {error}; the drills need Python 3"),
            _ => format!("{name}: {error}"),
        })?;
        let orders = child.stdin.take();
        let Some(out) = child.stdout.take() else { return Err("the application has no output pipe".into()) };
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
                let Ok(event) = serde_json::from_str(&line) else { break };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(Application { child, orders, events })
    }

    /// Sends a line to the application.
    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        match &mut self.orders {
            Some(pipe) => Ok(writeln!(pipe, "{line}")?),
            None => Err("the application's input is closed".into()),
        }
    }

    /// All events up to the next one of this name, which comes last.
    pub(crate) fn events_until(&self, name: &str) -> Result<Vec<Value>> {
        let mut said = Vec::new();
        loop {
            let event = self
                .events
                .recv_timeout(SILENT_AT_MOST)
                .map_err(|_| format!("the application ended or timed out before its event {name:?}"))?;
            let found = event["event"] == name;
            said.push(event);
            if found {
                return Ok(said);
            }
        }
    }

    /// The next event of this name. Earlier events are dropped.
    pub(crate) fn event(&self, name: &str) -> Result<Value> {
        self.events_until(name)?.pop().ok_or_else(|| "no event".into())
    }

    /// Closes the application's input and waits until it ends.
    pub(crate) fn end(mut self) -> Result<()> {
        self.orders = None;
        let status = self.child.wait()?;
        // A script that waits for a line stops at the end of the pipe, with exit code 1.
        if status.code().is_some() {
            Ok(())
        } else {
            Err(format!("the application ended with {status}").into())
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path in an event.
pub(crate) fn path(event: &Value, key: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(event[key].as_str().ok_or_else(|| format!("no {key} in {event}"))?))
}
