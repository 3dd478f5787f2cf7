//! Arguments of `pitr verify`.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use pitr::recovery::Rto;
use pitr::verify::{Depth, Options, RehearsalOptions};
use pitr::{LiveOptions, RehearsalRequest, ValidationOptions};

use crate::args::target::Target;
use crate::args::values::{parse_bytes, parse_interval, parse_rto};
use crate::commands::this_machine;
use crate::failure::CliError;

/// What `pitr verify` checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The stored bytes of each object, by their SHA-256
    Checksum,
    /// What the objects state of each other: trees of snapshots, index and packs, the log of every
    /// timeline, recovery points
    Metadata,
    /// A restore into a sandbox: the copy is compared with the state, and the engine checks it (for
    /// SQLite integrity_check, foreign_key_check and the catalog)
    Restore,
    /// Like restore, and your own checks of the copy: --sql and --command
    Functional,
    /// The live database, compared with the archive at one commit while applications write: finds
    /// what capture missed. Needs the running watcher
    Live,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads every object and checks its SHA-256, checks the tree of every snapshot, and checks that \
no range of the log is missing. Each fault names the snapshots that it affects; the others can \
be restored.

The levels restore and functional restore a state of each source, or of those given by --source, \
into a folder that is removed afterwards. `pitr info` shows the last such rehearsal.

A query holds unless its first value is false, 0 or NULL, or there is no row. A command holds if \
it ends with exit code 0. It finds the path of the copy in PITR_COPY and the name of the source in \
PITR_SOURCE.

Examples:
  pitr --repo /srv/backup verify
  pitr --repo /srv/backup verify --deep --json
  pitr --repo s3://bucket/backup verify --sample     a part of each object, in a short time
  pitr --repo /srv/backup verify --level restore --sandbox /srv/spare
  pitr --repo /srv/backup verify --level functional --sql 'SELECT count(*) > 0 FROM orders'
  pitr --repo /srv/backup verify --level functional --command './smoke-test $PITR_COPY'
  pitr --repo /srv/backup verify --level restore --rto 15m     ends with 6 if it takes longer
  pitr --repo /srv/backup verify --level live --source shop --rate 50MiB
  pitr --repo /srv/backup verify --every 1h --budget 20m --on-finding 'mail -s pitr ops < /dev/null'")]
pub(crate) struct Verify {
    /// What to check [default: checksum,metadata]
    #[arg(long = "level", value_name = "LEVEL", value_enum, value_delimiter = ',')]
    levels: Vec<Level>,
    /// Also decode and check every chunk, batch and record
    #[arg(long)]
    deep: bool,
    /// Read only this many frames of each object, of about 1 MiB and chosen at random; 1 if N is
    /// left out
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", conflicts_with = "deep")]
    sample: Option<NonZeroU32>,
    /// The state to rehearse; as in `pitr restore`
    #[arg(long, value_name = "TARGET", value_parser = Target::parse_local, default_value = "latest")]
    pub(crate) to: Target,
    /// Query that must hold on the copy; may be repeated
    #[arg(long = "sql", value_name = "QUERY")]
    queries: Vec<String>,
    /// Shell command that must succeed on the copy; may be repeated
    #[arg(long = "command", value_name = "COMMAND")]
    commands: Vec<OsString>,
    /// Time for each query and each command
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, default_value = "60s")]
    limit: Duration,
    /// Existing folder for the copy [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    sandbox: Option<PathBuf>,
    /// Refuse a copy that is larger, such as 10GB or 10GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    sandbox_max: Option<u64>,
    /// How long a restore may take, such as 15m. `pitr info` shows it beside the estimate. A slower
    /// rehearsal ends with 6
    #[arg(long, value_name = "DURATION", value_parser = parse_rto)]
    pub(crate) rto: Option<Rto>,
    /// Also write a report for auditors, one page that refers to nothing outside itself; must not
    /// exist
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Verify in rounds, this often, until SIGINT or SIGTERM: in each round the objects are
    /// checked, and some snapshots are rehearsed. Everything is noted in the repository
    #[arg(long, value_name = "DURATION", value_parser = parse_interval,
        conflicts_with_all = ["levels", "deep", "sample", "to", "report"])]
    pub(crate) every: Option<Duration>,
    /// With --every: which snapshots are rehearsed first
    #[arg(long, value_enum, default_value = "oldest", requires = "every")]
    strategy: Strategy,
    /// With --every: number of snapshots that are rehearsed in a round
    #[arg(long, value_name = "N", default_value = "5", requires = "every")]
    at_most: u16,
    /// With --every: begin no other rehearsal after this time in a round. With the level live:
    /// time of the comparison [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    budget: Option<Duration>,
    /// Read at most this many bytes a second, such as 50MiB; 0 is no limit. With --every from the
    /// repository [default: 0]. With the level live from the database [default: 16MiB]: a database
    /// that is too large for --rate and --budget is compared in parts that are chosen at random
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) rate: Option<u64>,
    /// With the level live: the database [default: the place that the repository knows]
    #[arg(long, value_name = "PATH")]
    pub(crate) database: Option<PathBuf>,
    /// With the level live: compare at most this percentage of the database, chosen at random
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    share: Option<u8>,
    /// With the level live: folder of the database's local log, if it is not the usual one
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// With --every: end after this number of rounds
    #[arg(long, value_name = "N", requires = "every")]
    pub(crate) rounds: Option<u64>,
    /// With --every: shell command that is run if a round finds something, or a restore takes
    /// longer than --rto; it has the findings in PITR_FINDINGS, one a line
    #[arg(long, value_name = "COMMAND", requires = "every")]
    pub(crate) on_finding: Option<OsString>,
    /// With --every: URL that the findings are posted to, as JSON, if a round finds something or a
    /// restore takes longer than --rto. PITR_WEBHOOK in the environment names it unseen by others
    #[cfg(feature = "webhook")]
    #[arg(long, value_name = "URL", requires = "every")]
    pub(crate) webhook: Option<String>,
    /// With --every: after each round, write score, coverage, findings and times of rehearsals to
    /// this file, in the text format of Prometheus. A file that is not such a file is not replaced
    #[arg(long, value_name = "FILE", requires = "every")]
    pub(crate) metrics: Option<PathBuf>,
    /// Number of threads of a restore [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// The order in which snapshots are rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// Those that were never verified, then those whose verification is the longest ago
    Oldest,
    /// Any
    Random,
    /// Full snapshots before others
    Full,
    /// The newest, in every round
    Newest,
}

impl From<Strategy> for pitr::verify::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Oldest => pitr::verify::Strategy::OldestVerified,
            Strategy::Random => pitr::verify::Strategy::Random,
            Strategy::Full => pitr::verify::Strategy::FullFirst,
            Strategy::Newest => pitr::verify::Strategy::Newest,
        }
    }
}

/// The parts of a verification.
pub(crate) struct Parts {
    pub(crate) objects: Option<Options>,
    pub(crate) rehearsal: Option<RehearsalRequest>,
    pub(crate) live: Option<LiveOptions>,
}

impl Verify {
    /// What is to be done.
    ///
    /// # Errors
    /// A usage error if an option is given without the level that it belongs to.
    pub(crate) fn parts(&self) -> Result<Parts, CliError> {
        let has = |level| self.levels.contains(&level);
        let usual = self.levels.is_empty();
        let (checksum, metadata) = (usual || has(Level::Checksum), usual || has(Level::Metadata));
        if !checksum && (self.deep || self.sample.is_some()) {
            let what = "--deep and --sample belong to the level checksum";
            return Err(CliError::usage(what).next("give --level checksum,metadata"));
        }
        let depth = match (checksum, self.deep, self.sample) {
            (true, true, _) => Depth::Decoded,
            (true, false, Some(frames)) => Depth::Sample(frames),
            (true, false, None) => Depth::Whole,
            (false, ..) => Depth::Footers,
        };
        let objects = (checksum || metadata).then_some(Options { depth, metadata });
        let rehearsal = self.rehearsal(has(Level::Restore), has(Level::Functional))?;
        Ok(Parts { objects, rehearsal, live: self.live(has(Level::Live))? })
    }

    fn live(&self, is_wanted: bool) -> Result<Option<LiveOptions>, CliError> {
        if !is_wanted {
            let own = [(self.database.is_some(), "--database"), (self.share.is_some(), "--share")];
            return match own.into_iter().find(|(given, _)| *given) {
                None => Ok(None),
                Some((_, option)) => {
                    let what = format!("{option} belongs to the level live");
                    Err(CliError::usage(what).next("give --level live"))
                }
            };
        }
        Ok(Some(LiveOptions {
            share: self.share.map_or(1.0, |percent| f64::from(percent) / 100.0),
            budget: self.budget.or(LiveOptions::default().budget),
            rate: self.rate.map_or(LiveOptions::default().rate, NonZeroU64::new),
            state: self.state.clone(),
            by: this_machine(),
        }))
    }

    fn rehearsal(&self, restore: bool, functional: bool) -> Result<Option<RehearsalRequest>, CliError> {
        let own = !self.queries.is_empty() || !self.commands.is_empty();
        match (own, functional) {
            (true, false) => {
                let what = "--sql and --command belong to the level functional";
                return Err(CliError::usage(what).next("give --level functional"));
            }
            (false, true) => {
                let what = "the level functional needs checks of your own";
                return Err(CliError::usage(what).next("give --sql or --command"));
            }
            _ => {}
        }
        if !restore && !functional {
            let target = (self.to != Target::Latest).then_some("--to");
            let others = [
                (self.sandbox.is_some(), "--sandbox"),
                (self.sandbox_max.is_some(), "--sandbox-max"),
                (self.rto.is_some(), "--rto"),
            ];
            let given = others.into_iter().find(|(given, _)| *given).map(|(_, option)| option).or(target);
            return match given {
                None => Ok(None),
                Some(option) => {
                    let what = format!("{option} belongs to the levels restore and functional");
                    Err(CliError::usage(what).next("give --level restore"))
                }
            };
        }
        Ok(Some(self.request()))
    }

    /// Refuses options that belong to rounds or to the level live.
    ///
    /// # Errors
    /// A usage error.
    pub(crate) fn check_budget(&self) -> Result<(), CliError> {
        let is_used = self.every.is_some() || self.levels.contains(&Level::Live);
        let given = [(self.budget.is_some(), "--budget"), (self.rate.is_some(), "--rate")];
        match given.into_iter().find(|(given, _)| *given && !is_used) {
            None => Ok(()),
            Some((_, option)) => {
                let what = format!("{option} belongs to --every and to the level live");
                Err(CliError::usage(what).next("give --every or --level live"))
            }
        }
    }

    /// The rounds of a continuous validation.
    pub(crate) fn validation(&self) -> ValidationOptions {
        ValidationOptions {
            strategy: self.strategy.into(),
            at_most: self.at_most.into(),
            budget: self.budget,
            ..ValidationOptions::new(self.request())
        }
    }

    fn request(&self) -> RehearsalRequest {
        let folder = self.sandbox.clone().unwrap_or_else(std::env::temp_dir);
        let options = RehearsalOptions {
            max_bytes: self.sandbox_max,
            limit: self.limit,
            workers: self.workers.and_then(|n| NonZeroUsize::new(n.into())),
            ..RehearsalOptions::within(folder)
        };
        RehearsalRequest {
            queries: self.queries.clone(),
            commands: self.commands.clone(),
            rto: self.rto,
            by: this_machine(),
            ..RehearsalRequest::new(options)
        }
    }
}
