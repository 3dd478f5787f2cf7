//! Litestream: `replicate` with its defaults.
//!
//! Its transaction numbers count files, not commits: what was committed between two reads of
//! SQLite's log becomes one file. How many commits a file holds is told by the database that is
//! restored up to it.

use super::arrivals::Span;
use super::day::{Bytes, Level, of_levels};
use super::place::Place;
use super::{Archiver, Kept, Run, Running};
use crate::Result;
use crate::compare::litestream;
use crate::drill::recovery::sqlite;
use rustix::process::{Pid, Signal, kill_process};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Folder of the replica in its store.
const REPLICA: &str = "replica";
/// Seconds for which files of level 0 are kept by default.
pub(super) const LEVEL_0_KEPT: f64 = 300.0;
/// The base is stored when nothing was added for this time.
const STILL: Duration = Duration::from_secs(3);
const START_AT_MOST: Duration = Duration::from_secs(60);

pub(super) struct Litestream {
    binary: PathBuf,
    version: String,
    /// The last file before the first commit.
    base: Cell<u64>,
}

impl Litestream {
    pub(super) fn new() -> Result<Litestream> {
        let binary = litestream::install()?;
        let version = litestream::version(&binary)?;
        Ok(Litestream { binary, version, base: Cell::new(0) })
    }

    /// The program, and the last argument of its commands: the replica.
    fn command(&self, place: &Place, is_counted: bool) -> (Command, String) {
        let mut command = Command::new(&self.binary);
        let url = match place {
            Place::Local(folder) => litestream::url(&folder.join(REPLICA)),
            Place::S3(bucket) => {
                // It refuses to start with further certificates, and the server needs none.
                command.env_remove("AWS_CA_BUNDLE");
                command.envs(bucket.environment(is_counted));
                let (name, address) = (bucket.name(), bucket.address(is_counted));
                format!(
                    "s3://{name}/{REPLICA}?endpoint=http://{address}&region=us-east-1&forcePathStyle=true"
                )
            }
        };
        (command, url)
    }

    /// Number of commits in the state after this file.
    fn commits(&self, run: &Run<'_>, number: u64) -> Result<u64> {
        let output = run.world.path("moment.db");
        let (mut command, url) = self.command(run.place, false);
        command.args(["restore", "-txid", &format!("{number:016x}"), "-o"]).arg(&output).arg(url);
        let answer = command.output()?;
        if !answer.status.success() {
            let said = String::from_utf8_lossy(&answer.stderr);
            return Err(format!("litestream does not restore file {number:016x}: {said}").into());
        }
        let commits = sqlite::progress(&output)?;
        fs::remove_file(&output)?;
        Ok(commits)
    }
}

impl Archiver for Litestream {
    type Running = Replicating;

    fn name(&self) -> String {
        format!("litestream {}", self.version)
    }

    fn start(&self, database: &Path, place: &Place) -> Result<Replicating> {
        let (mut command, url) = self.command(place, true);
        command.arg("replicate").arg(database).arg(url);
        let log = database.with_extension("litestream.log");
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn()?;
        let mut running = Replicating { child, log };
        let (begun, mut last) = (Instant::now(), Vec::new());
        while begun.elapsed() < START_AT_MOST {
            thread::sleep(STILL);
            running.check()?;
            let found = place.list(self.prefix(), "")?;
            let newest = found.iter().filter_map(|stored| Self::span(&stored.key)).map(|span| span.to).max();
            if let Some(newest) = newest.filter(|_| found == last) {
                self.base.set(newest);
                return Ok(running);
            }
            last = found;
        }
        Err("litestream does not store the database in time".into())
    }

    fn prefix(&self) -> &'static str {
        "replica/"
    }

    fn span(key: &str) -> Option<Span> {
        let (folder, name) = key.rsplit_once('/')?;
        let level = u8::from_str_radix(folder.rsplit('/').next()?, 16).ok()?;
        let (from, to) = name.strip_suffix(".ltx")?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        Some(Span { from: number(from)?, to: number(to)?, level })
    }

    fn examine(&self, run: &Run<'_>) -> Result<Kept> {
        let base = self.base.get();
        let files = run.place.list(self.prefix(), "")?;
        let files = files.iter().filter_map(|stored| Some((Self::span(&stored.key)?, stored.bytes)));
        let files: Vec<(Span, u64)> = files.filter(|(span, _)| span.to > base).collect();
        let level = |level: u8| {
            // A file that also holds the base says nothing about the commits.
            let own = files.iter().filter(|(span, _)| span.level == level && span.from > base);
            own.fold(Level::default(), |sum, (span, bytes)| Level {
                transactions: sum.transactions + span.to - span.from + 1,
                bytes: sum.bytes + bytes,
            })
        };
        let merged = files.iter().filter(|(span, _)| span.level > 0).map(|(span, _)| span.to);
        let merged: BTreeSet<u64> = merged.collect();
        let small: BTreeSet<u64> = run.arrivals.iter().map(|arrival| arrival.span.to).collect();
        let mut commits = BTreeMap::new();
        for number in small.union(&merged) {
            commits.insert(*number, self.commits(run, *number)?);
        }
        let newest = merged.last().copied().unwrap_or_default();
        let later = merged.iter().chain(small.iter().filter(|number| **number > newest));
        let restorable = (states(small.union(&merged), &commits), states(later, &commits));
        let day = of_levels(level(0), level(1), run.seconds, LEVEL_0_KEPT);
        let bytes = Bytes { added: run.place.bytes()?.saturating_sub(run.before), compacted: None, day };
        let commits = run.arrivals.iter().map(|arrival| commits[&arrival.span.to]).collect();
        Ok(Kept { commits, restorable, bytes, pruned: None, images: None })
    }
}

/// Number of states with commits of the application at the ends of these files. A file without a
/// commit has the state of the one before.
fn states<'a>(files: impl Iterator<Item = &'a u64>, commits: &BTreeMap<u64, u64>) -> u64 {
    let states: BTreeSet<u64> = files.filter_map(|file| commits.get(file)).copied().collect();
    states.iter().filter(|commits| **commits > 0).count() as u64
}

/// A running Litestream; killed when dropped.
pub(super) struct Replicating {
    child: Child,
    log: PathBuf,
}

impl Replicating {
    /// Fails if it has ended.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let said = fs::read_to_string(&self.log)?;
        let last = said.lines().last().unwrap_or_default();
        Err(format!("litestream has ended with {status}: {last}").into())
    }
}

impl Running for Replicating {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stop(mut self) -> Result<()> {
        self.check()?;
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Replicating {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_commits_add_no_state() {
        let commits = BTreeMap::from([(2, 0), (3, 10), (4, 10), (5, 21)]);
        assert_eq!(states([2, 3, 4, 5].iter(), &commits), 2);
        assert_eq!(states([2, 6].iter(), &commits), 0);
    }

    #[test]
    fn ranges_are_read_from_the_names_of_both_layouts() {
        let file = "0000000000000002-000000000000001f.ltx";
        let span = |level| Some(Span { from: 2, to: 31, level });
        assert_eq!(Litestream::span(&format!("replica/ltx/0/{file}")), span(0));
        assert_eq!(Litestream::span(&format!("replica/0001/{file}")), span(1));
        assert_eq!(Litestream::span(&format!("replica/ltx/9/{file}")), span(9));
        for other in [format!("replica/ltx/0/{file}.tmp"), "replica/ltx/0/1-2.ltx".into(), file.into()] {
            assert_eq!(Litestream::span(&other), None, "{other}");
        }
    }
}
