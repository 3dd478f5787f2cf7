//! Arguments of `pitr backup`.

use std::path::PathBuf;

use pitr::codec::Codec;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup backup /srv/shop/shop.db
  pitr --repo /srv/backup backup /srv/shop/shop.db --full
  pitr --repo /srv/backup backup /srv/shop/shop.db --source shop --json
  pitr --repo /srv/backup backup /srv/shop/pictures
  pitr --repo /srv/backup backup /srv/store --changed-ranges /run/store/changed")]
pub(crate) struct Backup {
    /// The SQLite database file, or a folder that nobody writes to meanwhile
    #[arg(value_name = "SOURCE")]
    pub(crate) database: PathBuf,
    /// Read everything, even when the log says what changed; of a folder without regard to earlier snapshots
    #[arg(long)]
    pub(crate) full: bool,
    /// What was written in files of a folder since a snapshot, as the writer itself lists it: of these files nothing else is read
    #[arg(long, value_name = "LIST", conflicts_with = "full")]
    pub(crate) changed_ranges: Option<PathBuf>,
    /// Where the local log lives [default: NAME-pitr/ beside the database]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The source was elsewhere until now: this is the same database or folder, moved
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Accept a database file with several names (hard links): no program opens the others
    #[arg(long)]
    pub(crate) allow_hard_links: bool,
    /// How to compress: none, zstd:1 to zstd:22, lz4, snappy, or gzip:1 to gzip:9 [default: zstd:3, or as a running watcher does]
    #[arg(long, value_name = "CODEC")]
    pub(crate) compress: Option<Codec>,
}
