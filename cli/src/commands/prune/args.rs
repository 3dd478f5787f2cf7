//! Arguments of `pitr prune`.

use std::num::NonZeroU32;
use std::time::Duration;

use pitr::PruneOptions;

use crate::args::target::Target;
use crate::args::values::parse_interval;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rules add up: a snapshot stays if any rule keeps it. The newest state of every source always \
stays, and so does the state of every named point (`pitr point`). A window ends at the newest time in the repository's history of the source. Days, weeks \
and months are in UTC.

Packs that a running backup or restore may still use are not deleted; a later prune deletes \
them.

Examples:
  pitr --repo /srv/backup prune --keep-within 7d
  pitr --repo /srv/backup prune --keep-within 7d --keep-daily 30 --keep-monthly 12 --execute
  pitr --repo /srv/backup prune --keep-snapshots 3 --must-remain-restorable-since '30 days ago' --execute")]
pub(crate) struct Prune {
    /// Keep every commit of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) keep_within: Option<Duration>,
    /// Keep the newest N snapshots of each source and every commit since the oldest of them
    #[arg(long, value_name = "N")]
    pub(crate) keep_snapshots: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N days with snapshots
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N weeks with snapshots
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N months with snapshots
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<NonZeroU32>,
    /// Keep every commit since this time; delete nothing if one of them is already lost
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) must_remain_restorable_since: Option<Target>,
    /// Maximum percentage of unreferenced data before packs are rewritten
    #[arg(long, value_name = "PERCENT", default_value_t = PruneOptions::WASTE_PERCENT_MAX, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) max_waste: u8,
    /// Delete; without it, only report what would be deleted
    #[arg(long)]
    pub(crate) execute: bool,
}
