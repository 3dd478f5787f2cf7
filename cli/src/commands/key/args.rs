//! Arguments of `pitr key`.

use std::path::PathBuf;

use clap::Subcommand;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Lists the key slots
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key list")]
    List,
    /// Lets another passphrase or key open the repository
    Add(NewKey),
    /// Takes a slot away: its passphrase or key opens the repository no more
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key remove 1f00c2d3a4b59687")]
    Remove {
        /// The slot, as `pitr key list` shows it
        slot: String,
    },
    /// Makes a new data key: whatever is written from now on is encrypted with it
    #[command(after_help = "\
A watcher that runs already goes on with the key that it has until it is started again. What was written before
stays as it is and readable.

Examples:
  pitr --repo /srv/backup --passphrase-file p key rotate")]
    Rotate,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file old key add --new-passphrase-file new
  pitr --repo /srv/backup --passphrase-file p key add --new-key-file /run/secrets/pitr")]
#[group(required = true, multiple = false)]
pub(crate) struct NewKey {
    /// A file whose first line is the new passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// A file of 32 bytes, or of 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}
