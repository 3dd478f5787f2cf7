//! Runs the fuzz targets of `fuzz/`, each for some time. The corpus and the findings stay in the
//! build folder between sessions. The ledger adds up the sessions.
//!
//! The targets are built without cargo-fuzz: with a nightly compiler, libFuzzer from its crate, and
//! coverage and address checks through the compiler's own flags.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGETS: [&str; 6] = ["records", "frames", "segment", "tail", "claims", "objects"];

const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing";

/// An input that takes longer than this is a finding, seconds.
const INPUT_SECONDS_MAX: u32 = 20;
/// An input that allocates more than this at once is a finding: four records of the largest size.
const ALLOCATION_MIB_MAX: u32 = 256;
const MEMORY_MIB_MAX: u32 = 1024;
const INPUT_BYTES_MAX: u32 = 4096;
const FIRST_INPUTS: u64 = 16;

#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Only this target
    #[arg(long, value_parser = TARGETS)]
    target: Option<String>,
    /// Duration for each target, minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
}

/// The effort of one session, or the sum of all sessions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Effort {
    seconds: u64,
    executions: u64,
}

impl Fuzz {
    /// Runs the targets. True if nothing was found.
    pub(crate) fn run(&self) -> Result<bool> {
        let built = build()?;
        let mut clean = true;
        for target in
            TARGETS.iter().filter(|target| self.target.as_deref().is_none_or(|only| only == **target))
        {
            clean &= self.run_target(&built, target)?;
        }
        Ok(clean)
    }

    fn run_target(&self, built: &Path, target: &str) -> Result<bool> {
        let command = format!("cargo xtask fuzz --target {target} --minutes {}", self.minutes);
        println!("{command}");
        let (corpus, findings) = (folder("corpus", target)?, folder("findings", target)?);
        first_inputs(&corpus)?;
        let mut artifacts = OsString::from("-artifact_prefix=");
        artifacts.push(findings.join(""));
        let seconds = (self.minutes * 60.0) as u64;
        let output = Command::new(built.join(target))
            .arg(&corpus)
            .arg(artifacts)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .args(["-print_final_stats=1", "-detect_leaks=0"])
            .output()?;
        let mut verdict = Verdict::default();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let found = fs::read_dir(&findings)?.count();
        if found > 0 || !output.status.success() {
            eprintln!("{}", last_lines(&stderr, 60));
        }
        verdict.check(output.status.success(), "the target ended early");
        verdict
            .check(found == 0, format_args!("{found} findings in the build folder's fuzz/findings/{target}"));
        let now = Effort { seconds, executions: number_after(&stderr, "stat::number_of_executed_units:") };
        let features = number_after(&stderr, " ft: ");
        let all = earlier(&fs::read_to_string(world::root().join("benches/results/ledger.md"))?, target);
        let all = Effort { seconds: all.seconds + now.seconds, executions: all.executions + now.executions };
        verdict.figure(format_args!(
            "{} s, {} executions, {features} features of coverage, {found} findings",
            now.seconds, now.executions
        ));
        verdict.figure(format_args!("{} s and {} executions in all sessions", all.seconds, all.executions));
        verdict.close(&command)
    }
}

/// Builds the targets; returns their folder.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target = world::target().join("fuzz");
    let status = world::nightly_cargo()
        .args(["build", "--release", "--quiet", "--target", &host, "--manifest-path"])
        .arg(world::root().join("fuzz/Cargo.toml"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .status()?;
    if status.success() {
        Ok(target.join(host).join("release"))
    } else {
        Err("the fuzz targets do not build; they need a nightly toolchain and a C++ compiler".into())
    }
}

/// The machine's target triple. It is passed explicitly so that the flags don't affect build
/// scripts.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".into())
}

fn folder(what: &str, target: &str) -> Result<PathBuf> {
    let folder = world::target().join("fuzz").join(what).join(target);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes initial inputs: random bytes, short and long.
fn first_inputs(corpus: &Path) -> Result<()> {
    for nth in 0..FIRST_INPUTS {
        let mut state = nth;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..8 << (nth % 8)).map(|_| next()).collect();
        fs::write(corpus.join(format!("first-{nth}")), bytes)?;
    }
    Ok(())
}

/// The number after the last occurrence of `key`.
fn number_after(text: &str, key: &str) -> u64 {
    let rest = text.rfind(key).map(|at| text[at + key.len()..].trim_start()).unwrap_or_default();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().unwrap_or_default()
}

/// The sum of all earlier sessions of a target, from the ledger.
fn earlier(ledger: &str, target: &str) -> Effort {
    let command = format!("`cargo xtask fuzz --target {target} ");
    let Some(line) = ledger.lines().rev().find(|line| line.contains(&command)) else {
        return Effort::default();
    };
    let all = line.rfind("; ").map_or("", |at| &line[at..]);
    Effort { seconds: number_after(all, "; "), executions: number_after(all, " s and ") }
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_added_up_from_the_ledger() {
        let line = |target, text| {
            format!("| date | `cargo xtask fuzz --target {target} --minutes 1` | PASS: {text} |\n")
        };
        let ledger = line(
            "tail",
            "60 s, 9 executions, 5 features of coverage, 0 findings; 60 s and 9 executions in all sessions",
        ) + &line(
            "tail",
            "60 s, 4 executions, 5 features of coverage, 0 findings; 120 s and 13 executions in all sessions",
        ) + &line(
            "segment",
            "1 s, 1 executions, 1 features of coverage, 0 findings; 1 s and 1 executions in all sessions",
        );
        assert_eq!(earlier(&ledger, "tail"), Effort { seconds: 120, executions: 13 });
        assert_eq!(earlier(&ledger, "claims"), Effort::default());
    }

    #[test]
    fn the_last_number_in_the_output_counts() {
        let stderr = "#2 INITED cov: 3 ft: 4 corp\n#9 DONE   cov: 30 ft: 41 corp: 2\nstat::number_of_executed_units: 77\n";
        assert_eq!(number_after(stderr, " ft: "), 41);
        assert_eq!(number_after(stderr, "stat::number_of_executed_units:"), 77);
        assert_eq!(number_after(stderr, "nothing"), 0);
    }
}
