//! Runs the tests of crates against mutants: the same code with one fault each. A mutant whose
//! tests all pass is missed: it shows a behaviour that no test holds.
//!
//! cargo-mutants lists the mutants and tests them, each with the tests of its own package and in a
//! copy of the workspace. A sample is drawn here, from a seed, and given to it by exact names. At
//! least [`CAUGHT_PERCENT_MIN`] of the mutants that compile must be caught. A timeout counts as not
//! caught.

use crate::moments::Rng;
use crate::verdict::{self, Verdict};
use crate::{Result, world};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

const CAUGHT_PERCENT_MIN: u64 = 85;
/// A test that takes longer than this is a timeout, seconds.
const TEST_SECONDS_MAX: &str = "120";
/// Tests that are left out: they repeat what a quicker test does, with many more cases.
const OF_MANY_CASES: [&str; 1] = ["every_target_of_random_histories_is_the_state_of_the_model"];
const HEAD: &str = "# Mutants\n\nWhich faults the tests of a crate do not notice: one section for each run of \
    `cargo xtask mutants`.\n";

#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// The packages to mutate. Each mutant is tested by the tests of its own package
    #[arg(long = "package", value_name = "NAME", default_values = ["pitr-recovery", "pitr-redo"])]
    packages: Vec<String>,
    /// Number of mutants, drawn from all
    #[arg(long, default_value_t = 200, value_name = "N")]
    sample: usize,
    /// Which sample: the same seed gives the same mutants of the same code
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Only mutants with one of these texts in their names, instead of a sample
    #[arg(long = "name", value_name = "TEXT", conflicts_with_all = ["sample", "seed"])]
    names: Vec<String>,
    /// Number of mutants to test at once. Each needs its own build folder, of a few gigabytes
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// The names of tested mutants, by their outcome.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    caught: Vec<String>,
    missed: Vec<String>,
    timeouts: Vec<String>,
    unviable: Vec<String>,
}

impl Mutants {
    /// Tests the mutants. True if enough of them are caught.
    pub(crate) fn run(&self) -> Result<bool> {
        let command = self.command();
        println!("{command}");
        let mut verdict = Verdict::default();
        let all = self.list()?;
        let (total, chosen) = (all.len(), self.choose(all));
        if chosen.is_empty() {
            return Err("no mutant has such a name; see cargo mutants --list".into());
        }
        verdict.step(format_args!("{} of {total} mutants", chosen.len()));
        let outcome = self.test(&chosen)?;
        outcome.judge(&mut verdict, chosen.len());
        verdict::keep("mutants.md", HEAD, &outcome.section(&command, total))?;
        verdict.close(&command)
    }

    /// The command, with all that decides the result.
    fn command(&self) -> String {
        let packages: String = self.packages.iter().map(|name| format!(" --package {name}")).collect();
        match self.names.is_empty() {
            true => format!("cargo xtask mutants{packages} --sample {} --seed {}", self.sample, self.seed),
            false => {
                let names: String = self.names.iter().map(|text| format!(" --name '{text}'")).collect();
                format!("cargo xtask mutants{packages}{names}")
            }
        }
    }

    /// The names of all mutants, in the order of the source.
    fn list(&self) -> Result<Vec<String>> {
        let output = self.tool().args(["--list", "--json", "--no-config"]).output()?;
        if !output.status.success() {
            return Err(format!(
                "cargo mutants does not list the mutants; if it is missing: cargo install cargo-mutants --locked\n{}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
            .into());
        }
        let list: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let name = |mutant: &Value| mutant["name"].as_str().map(str::to_owned);
        let names: Option<Vec<String>> = list.iter().map(name).collect();
        names.ok_or_else(|| "cargo mutants lists mutants without names; it needs version 27 or newer".into())
    }

    fn choose(&self, mut all: Vec<String>) -> Vec<String> {
        if self.names.is_empty() {
            return Rng(self.seed).sample(all, self.sample);
        }
        all.retain(|name| self.names.iter().any(|text| name.contains(text)));
        all
    }

    /// Tests the mutants of these names.
    fn test(&self, names: &[String]) -> Result<Outcome> {
        let folder = world::target().join("mutants");
        fs::create_dir_all(&folder)?;
        let config = folder.join("config.toml");
        fs::write(&config, configuration(names)?)?;
        let status = self
            .tool()
            .args(["--colors", "never", "--copy-target", "false", "--timeout", TEST_SECONDS_MAX])
            .args(["--jobs", &self.jobs.to_string()])
            .arg("--config")
            .arg(&config)
            .arg("--output")
            .arg(&folder)
            // The copies of the workspace, next to the build folder. Each builds in its own folder:
            // in a shared one, a copy would find the mutants of another.
            .env("TMPDIR", &folder)
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            // Property tests try the same cases with each mutant, and keep no failures.
            .env("PROPTEST_RNG_SEED", self.seed.to_string())
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .status()?;
        match status.code() {
            // All caught; some missed; some timed out.
            Some(0 | 2 | 3) => Outcome::read(&folder.join("mutants.out"), names),
            Some(4) => Err("the tests fail without a mutant".into()),
            _ => Err(format!("cargo mutants ended early: {status}").into()),
        }
    }

    fn tool(&self) -> Command {
        let mut tool = Command::new(env!("CARGO"));
        tool.arg("mutants").current_dir(world::root());
        self.packages.iter().for_each(|name| _ = tool.args(["--package", name]));
        tool
    }
}

/// Configuration of cargo-mutants: the mutants, by their exact names, and arguments of cargo.
fn configuration(names: &[String]) -> Result<String> {
    let exact: Vec<String> = names.iter().map(|name| format!("^{}$", escaped(name))).collect();
    let mut arguments = vec!["--"];
    OF_MANY_CASES.iter().for_each(|name| arguments.extend(["--skip", name]));
    // A list of JSON is a list of TOML.
    let (exact, arguments) = (serde_json::to_string(&exact)?, serde_json::to_string(&arguments)?);
    Ok(format!(
        "examine_re = {exact}\nadditional_cargo_args = [\"--tests\"]\nadditional_cargo_test_args = {arguments}\n"
    ))
}

/// A regular expression for a text.
fn escaped(text: &str) -> String {
    let mut expression = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

impl Outcome {
    /// Reads the lists that cargo-mutants writes, of one name a line. Others than the chosen
    /// mutants are left out: it also tests every deletion of a field, whatever it is asked for.
    fn read(folder: &Path, chosen: &[String]) -> Result<Outcome> {
        let list = |name: &str| -> Result<Vec<String>> {
            let text = fs::read_to_string(folder.join(name))?;
            Ok(text.lines().filter(|name| chosen.iter().any(|one| one == name)).map(str::to_owned).collect())
        };
        Ok(Outcome {
            caught: list("caught.txt")?,
            missed: list("missed.txt")?,
            timeouts: list("timeout.txt")?,
            unviable: list("unviable.txt")?,
        })
    }

    /// Number of mutants that compile.
    fn viable(&self) -> usize {
        self.caught.len() + self.missed.len() + self.timeouts.len()
    }

    fn caught_percent(&self) -> f64 {
        self.caught.len() as f64 * 100.0 / self.viable().max(1) as f64
    }

    fn figures(&self) -> String {
        format!(
            "{} caught, {} missed, {} timeouts, {} unviable: {:.1}% caught",
            self.caught.len(),
            self.missed.len(),
            self.timeouts.len(),
            self.unviable.len(),
            self.caught_percent()
        )
    }

    /// Names what was not caught. Fails if it is too much, or if mutants were not tested.
    fn judge(&self, verdict: &mut Verdict, wanted: usize) {
        self.missed.iter().for_each(|name| verdict.step(format_args!("missed: {name}")));
        self.timeouts.iter().for_each(|name| verdict.step(format_args!("timeout: {name}")));
        verdict.figure(self.figures());
        let tested = self.viable() + self.unviable.len();
        verdict.check(tested == wanted, format_args!("{tested} of {wanted} mutants were tested"));
        verdict.check(self.viable() > 0, "no mutant compiles");
        let enough = self.caught.len() as u64 * 100 >= self.viable() as u64 * CAUGHT_PERCENT_MIN;
        verdict.check(enough, format_args!("fewer than {CAUGHT_PERCENT_MIN}% are caught"));
    }

    /// The section of `mutants.md`.
    fn section(&self, command: &str, total: usize) -> String {
        let (today, commit) = (verdict::today(), verdict::commit());
        let mut text =
            format!("\n## {today}, {commit}\n\n`{command}`, of {total} mutants: {}.\n", self.figures());
        for (what, names) in [("Missed", &self.missed), ("Timeouts", &self.timeouts)] {
            if !names.is_empty() {
                let _ = write!(text, "\n{what}:\n\n");
                names.iter().for_each(|name| _ = writeln!(text, "- `{name}`"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(caught: usize, missed: usize, timeouts: usize, unviable: usize) -> Outcome {
        let names = |count| vec![String::from("a.rs:1:2: replace f with ()"); count];
        Outcome {
            caught: names(caught),
            missed: names(missed),
            timeouts: names(timeouts),
            unviable: names(unviable),
        }
    }

    fn failures(outcome: &Outcome, wanted: usize) -> usize {
        let mut verdict = Verdict::default();
        outcome.judge(&mut verdict, wanted);
        verdict.failures()
    }

    #[test]
    fn enough_of_the_mutants_that_compile_must_be_caught() {
        assert_eq!(failures(&outcome(85, 15, 0, 50), 150), 0);
        assert_eq!(failures(&outcome(84, 16, 0, 50), 150), 1);
        assert_eq!(failures(&outcome(85, 14, 2, 0), 101), 1, "a timeout is not caught");
        assert_eq!(failures(&outcome(0, 0, 0, 3), 3), 1, "none compiles");
    }

    #[test]
    fn a_run_that_tested_fewer_mutants_fails() {
        assert_eq!(failures(&outcome(10, 0, 0, 0), 11), 1);
    }

    #[test]
    fn only_the_chosen_mutants_count() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("caught.txt", "a\nb\n"), ("missed.txt", "c\n"), ("timeout.txt", ""), ("unviable.txt", "d\ne\n")]
        {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let chosen = ["a", "c", "e"].map(str::to_owned);
        let [caught, missed, unviable] = ["a", "c", "e"].map(|name| vec![name.to_owned()]);
        let expected = Outcome { caught, missed, timeouts: Vec::new(), unviable };
        assert_eq!(Outcome::read(dir.path(), &chosen).unwrap(), expected);
    }

    #[test]
    fn every_mutant_that_was_not_caught_is_named() {
        let text = outcome(3, 1, 2, 1).section("cargo xtask mutants", 9);
        assert_eq!(text.matches("- `a.rs:1:2: replace f with ()`").count(), 3);
        assert!(text.contains("3 caught, 1 missed, 2 timeouts, 1 unviable: 50.0% caught"), "{text}");
    }

    #[test]
    fn the_configuration_names_each_mutant_exactly() {
        let name =
            r#"a.rs:1:2: replace f -> Option<&'static str> with Some("x\t(y)") in <impl T for [u8]>::f"#;
        let text = configuration(&[name.to_owned()]).unwrap();
        let expression = r#"^a\\.rs:1:2: replace f -> Option<&'static str> with Some\\(\"x\\\\t\\(y\\)\"\\) in <impl T for \\[u8\\]>::f$"#;
        assert!(text.starts_with(&format!("examine_re = [\"{expression}\"]\n")), "{text}");
    }

    #[test]
    fn a_sample_is_drawn_unless_names_are_given() {
        let mutants = |names: &[&str]| Mutants {
            packages: vec!["p".into()],
            sample: 2,
            seed: 1,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            jobs: 1,
        };
        let all: Vec<String> = (0..9).map(|no| format!("f{no}")).collect();
        let sample = mutants(&[]);
        assert_eq!(sample.choose(all.clone()).len(), 2);
        assert_eq!(sample.choose(all.clone()), sample.choose(all.clone()));
        assert_eq!(sample.command(), "cargo xtask mutants --package p --sample 2 --seed 1");
        let named = mutants(&["f3", "8"]);
        assert_eq!(named.choose(all), ["f3", "f8"]);
        assert_eq!(named.command(), "cargo xtask mutants --package p --name 'f3' --name '8'");
    }
}
