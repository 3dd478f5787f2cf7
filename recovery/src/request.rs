//! A recovery as one request: the target, the mode, and the recovery time objective.

use crate::error::{Result, Unreachable};
use crate::plan::Plan;
use crate::rates::Estimate;
use crate::restore::{RestoreOptions, Restored, Restorer};
use crate::rto::Rto;
use crate::stats::RecoveryStats;
use crate::target::Target;
use std::path::PathBuf;

/// What a recovery builds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// All files.
    #[default]
    Full,
    /// The files of these tables. The engine says which files a table needs, see
    /// [`RestoreTarget::files_of`](crate::RestoreTarget::files_of).
    Partial(Vec<String>),
    /// Nothing: checks the log up to the target. See [`Restorer::validate`].
    ValidationOnly,
}

/// A recovery.
///
/// There is no setting that switches checksums off: everything that is read is checked. There is no
/// differential mode either: every snapshot can be restored by itself, so there are no chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryRequest {
    /// The state to recover.
    pub target: Target,
    /// Recovers the newest state before a target that can't be reached, and reports it.
    pub or_before: bool,
    /// What is built.
    pub mode: RecoveryMode,
    /// Where and how it is built. A validation uses the number of workers only.
    pub options: RestoreOptions,
    /// How long the recovery may take. Refused before anything is written if the estimate is
    /// longer. A validation has no estimate.
    pub rto: Option<Rto>,
}

impl RecoveryRequest {
    /// Restores all files to `output`, which must not exist yet.
    #[must_use]
    pub fn full(target: Target, output: impl Into<PathBuf>) -> Self {
        let options = RestoreOptions::to(output);
        RecoveryRequest { target, or_before: false, mode: RecoveryMode::Full, options, rto: None }
    }

    /// Restores the files of some tables to `output`, which must not exist yet.
    #[must_use]
    pub fn partial(target: Target, tables: Vec<String>, output: impl Into<PathBuf>) -> Self {
        RecoveryRequest { mode: RecoveryMode::Partial(tables), ..Self::full(target, output) }
    }

    /// Checks the log up to the target, and writes nothing.
    #[must_use]
    pub fn validation(target: Target) -> Self {
        RecoveryRequest { mode: RecoveryMode::ValidationOnly, ..Self::full(target, PathBuf::new()) }
    }
}

/// The report of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How the state was built.
    pub plan: Plan,
    /// Why the state is earlier than the target, if it is.
    pub instead: Option<Unreachable>,
    /// The estimate before the recovery; `None` for a validation.
    pub estimate: Option<Estimate>,
    /// The figures. [`RecoveryStats::within`] compares them with the objective.
    pub stats: RecoveryStats,
    /// The result; `None` for a validation.
    pub restored: Option<Restored>,
}

impl Restorer<'_> {
    /// Plans a recovery and carries it out.
    ///
    /// # Errors
    /// [`Error::TargetUnreachable`](crate::Error::TargetUnreachable);
    /// [`Error::RtoExceeded`](crate::Error::RtoExceeded) before anything is written if the estimate
    /// exceeds the objective; those of [`restore`](Self::restore) and [`validate`](Self::validate).
    pub fn recover(&self, request: &RecoveryRequest) -> Result<Recovery> {
        let (plan, instead) = self.history.plan_or_before(&request.target, request.or_before)?;
        self.carry_out(plan, instead, request)
    }

    /// Carries out a recovery with a plan of
    /// [`History::plan_or_before`](crate::History::plan_or_before).
    ///
    /// # Errors
    /// Those of [`recover`](Self::recover), except for the target.
    pub fn carry_out(
        &self,
        plan: Plan,
        instead: Option<Unreachable>,
        request: &RecoveryRequest,
    ) -> Result<Recovery> {
        let RecoveryRequest { mode, options, rto, .. } = request;
        let tables = match mode {
            RecoveryMode::ValidationOnly => {
                let stats = self.validate(&plan, options.workers)?;
                return Ok(Recovery { plan, instead, estimate: None, stats, restored: None });
            }
            RecoveryMode::Full => options.tables.clone(),
            RecoveryMode::Partial(tables) => Some(tables.clone()),
        };
        let estimate = self.history.estimate(&plan)?;
        rto.map_or(Ok(()), |rto| estimate.within(rto))?;
        let restored = self.restore(&plan, &RestoreOptions { tables, ..options.clone() })?;
        let stats = restored.stats;
        Ok(Recovery { plan, instead, estimate: Some(estimate), stats, restored: Some(restored) })
    }
}
