//! Figures of a recovery.

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::rto::Rto;
use crate::target::Point;
use pitr_archive::Merged;
use pitr_snapshot::SnapshotId;
use pitr_vfs::Clock;
use std::time::Duration;

/// How long each part of a recovery took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Reading the footers.
    pub index: Duration,
    /// Reading the images of the log; in a validation, checking the log.
    pub log: Duration,
    /// Writing the result from the snapshot and the images.
    pub base: Duration,
    /// Replaying the logical records.
    pub redo: Duration,
    /// The engine's consistency check.
    pub check: Duration,
    /// Syncing and publishing.
    pub finish: Duration,
}

impl Phases {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> Duration {
        let Phases { index, log, base, redo, check, finish } = *self;
        [index, log, base, redo, check, finish]
            .iter()
            .fold(Duration::ZERO, |sum, part| sum.saturating_add(*part))
    }
}

/// Figures of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryStats {
    /// The snapshot that the recovery began with; `None` for the empty base.
    pub snapshot: Option<SnapshotId>,
    /// The state that was reached. In a validation, the state that a restore would reach.
    pub reached: Point,
    /// Bytes of the snapshot in the result; 0 in a validation.
    pub base_bytes: u64,
    /// Bytes of log between the snapshot and the state, after decoding.
    pub log_bytes: u64,
    /// Committed images in that log.
    pub records: u64,
    /// Committed logical records in that log that were applied; 0 in a validation.
    pub logical_records: u64,
    /// Transactions that committed in that log, at or before the target.
    pub applied: u64,
    /// Transactions with records in that log that are not in the state: they aborted, or had not
    /// committed at the target.
    pub skipped: u64,
    /// Number of threads used.
    pub workers: usize,
    /// How long each part took.
    pub phases: Phases,
}

impl RecoveryStats {
    /// The figures of a plan's log. Nothing is written yet, and no time has passed.
    pub(crate) fn of(plan: &Plan, merged: &Merged, workers: usize) -> Self {
        RecoveryStats {
            snapshot: plan.snapshot,
            reached: plan.reached,
            base_bytes: 0,
            log_bytes: merged.log_bytes(),
            records: merged.images(),
            logical_records: 0,
            applied: merged.applied(),
            skipped: merged.skipped(),
            workers,
            phases: Phases::default(),
        }
    }

    /// Fails if the recovery took longer than `rto`. The result is kept.
    ///
    /// # Errors
    /// [`Error::RtoExceeded`].
    pub fn within(&self, rto: Rto) -> Result<()> {
        let actual = self.phases.total();
        if actual <= rto.get() {
            return Ok(());
        }
        Err(Error::RtoExceeded { expected: rto, actual, estimate: None })
    }
}

/// Times parts of work, one after the other.
pub(crate) struct Watch<'a> {
    clock: &'a dyn Clock,
    last: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn start(clock: &'a dyn Clock) -> Self {
        Watch { clock, last: clock.monotonic() }
    }

    /// Time since the last call, or since the start.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = self.clock.monotonic();
        let lap = now.saturating_sub(self.last);
        self.last = now;
        lap
    }
}
