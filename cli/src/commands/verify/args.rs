//! Arguments of `pitr verify`.

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every object is read and compared with the SHA-256 that it states, every snapshot's tree is walked, every range of the log
is looked for. A fault names the snapshots that it spoils; the others can be restored.

Examples:
  pitr --repo /srv/backup verify
  pitr --repo /srv/backup verify --deep --json")]
pub(crate) struct Verify {
    /// Decode every chunk, batch and record too, not only the bytes that hold them
    #[arg(long)]
    pub(crate) deep: bool,
}
