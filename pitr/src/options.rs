//! Options of the facade's own operations.

use pitr_prune::Policy;

use crate::ConfigError;

/// What a prune keeps, and whether it deletes the rest.
///
/// ```
/// use pitr::PruneOptions;
/// use pitr::prune::Policy;
///
/// let week = std::time::Duration::from_secs(7 * 24 * 3600);
/// let policy = Policy { keep_within: Some(week), ..Policy::default() };
/// let report_only = PruneOptions::dry_run(policy);
/// let delete = report_only.clone().execute(true).waste_percent_max(20);
/// # let _ = delete;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Which snapshots and commits stay. A policy needs at least one rule.
    pub policy: Policy,
    /// Maximum percentage of unreferenced bytes in all packs together, 0 to 100. Above it, packs
    /// are rewritten without these bytes. Those with the most unreferenced bytes come first.
    pub waste_percent_max: u8,
    /// True to delete. False to change nothing and report what would be deleted.
    pub execute: bool,
}

impl PruneOptions {
    /// The value of [`waste_percent_max`](Self::waste_percent_max) unless it is set.
    pub const WASTE_PERCENT_MAX: u8 = 10;

    /// Changes nothing: reports what `policy` would delete.
    #[must_use]
    pub fn dry_run(policy: Policy) -> Self {
        PruneOptions { policy, waste_percent_max: Self::WASTE_PERCENT_MAX, execute: false }
    }

    /// Sets the maximum percentage of unreferenced bytes in packs, 0 to 100.
    #[must_use]
    pub fn waste_percent_max(self, percent: u8) -> Self {
        PruneOptions { waste_percent_max: percent, ..self }
    }

    /// Deletes if `execute` is true.
    #[must_use]
    pub fn execute(self, execute: bool) -> Self {
        PruneOptions { execute, ..self }
    }

    /// Refuses invalid options. Nothing is adjusted silently.
    ///
    /// # Errors
    /// [`ConfigError::WastePercent`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.waste_percent_max {
            0..=100 => Ok(()),
            percent => Err(ConfigError::WastePercent(percent)),
        }
    }
}
