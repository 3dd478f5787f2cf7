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
    /// A SQLite database file, or a folder that is not written to during the backup
    #[arg(value_name = "SOURCE")]
    pub(crate) database: PathBuf,
    /// Take a full snapshot: read everything instead of only the changes
    #[arg(long)]
    pub(crate) full: bool,
    /// List of the changed ranges of a folder's files since a snapshot, written by the program that
    /// changes them. Of the listed files, only these ranges are read
    #[arg(long, value_name = "LIST", conflicts_with = "full")]
    pub(crate) changed_ranges: Option<PathBuf>,
    /// Folder of the local log [default: NAME-pitr/ beside the database]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Accept a new path for the source: this is the same database or folder, moved
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Accept a database file with several hard links; no program may open it by another name
    #[arg(long)]
    pub(crate) allow_hard_links: bool,
    /// Compression: none, zstd:1 to zstd:22, lz4, snappy, or gzip:1 to gzip:9 [default: zstd:3;
    /// with a running watcher, the watcher's]
    #[arg(long, value_name = "CODEC")]
    pub(crate) compress: Option<Codec>,
}
