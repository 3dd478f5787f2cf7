//! The figures of a run, and what they mean for larger sizes.

use super::Protected;
use crate::Result;
use crate::bound::{Amounts, RestoreBound};
use crate::compare::median;
use crate::fit::{Line, PROJECTED};
use crate::size::Sizes;
use crate::usage::{MEMORY_MAX, Usage};
use crate::verdict::Verdict;
use serde_json::Value;

/// Compression ratio and repeated blocks that generated data must have.
const RATIOS: std::ops::RangeInclusive<f64> = 2.0..=2.5;
const REPEATED_MAX: f64 = 0.01;
/// Share of the bound that a restore reaches at least, from this size of base and log on: fixed
/// costs dominate below it.
const OF_BOUND_MIN: f64 = 0.75;
const OF_BOUND_FROM: u64 = 3_000_000_000;

/// Rate of a validation, MB/s of log, and how much faster two cores restore than one.
const VALIDATION_MIN: f64 = 1000.0;
const TWO_CORES_MIN: f64 = 1.6;

/// What the restoring process reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) wal_bytes: u64,
    pub(super) records: u64,
    pub(super) reused_bytes: Option<u64>,
    pub(super) phases: String,
}

impl Report {
    pub(super) fn of(answer: &Value) -> Result<Report> {
        let number = |key: &str| answer[key].as_u64().ok_or_else(|| format!("no {key} in {answer}"));
        let phases = match &answer["phases"] {
            Value::Object(phases) => phases
                .iter()
                .map(|(name, seconds)| format!("{name} {:.2}", seconds.as_f64().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(", "),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        Ok(Report {
            wal_bytes: number("wal_bytes")?,
            records: number("records")?,
            reused_bytes: answer["reused_bytes"].as_u64(),
            phases,
        })
    }
}

/// A timed restore.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) report: Report,
    usage: Usage,
    /// The peak of several runs.
    memory: u64,
    /// The times of all runs.
    all: Vec<f64>,
    bound: Option<(Amounts, RestoreBound)>,
}

impl Run {
    pub(super) fn of(usage: Usage, report: Report) -> Run {
        let (seconds, memory) = (usage.seconds, usage.memory);
        Run { seconds, report, usage, memory, all: vec![seconds], bound: None }
    }

    /// The run with the median time, with the peak memory of all. `runs` has at least one.
    pub(super) fn median(mut runs: Vec<Run>) -> Run {
        runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let all = runs.iter().map(|run| run.seconds).collect();
        let memory = runs.iter().map(|run| run.memory).max().unwrap_or_default();
        let median = runs.swap_remove(runs.len() / 2);
        Run { memory, all, ..median }
    }

    pub(super) fn set_bound(&mut self, amounts: Amounts, bound: RestoreBound) {
        self.bound = Some((amounts, bound));
    }

    /// Base and log together, GB.
    fn gigabytes(&self) -> f64 {
        self.bound.map_or(0.0, |(amounts, _)| (amounts.base + amounts.log) as f64 / 1e9)
    }

    /// Prints the figures and checks the limits.
    pub(super) fn print(&self, sizes: Sizes, disk: u64, verdict: &mut Verdict) {
        let Some((amounts, bound)) = self.bound else { return };
        let (gigabytes, seconds) = (self.gigabytes(), self.seconds);
        let all: Vec<String> = self.all.iter().map(|seconds| format!("{seconds:.2}")).collect();
        verdict.figure(format_args!(
            "{sizes}: {seconds:.2} s of {} ({}), {:.1} s of processor time, {:.0} MB/s of base and log, {} images",
            all.join(" "),
            self.report.phases,
            self.usage.cpu_seconds,
            gigabytes * 1e3 / seconds,
            self.report.records
        ));
        let megabytes = |bytes: u64| bytes / 1_000_000;
        verdict.step(format_args!(
            "base {} MB, log {} MB, result {} MB",
            megabytes(amounts.base),
            megabytes(amounts.log),
            megabytes(amounts.result)
        ));
        let of_bound = bound.everything / seconds;
        verdict.figure(format_args!(
            "bound {:.2} s ({:.0} MB/s, {:.0} without writing; two threads are {:.2} and {:.2} times one): {:.0}%; {:.2} s if only the result is written: {:.0}%",
            bound.everything,
            bound.rates.restore,
            bound.rates.decode,
            bound.two_threads[0],
            bound.two_threads[1],
            of_bound * 100.0,
            bound.result_only,
            bound.result_only / seconds * 100.0
        ));
        verdict.figure(format_args!(
            "{:.0} MB of anonymous memory, {} MB of disk",
            self.memory as f64 / 1e6,
            megabytes(disk)
        ));
        verdict.check(
            self.memory <= MEMORY_MAX,
            format_args!("a restore took {} MB of anonymous memory", megabytes(self.memory)),
        );
        verdict.check(
            of_bound >= OF_BOUND_MIN || amounts.base + amounts.log < OF_BOUND_FROM,
            format_args!("{:.0}% of the bound, wanted {:.0}%", of_bound * 100.0, OF_BOUND_MIN * 100.0),
        );
    }
}

/// Prints what the data is like, and checks it.
pub(super) fn data(sizes: Sizes, protected: &Protected, verdict: &mut Verdict) {
    let content = protected.content;
    verdict.figure(format_args!(
        "{sizes}: rows compress {:.2} : 1, {:.2}% of the blocks are zeros or repeated; {} MB stored",
        content.ratio,
        content.repeated * 100.0,
        protected.stored_bytes / 1_000_000
    ));
    verdict.check(RATIOS.contains(&content.ratio), "the rows do not compress as they should");
    verdict.check(content.repeated < REPEATED_MAX, "too many blocks are zeros or repeated");
}

/// Prints the rate of validations that took these times, which are not empty.
pub(super) fn validation(log: u64, times: Vec<f64>, verdict: &mut Verdict) {
    let seconds = median(&times);
    verdict.figure(format_args!(
        "validation of {} MB of log: {seconds:.2} s, {:.0} MB/s (wanted {VALIDATION_MIN:.0})",
        log / 1_000_000,
        log as f64 / seconds / 1e6
    ));
}

/// Prints how much faster two cores are than one; the times are not empty.
pub(super) fn cores(one: Vec<f64>, two: Vec<f64>, verdict: &mut Verdict) {
    let (one, two) = (median(&one), median(&two));
    verdict.figure(format_args!(
        "one worker on one core {one:.2} s, two on two {two:.2} s: {:.2} times (wanted {TWO_CORES_MIN})",
        one / two
    ));
}

/// Prints the line through all runs, and the projection.
pub(super) fn project(runs: &[Run], verdict: &mut Verdict) {
    let points: Vec<(f64, f64)> = runs.iter().map(|run| (run.gigabytes(), run.seconds)).collect();
    let (base, log) = PROJECTED;
    match (Line::through(&points), points.as_slice()) {
        (Some(line), _) => {
            verdict.figure(format_args!(
                "fit: {:.2} s + {:.3} s for each GB of base and log, off by at most {:.1}%; {base:.0} GB + {log:.0} GB: {:.0} s",
                line.fixed,
                line.per_gb,
                line.worst * 100.0,
                line.at(base + log)
            ));
        }
        (None, [(gigabytes, seconds), ..]) => verdict.figure(format_args!(
            "in proportion: {base:.0} GB + {log:.0} GB take {:.0} s",
            seconds / gigabytes * (base + log)
        )),
        (None, []) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_of_the_program_and_of_the_library_are_read() {
        let program = json!({"wal_bytes": 7, "records": 3, "phases": {"base": 1.25, "log": 0.5}});
        let report = Report::of(&program).unwrap();
        assert_eq!((report.wal_bytes, report.records, report.reused_bytes), (7, 3, None));
        assert_eq!(report.phases, "base 1.25, log 0.50");
        let library = json!({"wal_bytes": 7, "records": 3, "phases": "base: 1s", "reused_bytes": 5});
        let report = Report::of(&library).unwrap();
        assert_eq!((report.phases.as_str(), report.reused_bytes), ("base: 1s", Some(5)));
        assert!(Report::of(&json!({"records": 3})).is_err());
    }

    #[test]
    fn the_median_keeps_all_times_and_the_most_memory() {
        let run = |seconds, memory| Run::of(Usage { seconds, cpu_seconds: 1.0, memory }, Report::default());
        let median = Run::median(vec![run(3.0, 10), run(1.0, 90), run(2.0, 20)]);
        assert_eq!((median.seconds, median.memory), (2.0, 90));
        assert_eq!(median.all, [1.0, 2.0, 3.0]);
    }
}
