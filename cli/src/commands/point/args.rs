//! Arguments of `pitr point`.

use std::path::PathBuf;

use clap::Subcommand;
use pitr::archive::PointName;

use crate::args::target::Target;

/// The subcommands of `pitr point`.
#[derive(Debug, Subcommand)]
pub(crate) enum Point {
    /// Names a restorable state; `prune` keeps it until the point is deleted
    Create(Create),
    /// Lists the points of a source
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup point list
  pitr --repo /srv/backup point list --source shop --json")]
    List,
    /// Deletes a point; a later `prune` may remove its state
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup point delete before-migration")]
    Delete {
        /// Name of the point
        name: PointName,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
NAME has 1 to 100 characters of any script. T has the forms of restore's TARGET. Without --at, \
the point names the newest commit: a running watcher of this machine archives it first. If none \
answers, the point names the newest archived commit, and the command says up to which time the \
archive reaches.

Examples:
  pitr --repo /srv/backup point create before-migration
  pitr --repo /srv/backup point create release-7 --note 'last state of version 6'
  pitr --repo /srv/backup point create 'end of year' --at '2026-12-31 23:59 Europe/Paris'
  pitr --repo /srv/backup restore --to point:before-migration --output /srv/shop/restored.db")]
pub(crate) struct Create {
    /// Name of the point; must not be in use
    pub(crate) name: PointName,
    /// A text for people, at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    /// Name the state at T instead of the newest archived commit
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) at: Option<Target>,
    /// Look for T in the history of this timeline [default: the newest timeline]
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
    /// Folder of the watcher's local log, if it is not NAME-pitr/ beside the database
    #[arg(long, value_name = "DIR", conflicts_with = "at")]
    pub(crate) state: Option<PathBuf>,
}
