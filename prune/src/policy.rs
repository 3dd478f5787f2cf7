//! The policy: which states stay restorable.

use crate::{Error, Result};
use pitr_format::Timestamp;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Which states stay restorable. A state is kept if at least one rule keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Keeps every commit of this period before now.
    pub keep_within: Option<Duration>,
    /// Keeps this number of newest snapshots of each source, and every commit since the oldest of
    /// them.
    pub keep_snapshots: Option<NonZeroU32>,
    /// Keeps the last snapshot of each of this number of newest days (UTC) with snapshots.
    pub keep_daily: Option<NonZeroU32>,
    /// The same for weeks, which start on Monday.
    pub keep_weekly: Option<NonZeroU32>,
    /// The same for months.
    pub keep_monthly: Option<NonZeroU32>,
    /// Keeps every commit since this time. If one of them can't be restored now, nothing is pruned.
    pub must_remain_since: Option<Timestamp>,
}

impl Policy {
    /// # Errors
    /// [`Error::NoRule`] if there is no rule.
    pub fn validate(&self) -> Result<()> {
        if *self == Policy::default() { Err(Error::NoRule) } else { Ok(()) }
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A restore of the newest state uses the snapshot.
    Newest,
    /// The snapshot is in the window of [`Policy::keep_within`], or a restore of the window's start
    /// uses it.
    Within,
    /// The snapshot is one of [`Policy::keep_snapshots`], or later than the oldest of them.
    Count,
    /// The snapshot is the last one of its day.
    Daily,
    /// The snapshot is the last one of its week.
    Weekly,
    /// The snapshot is the last one of its month.
    Monthly,
    /// [`Policy::must_remain_since`] needs the snapshot.
    MustRemain,
    /// A named recovery point needs the snapshot.
    Point,
}

impl Reason {
    /// Name of the reason, for people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Newest => "newest",
            Reason::Within => "within",
            Reason::Count => "count",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::MustRemain => "must-remain",
            Reason::Point => "point",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
