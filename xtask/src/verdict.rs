//! The result of a drill: figures, failures, one last line, one line in the ledger.

use crate::{Result, world};
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

const FAILURES_SHOWN: usize = 40;
/// Longest result in a line of the ledger, characters. The run itself prints everything.
const LONGEST: usize = 2_400;
const LEDGER_HEAD: &str = "# Ledger\n\nOne line for each run of a drill: date, commit, machine, command, and result.\n\n\
    | date | commit | machine | command | verdict |\n| --- | --- | --- | --- | --- |\n";

/// Collects the findings of a running drill.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    figures: Vec<String>,
    failures: Vec<String>,
}

impl Verdict {
    /// Prints progress.
    pub(crate) fn step(&self, text: impl Display) {
        println!("  {text}");
    }

    /// Prints and keeps a figure of the result.
    pub(crate) fn figure(&mut self, text: impl Display) {
        println!("  {text}");
        self.figures.push(text.to_string());
    }

    /// Prints and keeps a failure.
    pub(crate) fn fail(&mut self, text: impl Display) {
        if self.failures.len() < FAILURES_SHOWN {
            println!("  FAILURE: {text}");
        }
        self.failures.push(text.to_string());
    }

    /// Fails with `text` unless `holds`.
    pub(crate) fn check(&mut self, holds: bool, text: impl Display) {
        if !holds {
            self.fail(text);
        }
    }

    /// Number of failures so far.
    #[cfg(test)]
    pub(crate) fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Runs tests of `package` and counts those that passed. Fails with `text` if not all pass, or
    /// none ran.
    pub(crate) fn tests(&mut self, package: &str, tests: &mut Command, text: &str) -> Result<usize> {
        let output = tests.current_dir(world::root()).output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let passed =
            stdout.lines().filter(|line| line.starts_with("test ") && line.ends_with("... ok")).count();
        self.check(output.status.success() && passed > 0, format_args!("{package}: {text}"));
        if !output.status.success() {
            eprintln!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(passed)
    }

    /// Prints the last line and writes the ledger. True if the drill passed.
    pub(crate) fn close(mut self, command: &str) -> Result<bool> {
        let passed = self.failures.is_empty();
        if !passed {
            self.figures
                .insert(0, format!("{} failures, the first: {}", self.failures.len(), self.failures[0]));
        }
        let word = if passed { "PASS" } else { "FAIL" };
        let figures = self.figures.join("; ");
        println!("{word} {command}: {figures}");
        let line = format!(
            "| {} | {} | {} | `{command}` | {word}: {} |\n",
            today(),
            commit(),
            machine(),
            shortened(&without_paths(&figures)).replace('|', "/")
        );
        keep("ledger.md", LEDGER_HEAD, &line)?;
        Ok(passed)
    }
}

/// Appends to a file of results. A new file starts with `head`.
pub(crate) fn keep(name: &str, head: &str, text: &str) -> Result<()> {
    let results = world::root().join("benches/results");
    fs::create_dir_all(&results)?;
    let mut file = OpenOptions::new().create(true).append(true).open(results.join(name))?;
    if file.metadata()?.len() == 0 {
        file.write_all(head.as_bytes())?;
    }
    Ok(file.write_all(text.as_bytes())?)
}

/// Current date and time, UTC.
pub(crate) fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M").to_string()
}

/// The tested commit, with a plus if the tree has further changes.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(world::root()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "?".into()) + if dirty { "+" } else { "" }
}

/// Processor and number of cores.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} x {}", model.trim_start_matches([' ', '\t', ':']))
}

/// Removes the machine's folders: committed files must not name them.
fn without_paths(text: &str) -> String {
    let shorten = |word: &str| match word.rfind('/') {
        Some(at) if word.starts_with('/') || word.starts_with("`/") => word[at + 1..].to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(shorten).collect::<Vec<_>>().join(" ")
}

/// Cuts a text that is too long for the ledger.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_results_are_cut_in_the_ledger() {
        assert_eq!(shortened("äb"), "äb");
        assert_eq!(shortened(&"ä".repeat(LONGEST)), "ä".repeat(LONGEST));
        assert_eq!(shortened(&"ä".repeat(LONGEST + 1)), "ä".repeat(LONGEST) + "…");
    }

    #[test]
    fn folders_are_removed_from_the_ledger() {
        assert_eq!(
            without_paths("`/a/b/pitr --repo /c/d restore` ended 3/4"),
            "pitr --repo d restore` ended 3/4"
        );
    }
}
