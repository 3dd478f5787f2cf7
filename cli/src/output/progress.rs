//! How far a command has come: bars on standard error when a person looks at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// Whether and where a command shows how far it has come.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    visible: bool,
}

impl Progress {
    /// Draws only where a person looks: on a terminal, unless the answer is for a script or silence was asked for.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Progress { visible: !json && !quiet && io::stderr().is_terminal() }
    }

    /// Begins a phase of `total` units, zero if nobody knows; it ends when the handle is dropped.
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

/// One running phase; may be driven from several threads.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: ProgressBar,
}

impl Phase {
    /// So many units are done altogether.
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
    fn every_template_is_understood() {
        for bounded in [true, false] {
            assert!(ProgressStyle::with_template(template(bounded)).is_ok());
        }
    }
}
