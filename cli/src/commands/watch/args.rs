//! Arguments of `pitr watch`.

use std::path::PathBuf;
use std::time::Duration;

use pitr::codec::Codec;

use pitr::recovery::Rpo;

use crate::args::values::{parse_interval, parse_rpo};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A source has one watcher. Watching a restored copy under its source's name takes over the \
source on a new timeline and ends the watcher of the original. To watch a copy beside the \
original, give it another name with --source.

Examples:
  pitr --repo /srv/backup watch /srv/shop/shop.db
  pitr --repo /srv/backup watch /srv/shop/shop.db --snapshot-every 15m --rpo 500ms
  pitr --repo /srv/backup watch /srv/shop/shop.db /srv/shop/users.db
  pitr --repo /srv/backup watch /srv/tenants --match '*.db'")]
pub(crate) struct Watch {
    /// SQLite database files, or folders whose databases are watched, including databases created
    /// later. The command waits for files that do not exist yet
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) databases: Vec<PathBuf>,
    /// Watch only the databases of a folder that match this pattern, such as '*.db'. A pattern with
    /// a slash is matched against the path below the folder
    #[arg(long = "match", value_name = "PATTERN", value_parser = glob::Pattern::new)]
    pub(crate) pattern: Option<glob::Pattern>,
    /// Interval between snapshots
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_interval)]
    pub(crate) snapshot_every: Duration,
    /// Recovery point objective: commits reach the repository within this time
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_rpo)]
    pub(crate) rpo: Rpo,
    /// Folder of the local log [default: NAME-pitr/ beside each database]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Accept a new path for the source: this is the same database, moved
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Accept a database file with several hard links; no program may open it by another name
    #[arg(long)]
    pub(crate) allow_hard_links: bool,
    /// Compression: none, zstd:1 to zstd:22, lz4, snappy, or gzip:1 to gzip:9
    #[arg(long, value_name = "CODEC", default_value_t = Codec::default())]
    pub(crate) compress: Codec,
}
