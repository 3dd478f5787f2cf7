//! Arguments of `pitr prune`.

use std::num::NonZeroU32;
use std::time::Duration;

use pitr::PruneOptions;

use crate::args::target::Target;
use crate::args::values::parse_interval;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What one of the rules keeps stays; of every source the newest state stays whatever the rules say. A window ends at the newest
moment that the repository knows of a source. Days, weeks and months are those of UTC.

Packs are deleted when what ran before has ended: a run that finds a backup or a restore at work leaves them to the next one.

Examples:
  pitr --repo /srv/backup prune --keep-within 7d
  pitr --repo /srv/backup prune --keep-within 7d --keep-daily 30 --keep-monthly 12 --execute
  pitr --repo /srv/backup prune --keep-snapshots 3 --must-remain-restorable-since '30 days ago' --execute")]
pub(crate) struct Prune {
    /// Keep every commit of the last so long
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) keep_within: Option<Duration>,
    /// Keep the newest N snapshots of each source, and every commit since the oldest of them
    #[arg(long, value_name = "N")]
    pub(crate) keep_snapshots: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N days that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N weeks that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N months that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<NonZeroU32>,
    /// Keep every commit since then, and prune nothing if one of them is lost already
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) must_remain_restorable_since: Option<Target>,
    /// How many percent of what packs hold may be needed by nobody before some are stored anew
    #[arg(long, value_name = "PERCENT", default_value_t = PruneOptions::WASTE_PERCENT_MAX, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) max_waste: u8,
    /// Do it
    #[arg(long)]
    pub(crate) execute: bool,
}
