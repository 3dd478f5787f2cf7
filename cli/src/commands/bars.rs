//! Progress bars of a restore or a rehearsal.

use std::sync::Mutex;

use pitr::recovery::{Phase, Progress};

use crate::output::progress;

/// A progress bar for each phase.
pub(super) struct Bars {
    progress: progress::Progress,
    current: Mutex<Option<(Phase, progress::Phase)>>,
}

impl Bars {
    pub(super) fn new(progress: progress::Progress) -> Self {
        Bars { progress, current: Mutex::new(None) }
    }

    pub(super) fn tell(&self, at: Progress) {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.as_ref().is_none_or(|(phase, _)| *phase != at.phase) {
            *current = None; // the previous phase ends first
            *current = Some((at.phase, self.progress.phase(at.phase.name(), at.total)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set(at.done);
        }
    }
}
