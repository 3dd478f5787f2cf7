//! Arguments of `pitr info`.

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup info
  pitr --repo /srv/backup info --json")]
pub(crate) struct Info;
