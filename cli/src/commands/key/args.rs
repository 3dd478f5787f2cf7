//! Arguments of `pitr key`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;

/// The subcommands of `pitr key`.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Lists the key slots
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key list")]
    List,
    /// Adds a passphrase or key that opens the repository
    Add(NewKey),
    /// Removes a key slot: its passphrase or key no longer opens the repository
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key remove 1f00c2d3a4b59687")]
    Remove {
        /// ID of the slot, from `pitr key list`
        slot: String,
    },
    /// Creates a new data key: everything written from now on is encrypted with it
    #[command(after_help = "\
A running watcher uses its old data key until it is restarted. Earlier data is not rewritten \
and stays readable.

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
    /// A shell command that prints 32 bytes, or 64 hexadecimal digits
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_key_command: Option<OsString>,
}
