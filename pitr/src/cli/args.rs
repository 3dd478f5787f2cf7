//! The command line: what may be written, and what each part means.
//!
//! Options that every command understands stand before or after it. A command or an option is here when it works.

use super::credentials;
use super::exit::CliError;
use super::output::Output;
use super::progress::Progress;
use super::target::{Target, parse_duration};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand};
use pitr::codec::{Codec, KeyWrap};
use pitr::format::{SourceName, SourceNameError};
use pitr::objects::{Location, LocationError};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Point-in-time recovery for a live SQLite database: every committed transaction can be brought back.
#[derive(Debug, Parser)]
#[command(name = "pitr", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pitr demo                                          the whole story on a throw-away database
  pitr --repo /srv/backup init                       make a repository
  pitr --repo /srv/backup watch /srv/shop/shop.db    archive every commit, until Ctrl-C";

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the repository is: a directory, or a file:// URL
    #[arg(long, env = "PITR_REPO", value_name = "URL", global = true, value_parser = repository_parser())]
    pub(crate) repo: Option<PathBuf>,
    /// Name of the source within the repository; restore, log and info take several [default: the only one there, or the file's name]
    #[arg(long = "source", value_name = "NAME", global = true, value_parser = parse_source)]
    pub(crate) sources: Vec<String>,
    /// Opens an encrypted repository: a file whose first line is the passphrase; PITR_PASSPHRASE holds one as well
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "key_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Opens an encrypted repository: a file of 32 bytes, or of 64 hexadecimal digits
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No progress and no remarks on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Global {
    /// Where the repository is, or a usage error that says how to name it.
    pub(crate) fn repository(&self) -> Result<&Path, CliError> {
        self.repo.as_deref().ok_or_else(|| {
            CliError::usage("no repository given")
                .next("name one with --repo DIR or in the environment as PITR_REPO")
        })
    }

    /// The source that was named, if one was, for a command that works on one.
    pub(crate) fn source(&self) -> Result<Option<&str>, CliError> {
        match self.sources.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(CliError::usage("this command works on one source, and several are named")
                .next("give --source once; restore, log and info take several")),
        }
    }

    /// What opens the repository, if something was given: a file before the environment.
    pub(crate) fn credential(&self) -> Result<Option<Box<dyn KeyWrap>>, CliError> {
        match credentials::from_files(self.passphrase_file.as_deref(), self.key_file.as_deref())? {
            Some(given) => Ok(Some(given)),
            None => credentials::from_environment(),
        }
    }

    /// How this run answers.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json, self.quiet)
    }

    /// Where this run shows how far it has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.json, self.quiet)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the whole story on a throw-away database: write, snapshot, damage, find, restore, compare
    #[command(after_help = "\
Examples:
  pitr demo           needs no repository, no network and no database
  pitr demo --json    the same, for a script")]
    Demo,
    /// Makes a repository
    Init(Init),
    /// Takes a snapshot of a SQLite database or a folder; incremental when it can be
    Backup(Backup),
    /// Archives every commit of a live SQLite database until SIGINT or SIGTERM, then drains
    Watch(Watch),
    /// Builds a file or folder as the source was at a target; never touches the live one
    Restore(Restore),
    /// Lists the transactions: number, LSN, time, blocks and bytes
    Log(Log),
    /// Tells what the repository holds: sources, snapshots, restorable intervals, gaps, sizes
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup info
  pitr --repo /srv/backup info --json")]
    Info,
    /// Proves that the repository holds what it should; ends with 4 and a line for each fault
    Verify(Verify),
    /// Removes what retention does not keep; only tells what it would do, unless told to
    Prune(Prune),
    /// Keeps the passphrases and keys that open an encrypted repository
    #[command(subcommand)]
    Key(Key),
    /// Looks at the folder of a log, also while it is written to; changes nothing
    #[command(subcommand)]
    Wal(Wal),
    /// The demo's application: a shop that knows nothing of pitr
    #[command(hide = true)]
    DemoWriter(DemoWriter),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup init
  PITR_REPO=file:///srv/backup pitr init
  pitr --repo /srv/backup init --encrypt --passphrase-file ~/.pitr-passphrase
  pitr --repo /srv/backup init --mode 0640")]
pub(crate) struct Init {
    /// Encrypt everything that is stored; nobody can read it without the passphrase or key given here
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// Permissions of the repository's files, as 0640 for a group that may read it. They become those of its folder, which later
    /// files follow; chmod of the folder changes them [default: 0600, for its owner alone]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub(crate) mode: Option<u32>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Lists the key slots
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key list")]
    List,
    /// Lets another passphrase or key open the repository
    Add(NewKey),
    /// Takes a slot away: its passphrase or key opens the repository no more
    #[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file p key remove 1f00c2d3a4b59687")]
    Remove {
        /// The slot, as `pitr key list` shows it
        slot: String,
    },
    /// Makes a new data key: whatever is written from now on is encrypted with it
    #[command(after_help = "\
A watcher that runs already goes on with the key that it has until it is started again. What was written before
stays as it is and readable.

Examples:
  pitr --repo /srv/backup --passphrase-file p key rotate")]
    Rotate,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitr --repo /srv/backup --passphrase-file old key add --new-passphrase-file new
  pitr --repo /srv/backup --passphrase-file p key add --new-key-file /run/secrets/pitr")]
#[group(required = true, multiple = false)]
pub(crate) struct NewKey {
    /// A file whose first line is the new passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// A file of 32 bytes, or of 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}

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

#[derive(Debug, clap::Args)]
#[command(after_help = "\
T is written as restore's TARGET: a time, 13 minutes ago, lsn:N, tx:N, snapshot:ID or latest. The transactions of several sources are
merged by time.

Examples:
  pitr --repo /srv/backup log
  pitr --repo /srv/backup log --from '20 minutes ago' --to '10 minutes ago'
  pitr --repo /srv/backup log --from tx:1400 --json
  pitr --repo /srv/backup log --source shop --source users")]
pub(crate) struct Log {
    /// Show the transactions of all sources of the repository
    #[arg(long)]
    pub(crate) all: bool,
    /// Leave out what was committed before
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) from: Option<Target>,
    /// Leave out what was committed after
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) to: Option<Target>,
    /// Show this timeline instead of the newest one's history
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every object is read and compared with the SHA-256 that it states, every snapshot's tree is walked, every range of the log
is looked for. A fault names the snapshots that it spoils; the others can be restored.

Examples:
  pitr --repo /srv/backup verify
  pitr --repo /srv/backup verify --deep --json")]
pub(crate) struct Verify {
    /// Decode every chunk, batch and record too, not only the bytes that hold them
    #[arg(long)]
    pub(crate) deep: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What one of the rules keeps stays; of every source the newest state stays whatever the rules say. A window ends at the newest
moment that the repository knows of a source. Days, weeks and months are those of UTC.

Packs are deleted when what ran before has ended: a run that finds a backup or a restore at work leaves them to the next one.

Examples:
  pitr --repo /srv/backup prune --keep-within 7d
  pitr --repo /srv/backup prune --keep-within 7d --keep-daily 30 --keep-monthly 12 --execute
  pitr --repo /srv/backup prune --keep-snapshots 3 --must-remain-restorable-since '30 days ago' --execute")]
pub(crate) struct Prune {
    /// Keep every commit of the last so long
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) keep_within: Option<Duration>,
    /// Keep the newest N snapshots of each source, and every commit since the oldest of them
    #[arg(long, value_name = "N")]
    pub(crate) keep_snapshots: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N days that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N weeks that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<NonZeroU32>,
    /// Keep the last snapshot of each of the newest N months that have one
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<NonZeroU32>,
    /// Keep every commit since then, and prune nothing if one of them is lost already
    #[arg(long, value_name = "T", value_parser = Target::parse_local)]
    pub(crate) must_remain_restorable_since: Option<Target>,
    /// How many percent of what packs hold may be needed by nobody before some are stored anew
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) max_waste: u8,
    /// Do it
    #[arg(long)]
    pub(crate) execute: bool,
}

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

#[derive(Debug, clap::Args)]
pub(crate) struct DemoWriter {
    /// Where the shop's database is made
    pub(crate) dir: PathBuf,
    /// Decides what is sold
    pub(crate) seed: u64,
}

/// A value that an option does not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum ValueError {
    #[error(
        "RPO 0 is not possible for SQLite: a commit is seen only after it returned to the application; give what may be lost, as 100ms"
    )]
    RpoZero,
    #[error("must be longer than nothing")]
    Zero,
    #[error("give a number with a unit, as 500ms, 1s, 5m, 1h or 7d")]
    Duration,
    #[error(transparent)]
    Repository(#[from] LocationError),
    #[error("give the permissions of files, as 0600, 0640, 0660 or 0644; their owner reads and writes them")]
    Mode,
}

fn parse_interval(text: &str) -> Result<Duration, ValueError> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(ValueError::Zero),
        Ok(length) => Ok(length),
        Err(_) => Err(ValueError::Duration),
    }
}

fn parse_rpo(text: &str) -> Result<Duration, ValueError> {
    parse_interval(text).map_err(|error| if error == ValueError::Zero { ValueError::RpoZero } else { error })
}

/// Permissions of files, octal: the owner's are given.
fn parse_mode(text: &str) -> Result<u32, ValueError> {
    let octal = text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && mode & !0o066 == 0o600);
    mode.ok_or(ValueError::Mode)
}

/// Source names are one segment of an object's path, on every kind of store.
fn parse_source(text: &str) -> Result<String, SourceNameError> {
    SourceName::new(text).map(|name| name.to_string())
}

fn repository_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse_repository)
}

/// A path stays as it is, also when it is not UTF-8; a URL must be of a store that this build includes.
fn parse_repository(given: OsString) -> Result<PathBuf, ValueError> {
    match Location::parse(&given)? {
        Location::Folder(folder) => Ok(folder),
        _ => Ok(given.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::super::target::Moment;
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(std::iter::once("pitr").chain(line.split(' '))).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["--repo /r --json --source shop -v info", "info --repo /r --json --source shop -v"] {
            let global = parse(line).unwrap().global;
            assert_eq!(global.repo, Some(PathBuf::from("/r")), "{line}");
            assert!(global.json && !global.quiet, "{line}");
            assert_eq!((global.source().unwrap(), global.verbose), (Some("shop"), 1), "{line}");
        }
    }

    #[test]
    fn several_sources_are_for_commands_that_take_them() {
        let global = parse("info --source a --source b").unwrap().global;
        assert_eq!(global.sources, ["a", "b"]);
        assert_eq!(global.source().unwrap_err().code, Exit::Usage);
        assert_eq!(parse("info").unwrap().global.source(), Ok(None));
    }

    #[test]
    fn a_mode_is_that_of_files_of_an_owner() {
        assert_eq!(parse_mode("0640"), Ok(0o640));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "640x", "0750", "0440", "+600", "7777", "0o600", "rw-r-----"] {
            assert_eq!(parse_mode(text), Err(ValueError::Mode), "{text}");
        }
    }

    #[test]
    fn what_stands_behind_the_command_counts() {
        let repo = parse("--repo /before info --repo /behind").unwrap().global.repo;
        assert_eq!(repo, Some(PathBuf::from("/behind")));
    }

    #[test]
    fn a_missing_repository_is_a_usage_error() {
        assert_eq!(parse("info --repo /r").unwrap().global.repository(), Ok(Path::new("/r")));
        let mut global = parse("info").unwrap().global;
        global.repo = None;
        assert_eq!(global.repository().unwrap_err().code, Exit::Usage);
    }

    #[test]
    fn restore_takes_its_options() {
        let line = "restore --to tx:7 --output o.db --exclusive --or-before --timeline 2 --force --dry-run --workers 3 --rto 5m";
        let Command::Restore(restore) = parse(line).unwrap().command else { panic!("not restore") };
        assert_eq!((restore.to, restore.timeline, restore.workers), (Target::Tx(7), Some(2), Some(3)));
        assert_eq!(restore.rto, Some(Duration::from_secs(300)));
        assert!(restore.exclusive && restore.or_before && restore.force && restore.dry_run);
        assert!(parse("restore --to latest --output o --if-absent --force").is_err());
        assert!(parse("restore --to latest --output o --if-absent --delta").is_err());
    }

    #[test]
    fn targets_with_blanks_are_one_argument() {
        let args =
            Args::try_parse_from(["pitr", "restore", "--to", "13 minutes ago", "--output", "o"]).unwrap();
        let Command::Restore(restore) = args.command else { panic!("not restore") };
        assert_eq!(restore.to, Target::Time(Moment::Ago(Duration::from_secs(780))));
    }

    #[test]
    fn rpo_zero_says_why_it_is_refused() {
        for zero in ["0", "0s", "0ms"] {
            let error = parse(&format!("watch a.db --rpo {zero}")).unwrap_err();
            assert!(error.contains("RPO 0 is not possible for SQLite"), "{error}");
        }
        assert!(parse("watch a.db --snapshot-every 0s").is_err());
        assert!(parse("watch").is_err());
    }

    #[test]
    fn repositories_are_directories_or_file_urls() {
        let repo = |given: &str| parse_repository(given.into());
        assert_eq!(repo("backup").unwrap(), PathBuf::from("backup"));
        assert_eq!(repo("file:///srv/backup").unwrap(), PathBuf::from("/srv/backup"));
        assert_eq!(repo("memory://").unwrap(), PathBuf::from("memory://"));
        for store in ["s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix"] {
            let refused = repo(store).unwrap_err().to_string();
            assert!(refused.contains("this build does not include"), "{refused}");
        }
        assert!(matches!(repo("file://host/share"), Err(ValueError::Repository(LocationError::File(_)))));
        assert_eq!(repo(""), Err(ValueError::Repository(LocationError::Empty)));
    }

    #[test]
    fn source_names_are_one_path_segment() {
        for name in ["shop-1.main", "läden", "日本"] {
            assert_eq!(parse_source(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "a/b", "a b", &"x".repeat(65)] {
            assert_eq!(parse_source(name), Err(SourceNameError(name.to_owned())), "{name}");
        }
    }

    #[test]
    fn every_command_shows_examples_and_the_writer_is_hidden() {
        let mut command = Args::command();
        let help = command.render_help().to_string();
        assert!(help.contains("Examples:") && !help.contains("demo-writer"), "{help}");
        for name in ["demo", "init", "backup", "watch", "restore", "log", "info", "verify", "prune"] {
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Examples:\n  "), "{name}");
        }
    }
}
