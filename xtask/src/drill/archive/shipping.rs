//! The process that ships, as its parent sees it.

use super::part::Ship;
use super::place::{Place, Way};
use crate::Result;
use crate::usage::{self, Peak};
use pitr::format::Lsn;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A running process; killed when dropped.
pub(super) struct Shipping {
    child: Child,
    lines: Option<JoinHandle<Said>>,
    peak: Option<Peak>,
    begun: Instant,
}

/// What a process said until its end.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Everything below this position is archived.
    pub(super) archived: Lsn,
    /// Failed calls, by their message.
    pub(super) failures: BTreeMap<String, u64>,
    /// The last line of a process that came to its end.
    pub(super) done: Option<Done>,
}

/// The last line of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// End of the log.
    pub(super) durable: Lsn,
    pub(super) merges: u64,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) said: Said,
    /// Peak of its anonymous memory, bytes.
    pub(super) memory: u64,
    pub(super) seconds: f64,
}

impl Said {
    fn hear(&mut self, line: &Value) {
        if let Some(archived) = line["archived"].as_u64() {
            self.archived = self.archived.max(Lsn::new(archived));
        } else if let Some(failure) = line["failure"].as_str() {
            *self.failures.entry(failure.to_owned()).or_default() += 1;
        } else if let (Some(durable), Some(merges)) =
            (line["done"]["durable"].as_u64(), line["done"]["merges"].as_u64())
        {
            self.done = Some(Done { durable: Lsn::new(durable), merges });
        }
    }
}

impl Shipping {
    /// Starts a process.
    pub(super) fn start(place: &Place, ship: &Ship) -> Result<Shipping> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["drill", "archive-part", "ship", &ship.url]).arg(&ship.log);
        command.args(["--until", &ship.until.to_string()]);
        command.args(["--data-bytes", &ship.data_bytes.to_string()]);
        if let Some(bytes) = ship.slow_bytes {
            command.args(["--slow-bytes", &bytes.to_string()]);
        }
        command.args(["--large", &ship.large.to_string()]);
        command.args(["--object-bytes", &ship.object_bytes.to_string()]);
        command.args(["--uploads", &ship.uploads.to_string()]);
        command.args(["--compact", &ship.compact.to_string()]);
        command.args(["--seed", &ship.seed.to_string()]);
        command.envs(place.environment(Way::ByProxy)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let Some(out) = child.stdout.take() else { return Err("the process has no output pipe".into()) };
        let lines = thread::spawn(move || {
            let mut said = Said::default();
            for line in BufReader::new(out).lines().map_while(|line| line.ok()) {
                // The last line of a killed process may be cut.
                serde_json::from_str(&line).iter().for_each(|line| said.hear(line));
            }
            said
        });
        let peak = Some(Peak::of(child.id(), usage::anonymous_below));
        Ok(Shipping { child, lines: Some(lines), peak, begun: Instant::now() })
    }

    /// Waits until the process has done its work.
    pub(super) fn finish(mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        let ended = self.ended()?;
        match status.success() && ended.said.done.is_some() {
            true => Ok(ended),
            false => Err(format!("the process that ships ended with {status}: {:?}", ended.said).into()),
        }
    }

    /// Kills the process after this time since its start. False if it had ended before.
    pub(super) fn kill_after(mut self, time: Duration) -> Result<(bool, Ended)> {
        thread::sleep(time.saturating_sub(self.begun.elapsed()));
        let status = self.child.try_wait()?;
        if status.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        let ended = self.ended()?;
        match status {
            Some(status) if !status.success() => {
                Err(format!("the process that ships ended with {status}: {:?}", ended.said).into())
            }
            status => Ok((status.is_none(), ended)),
        }
    }

    fn ended(&mut self) -> Result<Ended> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let memory = self.peak.take().map_or(0, Peak::stop);
        let said = self.lines.take().and_then(|lines| lines.join().ok());
        Ok(Ended { said: said.ok_or("the output of the process was not read")?, memory, seconds })
    }
}

impl Drop for Shipping {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
