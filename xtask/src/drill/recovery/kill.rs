//! Restores that are killed at random moments.

use super::{Protected, Recovery, remove, report::Report};
use crate::Result;
use crate::blocks::Blocks;
use crate::moments::Rng;
use crate::usage;
use crate::verdict::Verdict;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// Suffix of the temporary name of an output.
const PARTIAL: &str = ".pitr-partial";
/// A restore may end before its kill. Attempts for each kill, at most.
const ATTEMPTS: u32 = 10;

/// What the killed restores left.
#[derive(Debug, Default)]
struct Leftovers {
    /// Nothing, or nothing with content.
    empty: u32,
    refused: u32,
    /// Complete and not yet published.
    complete: u32,
    /// Restores that ended before their kill.
    ended: u32,
}

impl Recovery {
    /// Kills restores of the target, which take about `seconds`. Then one goes on to the end.
    pub(super) fn kill(
        &self,
        protected: &Protected,
        output: &Path,
        seconds: f64,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let (rng, mut found) = (&mut Rng(self.seed), Leftovers::default());
        let (mut killed, mut attempts) = (0, 0);
        while killed < self.kill && attempts < self.kill * ATTEMPTS {
            attempts += 1;
            let at = Duration::from_micros(rng.below((seconds * 1e6) as u64));
            match self.killed_after(protected, output, at)? {
                true => {
                    killed += 1;
                    self.look_at_leftover(protected, output, &mut found, verdict)?;
                }
                false => found.ended += 1,
            }
            if output.exists() {
                self.compare(&protected.target, output, verdict)?;
                remove(output)?;
            }
        }
        verdict.check(killed == self.kill, format_args!("{killed} of {} restores were killed", self.kill));
        let mut command = self.engine.restore(&protected.repo, &protected.target.to, output, self.workers)?;
        let (usage, answer) = usage::of_durable(&mut command)?;
        self.compare(&protected.target, output, verdict)?;
        let Leftovers { empty, refused, complete, ended } = found;
        let reused = Report::of(&serde_json::from_slice(&answer.stdout)?)?.reused_bytes;
        let reused = reused.map_or("not reported".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
        verdict.figure(format_args!(
            "{killed} kills ({ended} restores ended before): leftovers refused {refused}, without content {empty}, complete {complete}; the last restore {:.2} s, reused {reused}",
            usage.seconds
        ));
        Ok(())
    }

    /// Starts a restore, and kills it after this time. False if it had ended by then.
    fn killed_after(&self, protected: &Protected, output: &Path, at: Duration) -> Result<bool> {
        let mut command = self.engine.restore(&protected.repo, &protected.target.to, output, self.workers)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        thread::sleep(at);
        if let Some(status) = child.try_wait()? {
            return match status.success() {
                true => Ok(false),
                false => Err(format!("a restore after a kill ended with {status}").into()),
            };
        }
        child.kill()?;
        child.wait()?;
        Ok(true)
    }

    /// Checks that what a killed restore left does not open, unless it is complete.
    fn look_at_leftover(
        &self,
        protected: &Protected,
        output: &Path,
        found: &mut Leftovers,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let leftover = beside(output, PARTIAL);
        let opens = match leftover.exists() {
            true => self.engine.opens(&leftover, &beside(output, ".opened"))?,
            false => None,
        };
        match opens {
            None => found.empty += 1,
            Some(false) => found.refused += 1,
            Some(true) => {
                found.complete += 1;
                let blocks = Blocks::of_files(&self.engine.files(&leftover)?)?;
                // A single file has the temporary name.
                let difference = match leftover.is_dir() {
                    true => protected.target.blocks.difference(&blocks),
                    false => protected.target.blocks.difference_of_contents(&blocks),
                };
                if let Some(difference) = difference {
                    verdict.fail(format_args!("the leftover of a killed restore opens: {difference}"));
                }
            }
        }
        Ok(())
    }
}

fn beside(output: &Path, suffix: &str) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
