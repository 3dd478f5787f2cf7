//! Arguments of `pitr repair`.

use std::path::PathBuf;

use crate::args::values::repository_parser;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checks the repository as `pitr verify --deep` does. Damaged and missing objects are replaced by \
those of a copy of the same repository, if the copy's objects are sound. Damaged objects move to \
the folder quarantine of the repository; nothing is lost.

With --set-aside, damaged data that no copy has moves to the quarantine too. Then take a new \
snapshot with `pitr backup --full`: it stores everything that the live source still has, also \
for older snapshots. What stays lost is listed with the snapshots that it spoils.

The copy takes its address and credentials from the same environment, passphrase or key.

Examples:
  pitr --repo /srv/backup repair --from /mnt/copy
  pitr --repo /srv/backup repair --from s3://bucket/backup --execute
  pitr --repo /srv/backup repair --set-aside --execute")]
pub(crate) struct Repair {
    /// A copy of the same repository: a directory or a URL
    #[arg(long, value_name = "URL", value_parser = repository_parser(), required_unless_present = "set_aside")]
    pub(crate) from: Option<PathBuf>,
    /// Also move damaged data that no copy has to the quarantine
    #[arg(long)]
    pub(crate) set_aside: bool,
    /// Repair; without it, only report what would be done
    #[arg(long)]
    pub(crate) execute: bool,
}
