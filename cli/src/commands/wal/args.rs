//! Arguments of `pitr wal`.

use std::path::PathBuf;

use clap::Subcommand;

/// What to look for in a log.
#[derive(Debug, Subcommand)]
pub(crate) enum Wal {
    /// Tells what the folder holds, and what opening the log would decide about its end
    #[command(after_help = "\
Examples:
  pitr wal inspect /srv/shop/shop.db-pitr/timeline-00000001
  pitr wal inspect /var/lib/engine/log --archived-to 83886080")]
    Inspect(WalLook),
    /// Checks every batch and every record; ends with 4 and a line for each damage
    #[command(after_help = "\
Examples:
  pitr wal verify /var/lib/engine/log
  pitr wal verify /var/lib/engine/log --json")]
    Verify(WalLook),
    /// Prints the records, a line for each part that stands by itself
    #[command(after_help = "\
Examples:
  pitr wal dump /var/lib/engine/log --from 16781312 --to 16785408
  pitr wal dump /var/lib/engine/log --tx 1482 --payload")]
    Dump(WalDump),
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalLook {
    /// The folder that holds the .seg files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Everything below is known to have been durable, from an archive for instance: less is a hole
    #[arg(long, value_name = "LSN")]
    pub(crate) archived_to: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalDump {
    /// The folder that holds the .seg files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Leave out what stands below
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<u64>,
    /// Leave out what stands here or above
    #[arg(long, value_name = "LSN")]
    pub(crate) to: Option<u64>,
    /// Only the records of this transaction
    #[arg(long, value_name = "N")]
    pub(crate) tx: Option<u64>,
    /// The bytes too, in hexadecimal
    #[arg(long)]
    pub(crate) payload: bool,
}
