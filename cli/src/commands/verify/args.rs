//! Arguments of `pitr verify`.

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads every object and checks its SHA-256, checks the tree of every snapshot, and checks that \
no range of the log is missing. Each fault names the snapshots that it affects; the others can \
be restored.

Examples:
  pitr --repo /srv/backup verify
  pitr --repo /srv/backup verify --deep --json")]
pub(crate) struct Verify {
    /// Also decode and check every chunk, batch and record
    #[arg(long)]
    pub(crate) deep: bool,
}
