//! What is to stay.

use crate::{Error, Result};
use pitr_format::Timestamp;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// What stays restorable. Rules add up: what one of them keeps stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Every commit of the last so long.
    pub keep_within: Option<Duration>,
    /// The newest so many snapshots of each source, and every commit since the oldest of them.
    pub keep_snapshots: Option<NonZeroU32>,
    /// The last snapshot of each of the newest so many days (UTC) that have one.
    pub keep_daily: Option<NonZeroU32>,
    /// The same by weeks, from Monday.
    pub keep_weekly: Option<NonZeroU32>,
    /// The same by months.
    pub keep_monthly: Option<NonZeroU32>,
    /// Every commit since then. If one of them can't be restored even now, nothing is pruned.
    pub must_remain_since: Option<Timestamp>,
}

impl Policy {
    /// # Errors
    /// [`Error::NoRule`] when there is none.
    pub fn validate(&self) -> Result<()> {
        if *self == Policy::default() { Err(Error::NoRule) } else { Ok(()) }
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The newest state of its source is restored from it.
    Newest,
    /// It lies in the window of [`Policy::keep_within`], or is what the window's begin is restored from.
    Within,
    /// It is one of [`Policy::keep_snapshots`], or lies behind the oldest of them.
    Count,
    /// It is the last one of its day.
    Daily,
    /// It is the last one of its week.
    Weekly,
    /// It is the last one of its month.
    Monthly,
    /// [`Policy::must_remain_since`] needs it.
    MustRemain,
}

impl Reason {
    /// Its name, for people and scripts.
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
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
