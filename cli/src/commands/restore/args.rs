//! Arguments of `pitr restore`.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::target::Target;
use crate::args::values::parse_interval;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
TARGET is latest, a time (2026-11-21T14:32:06Z; '2026-11-21 14:32 Europe/Paris'; local time without Z, offset or zone),
13 minutes ago, lsn:N, tx:N or snapshot:ID, of which the first digits are enough.

Several sources are restored to one moment, a time or latest, or not at all. Latest is then the newest moment up to which every commit of
each is known. PATH is a new folder. Databases keep their paths below the folder that they have in common: /srv/t/a.db and /srv/t/eu/b.db
become PATH/a.db and PATH/eu/b.db. A source whose path is not known, or that would collide with another, gets its name.

A restored database gets the owner and permissions that the source had, as far as you may give them.

Examples:
  pitr --repo /srv/backup restore --to latest --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to '13 minutes ago' --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to tx:1482 --exclusive --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to latest --delta --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to '2026-11-29 14:00 Europe/Paris' --or-before --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --source shop --source users --to latest --output /srv/shop/restored
  pitr --repo /srv/backup restore --to latest --if-absent --if-source-exists --output /data/app.db")]
pub(crate) struct Restore {
    /// What to bring back
    #[arg(long, value_name = "TARGET", value_parser = Target::parse_local)]
    pub(crate) to: Target,
    /// The file or folder to build; must not exist
    #[arg(long, value_name = "PATH")]
    pub(crate) output: PathBuf,
    /// Restore all sources of the repository to one moment, into a folder
    #[arg(long)]
    pub(crate) all: bool,
    /// Stop just before the target instead of at it
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// Take the newest state at or before the target that can be restored, and say which; without it a target in a gap is refused
    #[arg(long)]
    pub(crate) or_before: bool,
    /// Take the target in this timeline instead of the newest one's history
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
    /// Move an existing output aside first; deletes nothing
    #[arg(long)]
    pub(crate) force: bool,
    /// Take what is still as it was from what stands at the output, by its hash; that is moved aside, nothing is deleted.
    /// Nobody may have it open: who writes to it goes on in what was moved aside
    #[arg(long)]
    pub(crate) delta: bool,
    /// End with 0 and change nothing if the output exists
    #[arg(long, conflicts_with_all = ["force", "delta"])]
    pub(crate) if_absent: bool,
    /// End with 0 and restore nothing if the repository has no such source yet
    #[arg(long)]
    pub(crate) if_source_exists: bool,
    /// Plan it, say what it would read and whether it fits, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Threads that fetch and decode [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// End with code 6 when it takes longer, or with --dry-run would
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) rto: Option<Duration>,
}
