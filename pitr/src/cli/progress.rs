//! How far a command has come: bars on standard error when a person looks at a terminal, and the time of each phase for the answer.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a phase counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Items,
}

/// The phases of one command. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    visible: bool,
    finished: Arc<Mutex<Vec<(String, f64)>>>,
}

impl Progress {
    /// Draws only where a person looks: on a terminal, unless the answer is for a script or silence was asked for.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Progress { visible: !json && !quiet && io::stderr().is_terminal(), finished: Arc::default() }
    }

    /// Begins a phase of `total` units, zero if nobody knows; it ends when the handle is dropped.
    pub(crate) fn phase(&self, name: &str, unit: Unit, total: u64) -> Phase {
        let target = if self.visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target)
            .with_message(name.to_owned())
            .with_style(style(unit, total > 0));
        Phase {
            bar,
            unit,
            name: name.to_owned(),
            begin: Instant::now(),
            finished: Arc::clone(&self.finished),
        }
    }

    /// Seconds that each finished phase took, in the order in which they ended.
    pub(crate) fn seconds(&self) -> Vec<(String, f64)> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn style(unit: Unit, bounded: bool) -> ProgressStyle {
    ProgressStyle::with_template(template(unit, bounded)).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn template(unit: Unit, bounded: bool) -> &'static str {
    match (unit, bounded) {
        (Unit::Bytes, true) => "{msg:12} {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        (Unit::Bytes, false) => "{msg:12} {spinner} {bytes}, {bytes_per_sec}",
        (Unit::Items, true) => "{msg:12} {bar:40} {pos} of {len}, {eta} left",
        (Unit::Items, false) => "{msg:12} {spinner} {pos}",
    }
}

/// One running phase; may be driven from several threads.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: ProgressBar,
    unit: Unit,
    name: String,
    begin: Instant,
    finished: Arc<Mutex<Vec<(String, f64)>>>,
}

impl Phase {
    /// So many units more are done.
    pub(crate) fn add(&self, units: u64) {
        self.bar.inc(units);
    }

    /// So many units are done altogether.
    pub(crate) fn set(&self, units: u64) {
        self.bar.set_position(units);
    }

    /// The phase turns out to have so many units.
    pub(crate) fn set_total(&self, units: u64) {
        self.bar.set_length(units);
        self.bar.set_style(style(self.unit, units > 0));
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let seconds = self.begin.elapsed().as_secs_f64();
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.push((std::mem::take(&mut self.name), seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_timed_in_order() {
        let progress = Progress::new(true, false);
        let plan = progress.phase("plan", Unit::Items, 0);
        plan.set_total(3);
        plan.add(3);
        drop(plan);
        progress.clone().phase("write", Unit::Bytes, 10).set(10);
        let names: Vec<String> = progress.seconds().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["plan", "write"]);
        assert!(progress.seconds().iter().all(|(_, seconds)| *seconds >= 0.0));
    }

    #[test]
    fn every_template_is_understood() {
        for unit in [Unit::Bytes, Unit::Items] {
            for bounded in [true, false] {
                assert!(ProgressStyle::with_template(template(unit, bounded)).is_ok());
            }
        }
    }
}
