//! Rehearsal of a restore: into a sandbox, on the path of a real one, and thrown away.
//!
//! The copy is compared with the state, piece by piece ([`Restorer::compare`]). Then the engine
//! checks it, and then the caller's [`Probe`]s do.
//!
//! A state that can't be restored because objects are damaged is a finding, as is everything that
//! a check finds or that keeps a check from running. Errors are what a caller can mend: no room,
//! a target that does not exist, a repository out of reach.

mod command;
mod probe;
mod query;
mod sandbox;

pub use command::{CommandProbe, run_within, shell};
pub use probe::{Probe, RestoredCopy};
pub use query::{Answer, Queries, QueryProbe};

use crate::{Error, Result};
use pitr_format::{Severity, SourceName};
use pitr_recovery::{Comparison, Difference, Plan, Point, RecoveryStats, RestoreOptions, Restored, Restorer};
use sandbox::Sandbox;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalOptions {
    /// Folder in which the sandbox is created. It must exist.
    pub folder: PathBuf,
    /// Maximum size of the copy, bytes; none if `None`. A rehearsal that needs more is refused.
    pub max_bytes: Option<u64>,
    /// Time for each probe.
    pub limit: Duration,
    /// Number of threads; as many as there are cores if not set.
    pub workers: Option<NonZeroUsize>,
}

impl RehearsalOptions {
    /// Time for each probe, unless it is set.
    pub const LIMIT: Duration = Duration::from_secs(60);

    /// A sandbox in this folder, without a maximum size.
    #[must_use]
    pub fn within(folder: impl Into<PathBuf>) -> Self {
        RehearsalOptions { folder: folder.into(), max_bytes: None, limit: Self::LIMIT, workers: None }
    }
}

/// A finding of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalFinding {
    /// The check that found it: `restore`, `compare`, `engine`, or the name of a probe.
    pub check: String,
    /// What it found.
    pub what: String,
}

/// The report of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// The state that was to be restored.
    pub state: Point,
    /// Figures of the restore; `None` if the state can't be restored.
    pub stats: Option<RecoveryStats>,
    /// Size of the copy, bytes.
    pub bytes: u64,
    /// Bytes of the copy that were compared with the state. `None` if they could not be: the log
    /// has logical records, and only the engine knows what these write.
    pub compared_bytes: Option<u64>,
    /// Time of the restore.
    pub restore_time: Duration,
    /// Time of the checks after it.
    pub check_time: Duration,
    /// The findings, in the order of the checks.
    pub findings: Vec<RehearsalFinding>,
}

impl Rehearsal {
    /// True if there is no finding.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// `None` if an object is damaged, which is a finding.
    fn unless_damaged<T>(&mut self, check: &str, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Error::Recovery(error)) if error.severity() == Severity::Fatal => {
                self.found(check, error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn compared(&mut self, comparison: &Comparison) {
        const SHOWN: usize = 10;
        self.compared_bytes = Some(comparison.bytes);
        for Difference { path, range } in comparison.differences.iter().take(SHOWN) {
            let is_only = path.as_os_str().is_empty();
            let file = if is_only { "the copy".into() } else { path.display().to_string() };
            self.found("compare", format_args!("{file}: bytes {} to {} differ", range.start, range.end));
        }
        if let Some(more) = comparison.count.checked_sub(SHOWN as u64).filter(|more| *more > 0) {
            self.found("compare", format_args!("{more} more parts differ"));
        }
    }

    fn found(&mut self, check: impl Into<String>, what: impl ToString) {
        self.findings.push(RehearsalFinding { check: check.into(), what: what.to_string() });
    }
}

/// Restores the state of `plan` into a sandbox, checks the copy, and removes it.
///
/// The restore's measured rates go into the repository, as those of every restore do.
///
/// # Errors
/// [`Error::SandboxTooSmall`], [`Error::Io`]; errors of the repository and of the restore that no
/// damage explains.
pub fn rehearse(
    restorer: &Restorer<'_>,
    source: &SourceName,
    plan: &Plan,
    options: &RehearsalOptions,
    probes: &[&dyn Probe],
) -> Result<Rehearsal> {
    let mut rehearsal = Rehearsal {
        state: plan.reached,
        stats: None,
        bytes: 0,
        compared_bytes: None,
        restore_time: Duration::ZERO,
        check_time: Duration::ZERO,
        findings: Vec::new(),
    };
    let begun = restorer.clock.monotonic();
    let env = restorer.history.archive().objects().env();
    let sandbox = Sandbox::create(restorer.fs, env, &options.folder)?;
    let output = sandbox.copy();
    let restored = room(restorer, plan, options, &output)
        .and_then(|to| restorer.restore(plan, &to).map_err(Error::from));
    let restored = rehearsal.unless_damaged("restore", restored)?;
    let checking = restorer.clock.monotonic();
    rehearsal.restore_time = checking.saturating_sub(begun);
    let Some(restored) = restored else { return Ok(rehearsal) };
    let Restored { stats, bytes, .. } = restored;
    (rehearsal.stats, rehearsal.bytes) = (Some(stats), bytes);

    let compared = restorer.compare(plan, &output).map_err(Error::from);
    if let Some(Some(comparison)) = rehearsal.unless_damaged("compare", compared)? {
        rehearsal.compared(&comparison);
    }
    match restorer.check_copy(plan, &output) {
        Ok(findings) => findings.iter().flatten().for_each(|finding| rehearsal.found("engine", finding)),
        Err(error) => rehearsal.found("engine", error),
    }
    for probe in probes {
        let copy = RestoredCopy { path: &output, source, state: plan.reached, limit: options.limit };
        match probe.check(&copy) {
            Ok(findings) => findings.iter().for_each(|finding| rehearsal.found(probe.name(), finding)),
            Err(error) => rehearsal.found(probe.name(), error),
        }
    }
    rehearsal.check_time = restorer.clock.monotonic().saturating_sub(checking);
    Ok(rehearsal)
}

/// Refuses a copy that is larger than allowed, before anything is written.
fn room(
    restorer: &Restorer<'_>,
    plan: &Plan,
    options: &RehearsalOptions,
    output: &Path,
) -> Result<RestoreOptions> {
    let to = RestoreOptions { workers: options.workers, ..RestoreOptions::to(output) };
    let needed = restorer.room(plan, &to)?.needed;
    match options.max_bytes {
        Some(max) if needed > max => Err(Error::SandboxTooSmall { needed, max }),
        _ => Ok(to),
    }
}
