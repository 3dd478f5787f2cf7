//! The checks.

pub(crate) mod durable;
pub(crate) mod log;
pub(crate) mod replays;
pub(crate) mod restores;
pub(crate) mod snapshots;
