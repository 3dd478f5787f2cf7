//! Runs the tests of crates against mutants: the same code with one fault each. A mutant whose
//! tests all pass is missed: it shows a behaviour that no test holds.
//!
//! cargo-mutants lists the mutants and tests them, each with the tests of its own package, until
//! the first of these fails. It works in a clone of the last commit, which stays in the build
//! folder. A sample is drawn here, from a seed, and given to it by exact names. At least
//! [`CAUGHT_PERCENT_MIN`] of the mutants that compile must be caught. A timeout counts as not
//! caught.
//!
//! A run of 200 takes an hour or more. If it is interrupted, the same command on the same commit
//! goes on: outcomes are kept in the build folder.

use crate::moments::Rng;
use crate::verdict::{self, Verdict};
use crate::{Result, world};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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
        let folder = world::target().join("mutants");
        let tree = clone(&folder)?;
        let all = self.list(&tree)?;
        let (total, chosen) = (all.len(), self.choose(all));
        if chosen.is_empty() {
            return Err("no mutant has such a name; see cargo mutants --list".into());
        }
        verdict.step(format_args!("{} of {total} mutants", chosen.len()));
        let outcome = self.test(&chosen, &folder, &tree, &command)?;
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
    fn list(&self, tree: &Path) -> Result<Vec<String>> {
        let output = self.tool(tree).args(["--list", "--json", "--no-config"]).output()?;
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

    /// Tests the mutants of these names, but for those that an interrupted run of this command has
    /// tested.
    fn test(&self, names: &[String], folder: &Path, tree: &Path, command: &str) -> Result<Outcome> {
        let (lists, mark) = (folder.join("mutants.out"), folder.join("command"));
        let run = format!("{} {command}", verdict::commit());
        let mut known = Outcome::default();
        if fs::read_to_string(&mark).is_ok_and(|text| text == run) {
            known = Outcome::read(&folder.join("known"), names)?;
            known.add(Outcome::read(&lists, names)?);
        }
        known.keep(&folder.join("known"))?;
        fs::write(&mark, run)?;
        let rest: Vec<String> = names.iter().filter(|name| !known.has(name)).cloned().collect();
        if rest.is_empty() {
            return Ok(known);
        }
        println!("  {} of them are tested", names.len() - rest.len());
        let config = folder.join("config.toml");
        fs::write(&config, configuration(&rest)?)?;
        let status = self
            .tool(tree)
            .args(["--colors", "never", "--in-place", "--timeout", TEST_SECONDS_MAX])
            .arg("--config")
            .arg(&config)
            .arg("--output")
            .arg(folder)
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            // Property tests try the same cases with each mutant, and keep no failures.
            .env("PROPTEST_RNG_SEED", self.seed.to_string())
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .status()?;
        match status.code() {
            // All caught; some missed; some timed out.
            Some(0 | 2 | 3) => known.add(Outcome::read(&lists, names)?),
            Some(4) => return Err("the tests fail without a mutant".into()),
            _ => return Err(format!("cargo mutants ended early: {status}").into()),
        }
        Ok(known)
    }

    fn tool(&self, tree: &Path) -> Command {
        let mut tool = Command::new(env!("CARGO"));
        tool.arg("mutants").current_dir(tree);
        self.packages.iter().for_each(|name| _ = tool.args(["--package", name]));
        tool
    }
}

/// A clone of the last commit. It is kept, so that a later run builds only what has changed.
fn clone(folder: &Path) -> Result<PathBuf> {
    let (tree, root) = (folder.join("tree"), world::root());
    fs::create_dir_all(folder)?;
    let git = |dir: &Path, args: &[&str]| -> Result<String> {
        let output = Command::new("git").arg("-C").arg(dir).args(args).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
    };
    let commit = git(&root, &["rev-parse", "HEAD"])?;
    if !tree.join(".git").exists() {
        git(&root, &["init", "--quiet", &tree.to_string_lossy()])?;
    }
    git(&tree, &["fetch", "--quiet", &root.to_string_lossy(), "HEAD"])?;
    // It may hold a mutant of an interrupted run.
    git(&tree, &["checkout", "--quiet", "--force", "--detach", &commit])?;
    Ok(tree)
}

/// Configuration of cargo-mutants: the mutants, by their exact names, and arguments of cargo.
fn configuration(names: &[String]) -> Result<String> {
    let exact: Vec<String> = names.iter().map(|name| format!("^{}$", escaped(name))).collect();
    // No other test runs after the first failure. Only a nightly compiler's tests take the option,
    // so the tests alone are told that they are of one.
    let mut arguments = vec!["--", "-Zunstable-options", "--fail-fast"];
    OF_MANY_CASES.iter().for_each(|name| arguments.extend(["--skip", name]));
    let cargo = ["--tests", "--config", "target.'cfg(all())'.runner=['env','RUSTC_BOOTSTRAP=1']"];
    // A list of JSON is a list of TOML.
    let [exact, cargo, arguments] =
        [serde_json::to_string(&exact)?, serde_json::to_string(&cargo)?, serde_json::to_string(&arguments)?];
    Ok(format!(
        "examine_re = {exact}\nadditional_cargo_args = {cargo}\nadditional_cargo_test_args = {arguments}\n"
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
    /// Reads the lists that cargo-mutants writes, of one name a line; a missing list is empty.
    /// Others than the chosen mutants are left out: it also tests every deletion of a field,
    /// whatever it is asked for.
    fn read(folder: &Path, chosen: &[String]) -> Result<Outcome> {
        let list = |name: &str| -> Result<Vec<String>> {
            let text = match fs::read_to_string(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                other => other?,
            };
            Ok(text.lines().filter(|name| chosen.iter().any(|one| one == name)).map(str::to_owned).collect())
        };
        Ok(Outcome {
            caught: list("caught.txt")?,
            missed: list("missed.txt")?,
            timeouts: list("timeout.txt")?,
            unviable: list("unviable.txt")?,
        })
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        let Outcome { caught, missed, timeouts, unviable } = self;
        [
            ("caught.txt", caught),
            ("missed.txt", missed),
            ("timeout.txt", timeouts),
            ("unviable.txt", unviable),
        ]
    }

    /// Writes lists that [`read`](Self::read) reads.
    fn keep(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for (name, list) in self.lists() {
            fs::write(folder.join(name), list.iter().map(|name| format!("{name}\n")).collect::<String>())?;
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.lists().iter().any(|(_, list)| list.iter().any(|known| known == name))
    }

    /// Adds the outcomes of mutants that have none here.
    fn add(&mut self, mut other: Outcome) {
        for list in [&mut other.caught, &mut other.missed, &mut other.timeouts, &mut other.unviable] {
            list.retain(|name| !self.has(name));
        }
        self.caught.append(&mut other.caught);
        self.missed.append(&mut other.missed);
        self.timeouts.append(&mut other.timeouts);
        self.unviable.append(&mut other.unviable);
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
        // What an interrupted run has tested is known to the next one.
        let kept = dir.path().join("known");
        expected.keep(&kept).unwrap();
        assert_eq!(Outcome::read(&kept, &chosen).unwrap(), expected);
        assert!(expected.has("c") && !expected.has("b"));
        assert_eq!(Outcome::read(&dir.path().join("none"), &chosen).unwrap(), Outcome::default());
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
