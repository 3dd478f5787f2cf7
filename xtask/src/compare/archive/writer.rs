//! The application: small transactions at a steady pace.

use super::arrivals::now;
use crate::Result;
use crate::application::Application;
use crate::drill::recovery::sqlite::{DATABASE, Writer};
use crate::moments::Rng;
use crate::size::Size;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Largest number of rows that a transaction changes; the smallest is 1.
pub(super) const ROWS_MAX: u64 = 4;
const FRAME_BYTES: usize = 1 << 20;

/// The application's process, which is xtask itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Write {
    folder: PathBuf,
    base: Size,
    rate: u32,
    seconds: u32,
    seed: u64,
}

/// Starts the application.
pub(super) fn start(folder: &Path, base: Size, rate: u32, seconds: u32, seed: u64) -> Result<Application> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["compare", "archive-part"]).arg(folder).arg(base.to_string());
    command.args([rate.to_string(), seconds.to_string(), seed.to_string()]);
    Application::spawn(&mut command)
}

/// The times of the commits in the application's events.
pub(super) fn commits(events: &[Value]) -> Result<Vec<Duration>> {
    let events = events.iter().filter(|event| event["event"] == "commit");
    let time = |(number, event): (u64, &Value)| -> Result<Duration> {
        let at = event["at_ns"].as_u64().filter(|_| event["n"] == number);
        Ok(Duration::from_nanos(at.ok_or_else(|| format!("not commit {number}: {event}"))?))
    };
    (1..).zip(events).map(time).collect()
}

/// How zstd 3 compresses a database in frames of 1 MiB: bytes before to bytes after.
pub(super) fn compression(database: &Path) -> Result<f64> {
    let content = fs::read(database)?;
    let mut packed = 0;
    for frame in content.chunks(FRAME_BYTES) {
        packed += zstd::bulk::compress(frame, 3)?.len();
    }
    Ok(content.len() as f64 / packed as f64)
}

impl Write {
    pub(crate) fn run(&self) -> Result<bool> {
        let path = self.folder.join(DATABASE);
        let mut writer = Writer::new(&path, self.base.bytes(), self.seed)?;
        println!("{}", json!({"event": "ready", "database": path}));
        if std::io::stdin().read_line(&mut String::new())? == 0 {
            return Ok(true);
        }
        let mut rng = Rng(self.seed);
        let (begun, mut due) = (Instant::now(), Duration::ZERO);
        while due < Duration::from_secs(u64::from(self.seconds)) {
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let number = writer.change(1 + rng.below(ROWS_MAX))?;
            let at = u64::try_from(now().as_nanos())?;
            println!("{}", json!({"event": "commit", "n": number, "at_ns": at}));
            due += pause(&mut rng, self.rate);
        }
        println!("{}", json!({"event": "done"}));
        std::io::stdin().read_line(&mut String::new())?;
        Ok(true)
    }
}

/// A random pause between two commits, from half to one and a half of the mean: commits keep no
/// step with the timers of the programs that archive them.
fn pause(rng: &mut Rng, rate: u32) -> Duration {
    let mean = 1_000_000 / u64::from(rate.max(1));
    Duration::from_micros(mean / 2 + rng.below(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_vary_around_the_pace() {
        let mut rng = Rng(1);
        let pauses: Vec<Duration> = (0..10_000).map(|_| pause(&mut rng, 10)).collect();
        let mean = pauses.iter().sum::<Duration>() / 10_000;
        assert!((98..102).contains(&mean.as_millis()), "{mean:?}");
        assert!(pauses.iter().all(|pause| (50..150).contains(&pause.as_millis())));
    }

    #[test]
    fn commits_are_counted_without_a_hole() {
        let commit = |number: u64| json!({"event": "commit", "n": number, "at_ns": number * 10});
        let done = json!({"event": "done"});
        let found = commits(&[commit(1), commit(2), done]).unwrap();
        assert_eq!(found, [Duration::from_nanos(10), Duration::from_nanos(20)]);
        assert!(commits(&[commit(1), commit(3)]).is_err());
    }
}
