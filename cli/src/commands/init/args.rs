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
    /// Encrypt the repository with the given passphrase or key
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// Permissions of the repository's files, such as 0640 to let a group read. The repository's
    /// folder gets them, and later files follow the folder: change them with chmod of the folder
    /// [default: 0600]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) mode: Option<u32>,
}
