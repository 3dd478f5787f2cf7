//! Arguments of `pitr log`.

use crate::args::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
T has the forms of restore's TARGET: a time, 13 minutes ago, lsn:N, tx:N, snapshot:ID, \
point:NAME or latest. tx:2/N lists the history of timeline 2, as --timeline 2 does. The \
transactions of several sources are merged by time.

Examples:
  pitr --repo /srv/backup log
  pitr --repo /srv/backup log --from '20 minutes ago' --to '10 minutes ago'
  pitr --repo /srv/backup log --from tx:1400 --json
  pitr --repo /srv/backup log --timeline 1
  pitr --repo /srv/backup log --source shop --source users")]
pub(crate) struct Log {
    /// List the transactions of all sources
    #[arg(long)]
    pub(crate) all: bool,
    /// List transactions from T on
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) from: Option<Target>,
    /// List transactions up to T
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) to: Option<Target>,
    /// List the history of this timeline [default: the newest timeline]
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
}
