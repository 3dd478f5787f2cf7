//! Arguments of `pitr log`.

use crate::args::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
T is written as restore's TARGET: a time, 13 minutes ago, lsn:N, tx:N, snapshot:ID or latest. The transactions of several sources are
merged by time.

Examples:
  pitr --repo /srv/backup log
  pitr --repo /srv/backup log --from '20 minutes ago' --to '10 minutes ago'
  pitr --repo /srv/backup log --from tx:1400 --json
  pitr --repo /srv/backup log --source shop --source users")]
pub(crate) struct Log {
    /// Show the transactions of all sources of the repository
    #[arg(long)]
    pub(crate) all: bool,
    /// Leave out what was committed before
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) from: Option<Target>,
    /// Leave out what was committed after
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) to: Option<Target>,
    /// Show this timeline instead of the newest one's history
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
}
