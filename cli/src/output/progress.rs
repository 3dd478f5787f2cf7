//! Progress bars on standard error, if it is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// Whether a command shows progress.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    visible: bool,
}

impl Progress {
    /// Visible on a terminal, unless `json` or `quiet` is set.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Progress { visible: !json && !quiet && io::stderr().is_terminal() }
    }

    /// Begins a phase of `total` units, 0 if unknown. The phase ends when the handle is dropped.
    pub(crate) fn phase(&self, name: &str, total: u64) -> Phase {
        let target = if self.visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(template(total > 0));
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target)
            .with_message(name.to_owned())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Phase { bar }
    }
}

fn template(bounded: bool) -> &'static str {
    if bounded { "{msg:12} {bar:40} {pos} of {len}, {eta} left" } else { "{msg:12} {spinner} {elapsed}" }
}

/// A running phase. Any thread may update it.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: ProgressBar,
}

impl Phase {
    /// Sets the number of units done so far.
    pub(crate) fn set(&self, units: u64) {
        self.bar.set_position(units);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for bounded in [true, false] {
            assert!(ProgressStyle::with_template(template(bounded)).is_ok());
        }
    }
}
