//! Arguments of `pitr watch`.

use std::path::PathBuf;
use std::time::Duration;

use pitr::codec::Codec;

use crate::args::values::{parse_interval, parse_rpo};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A source has one watcher. Watching a restored copy under the name of its source takes the source over on a new timeline, and ends the
watcher of the original; give a copy that lives beside the original a name of its own by --source.

Examples:
  pitr --repo /srv/backup watch /srv/shop/shop.db
  pitr --repo /srv/backup watch /srv/shop/shop.db --snapshot-every 15m --rpo 500ms
  pitr --repo /srv/backup watch /srv/shop/shop.db /srv/shop/users.db
  pitr --repo /srv/backup watch /srv/tenants --match '*.db'")]
pub(crate) struct Watch {
    /// SQLite database files, and folders whose databases are watched, also those that come later. A file that does not
    /// exist yet is waited for
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) databases: Vec<PathBuf>,
    /// Of a folder's databases watch only those that match this pattern, as '*.db'; a pattern with a slash is held
    /// against the path below the folder
    #[arg(long = "match", value_name = "PATTERN", value_parser = glob::Pattern::new)]
    pub(crate) pattern: Option<glob::Pattern>,
    /// How often to take a snapshot
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_interval)]
    pub(crate) snapshot_every: Duration,
    /// How much may be lost with this machine: commits are in the repository within this time
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_rpo)]
    pub(crate) rpo: Duration,
    /// Where the local log lives [default: NAME-pitr/ beside each database]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The source was elsewhere until now: this is the same database, moved
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Accept a database file with several names (hard links): no program opens the others
    #[arg(long)]
    pub(crate) allow_hard_links: bool,
    /// How to compress: none, zstd:1 to zstd:22, lz4, snappy, or gzip:1 to gzip:9
    #[arg(long, value_name = "CODEC", default_value_t = Codec::default())]
    pub(crate) compress: Codec,
}
