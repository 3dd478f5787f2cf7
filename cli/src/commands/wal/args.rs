//! Arguments of `pitr wal`.

use std::path::PathBuf;

use clap::Subcommand;

/// The subcommands of `pitr wal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Wal {
    /// Shows the log's segments, and how opening the log would treat its end
    #[command(after_help = "\
Examples:
  pitr wal inspect /srv/shop/shop.db-pitr/timeline-00000001
  pitr wal inspect /var/lib/engine/log --archived-to 83886080")]
    Inspect(WalLook),
    /// Checks every batch and record; lists the damage and ends with exit code 4 if there is any
    #[command(after_help = "\
Examples:
  pitr wal verify /var/lib/engine/log
  pitr wal verify /var/lib/engine/log --json")]
    Verify(WalLook),
    /// Prints the records, one line for each fragment
    #[command(after_help = "\
Examples:
  pitr wal dump /var/lib/engine/log --from 16781312 --to 16785408
  pitr wal dump /var/lib/engine/log --tx 1482 --payload")]
    Dump(WalDump),
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalLook {
    /// The folder with the .seg files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Everything below this LSN is known to be durable, for example because it is archived; damage
    /// below it is a hole
    #[arg(long, value_name = "LSN")]
    pub(crate) archived_to: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalDump {
    /// The folder with the .seg files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print records from this LSN on
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<u64>,
    /// Print records before this LSN
    #[arg(long, value_name = "LSN")]
    pub(crate) to: Option<u64>,
    /// Print only the records of this transaction
    #[arg(long, value_name = "N")]
    pub(crate) tx: Option<u64>,
    /// Also print the payload, in hexadecimal
    #[arg(long)]
    pub(crate) payload: bool,
}
