//! Arguments of `pitr restore`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pitr::recovery::Rto;

use crate::args::target::Target;
use crate::args::values::{parse_bytes, parse_rto};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
TARGET is latest, a time (2026-11-21T14:32:06Z; '2026-11-21 14:32 Europe/Paris'; local time \
without Z, offset or zone), 13 minutes ago, lsn:N, tx:N, snapshot:ID with the ID's first \
digits, or point:NAME of `pitr point`. lsn:2/N and tx:2/N are those of timeline 2; `pitr info` \
shows the timelines.

Several sources are restored to the same time, all or none. For them TARGET is a time or \
latest: the newest time up to which all commits of every source are archived. PATH is a new \
folder. Databases keep their paths below their common folder: /srv/t/a.db and /srv/t/eu/b.db \
become PATH/a.db and PATH/eu/b.db. A source without a known path is restored under its name; so \
are all sources if two paths collide.

An interrupted restore leaves an unfinished file, which no program opens as a database. Run the \
same command again: it continues with what was written.

Everything that is read is checked by its checksums; there is no option to switch them off. Every \
snapshot can be restored by itself: there is no differential kind, and no chain.

If something in the repository is damaged, the restore takes another way to the same state, such \
as an older snapshot and more log, and says so. Without one it ends with 4.

A restored database gets the owner and permissions of its source, as far as you are allowed to \
set them.

Examples:
  pitr --repo /srv/backup restore --to latest --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to '13 minutes ago' --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to tx:1482 --exclusive --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to tx:2/117 --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to point:before-migration --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to latest --check --rto 5m --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to latest --validate
  pitr --repo /srv/backup restore --to latest --delta --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --to latest --delta --in-place --output /srv/shop/shop.db
  pitr --repo /srv/backup restore --to '2026-11-29 14:00 Europe/Paris' --or-before --output /srv/shop/restored.db
  pitr --repo /srv/backup restore --source shop --source users --to latest --output /srv/shop/restored
  pitr --repo /srv/backup restore --to latest --if-absent --if-source-exists --output /data/app.db")]
pub(crate) struct Restore {
    /// The state to restore
    #[arg(long, value_name = "TARGET", value_parser = Target::parse_local)]
    pub(crate) to: Target,
    /// The file or folder to create; must not exist
    #[arg(long, value_name = "PATH", required_unless_present = "validate")]
    pub(crate) output: Option<PathBuf>,
    /// Restore nothing: read the log from the snapshot to the target, and check every object,
    /// checksum, record and index entry of it. `pitr verify` checks the snapshots' data
    #[arg(long, conflicts_with_all = ["output", "all", "force", "delta", "if_absent", "dry_run", "check", "rto"])]
    pub(crate) validate: bool,
    /// Restore all sources of the repository to the same time, into a folder
    #[arg(long)]
    pub(crate) all: bool,
    /// Restore the state just before the target
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// If the target can't be restored, for example in a gap, restore the newest state before it
    /// and report which
    #[arg(long)]
    pub(crate) or_before: bool,
    /// Look for the target in the history of this timeline [default: the newest timeline]
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
    /// Move an existing output aside; nothing is deleted
    #[arg(long)]
    pub(crate) force: bool,
    /// Reuse the parts of an existing output whose hashes match the snapshot. The existing output
    /// is moved aside; nothing is deleted. No program may have it open: its writes would go to the
    /// file moved aside
    #[arg(long)]
    pub(crate) delta: bool,
    /// With --delta: update the existing output itself. Its old state is lost from the first step
    /// on, also if the restore fails. Takes no second copy's disk space. Run an interrupted update
    /// again: it continues. Refused if a program has the output open
    #[arg(long, requires = "delta")]
    pub(crate) in_place: bool,
    /// Do nothing and end with exit code 0 if the output exists
    #[arg(long, conflicts_with_all = ["force", "delta"])]
    pub(crate) if_absent: bool,
    /// Do nothing and end with exit code 0 if the repository does not have the source yet
    #[arg(long)]
    pub(crate) if_source_exists: bool,
    /// Only plan the restore: report the bytes to read and the space needed and free; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Before the result gets its name, run the engine's own consistency check on it: for SQLite
    /// integrity_check, foreign_key_check and the catalog. If it finds a fault, nothing is
    /// published, and the exit code is 4
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) check: bool,
    /// Number of threads that fetch and decode [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Memory for changes of the log that wait for their place. More of them go to a temporary file
    /// beside the output: give more memory if the disk is slow and the log is long
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "48MiB")]
    pub(crate) memory: u64,
    /// Recovery time objective: restore nothing and end with exit code 6 if the estimate is longer.
    /// It is made from the rates of earlier restores from this repository. If the restore itself
    /// takes longer, the result is kept, and the exit code is 6 too
    #[arg(long, value_name = "DURATION", value_parser = parse_rto)]
    pub(crate) rto: Option<Rto>,
}

impl Restore {
    /// The output; empty for a validation.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new(""))
    }

    pub(crate) fn memory(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX)
    }

    pub(crate) fn workers(&self) -> Option<NonZeroUsize> {
        self.workers.and_then(|n| NonZeroUsize::new(n.into()))
    }
}
