//! Arguments of `pitr init`.

use crate::args::values::parse_mode;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup init
  PITR_REPO=file:///srv/backup pitr init
  pitr --repo /srv/backup init --encrypt --passphrase-file ~/.pitr-passphrase
  pitr --repo /srv/backup init --mode 0640")]
pub(crate) struct Init {
    /// Encrypt everything that is stored; nobody can read it without the passphrase or key given here
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// Permissions of the repository's files, as 0640 for a group that may read it. They become those of its folder, which later
    /// files follow; chmod of the folder changes them [default: 0600, for its owner alone]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) mode: Option<u32>,
}
