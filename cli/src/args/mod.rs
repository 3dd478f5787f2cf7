//! The command line: the options of every command, and the list of commands.
//!
//! Global options stand before or after the command. A command appears here when it works.

pub(crate) mod credentials;
pub(crate) mod target;
pub(crate) mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser, Subcommand};
use pitr::codec::KeyWrap;
use pitr::objects::Location;

use self::credentials::Given;
use self::values::{parse_source, repository_parser};
use crate::commands::backup::args::Backup;
use crate::commands::demo::args::{Demo, DemoWriter};
use crate::commands::info::args::Info;
use crate::commands::init::args::Init;
use crate::commands::key::args::Key;
use crate::commands::log::args::Log;
use crate::commands::point::args::Point;
use crate::commands::prune::args::Prune;
use crate::commands::repair::args::Repair;
use crate::commands::restore::args::Restore;
use crate::commands::verify::args::Verify;
use crate::commands::wal::args::Wal;
use crate::commands::watch::args::Watch;
use crate::failure::CliError;
use crate::output::Output;
use crate::output::progress::Progress;

/// Point-in-time recovery for a live SQLite database: restores any committed transaction
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
  pitr demo                                          recover a damaged throw-away database
  pitr --repo /srv/backup init                       create a repository
  pitr --repo /srv/backup watch /srv/shop/shop.db    archive every commit, until Ctrl-C";

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The repository: a directory, or s3://bucket/prefix, gs://bucket/prefix,
    /// az://container/prefix with settings and credentials from the environment
    #[arg(
        long,
        env = "PITR_REPO",
        hide_env_values = true,
        value_name = "URL",
        global = true,
        value_parser = repository_parser()
    )]
    pub(crate) repo: Option<PathBuf>,
    /// Name of the source in the repository; restore, log and info take several [default: the only
    /// source, or the file's name]
    #[arg(long = "source", value_name = "NAME", global = true, value_parser = parse_source)]
    pub(crate) sources: Vec<String>,
    /// Passphrase of an encrypted repository: the first line of this file [default:
    /// PITR_PASSPHRASE]
    #[arg(long, value_name = "FILE", global = true, conflicts_with_all = ["key_file", "key_command"])]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Key of an encrypted repository: a file of 32 bytes or 64 hexadecimal digits
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// Key of an encrypted repository: a shell command that prints it, such as one that asks a
    /// key management service
    #[arg(long, value_name = "COMMAND", global = true, conflicts_with = "key_file")]
    pub(crate) key_command: Option<OsString>,
    /// Print one JSON document on standard output, and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more on standard error; if given twice, every request to the repository
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No progress, messages or warnings on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Global {
    /// The repository's path.
    ///
    /// # Errors
    /// A usage error if none is given, or if it is the URL of no store.
    pub(crate) fn repository(&self) -> Result<&Path, CliError> {
        let repo = self.repo.as_deref().ok_or_else(|| {
            CliError::usage("no repository given").next("give --repo DIR, or set PITR_REPO")
        })?;
        match Location::parse(repo) {
            Ok(_) => Ok(repo),
            Err(error) => Err(CliError::usage(error)),
        }
    }

    /// The named source, for a command that works on one source.
    ///
    /// # Errors
    /// A usage error if several are named.
    pub(crate) fn source(&self) -> Result<Option<&str>, CliError> {
        match self.sources.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(CliError::usage("this command takes one source, and several are given")
                .next("give --source once; restore, log and info take several")),
        }
    }

    /// The passphrase or key, if one is given. An option takes precedence over the
    /// environment.
    pub(crate) fn credential(&self) -> Result<Option<Box<dyn KeyWrap>>, CliError> {
        let given = Given {
            passphrase_file: self.passphrase_file.as_deref(),
            key_file: self.key_file.as_deref(),
            key_command: self.key_command.as_deref(),
        };
        match given.fetch()? {
            Some(given) => Ok(Some(given)),
            None => credentials::from_environment(),
        }
    }

    /// Where this run prints its answer and messages.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json, self.quiet)
    }

    /// Where this run shows progress.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.json, self.quiet)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Demonstrates a recovery on a throw-away database: write, damage, find the transaction,
    /// restore, compare
    Demo(Demo),
    /// Creates a repository
    Init(Init),
    /// Takes a snapshot of a SQLite database or a folder, incremental where possible
    Backup(Backup),
    /// Archives every commit of live SQLite databases until SIGINT or SIGTERM, then archives the
    /// rest and ends
    Watch(Watch),
    /// Restores a past state of a source to a new file or folder; never touches the live source
    Restore(Restore),
    /// Lists transactions: number, time, LSN, blocks and bytes
    Log(Log),
    /// Shows the repository's sources, snapshots, restorable intervals, gaps and sizes
    Info(Info),
    /// Checks every object of the repository; lists the faults and ends with exit code 4 if there
    /// are any
    Verify(Box<Verify>),
    /// Replaces damaged and missing objects by those of a copy of the repository; a dry run unless
    /// --execute is given
    Repair(Repair),
    /// Deletes snapshots and log outside the retention rules; a dry run unless --execute is given
    Prune(Prune),
    /// Names restorable states, which `prune` keeps until their points are deleted
    #[command(subcommand)]
    Point(Point),
    /// Manages the passphrases and keys of an encrypted repository
    #[command(subcommand)]
    Key(Key),
    /// Inspects the folder of a local log, even while a writer uses it; changes nothing
    #[command(subcommand)]
    Wal(Wal),
    /// The demo's application: a shop on SQLite, independent of pitr
    #[command(hide = true)]
    DemoWriter(DemoWriter),
}

#[cfg(test)]
mod tests {
    use super::target::{Moment, Numbered, Target};
    use super::*;
    use crate::failure::Exit;
    use clap::CommandFactory;
    use std::time::Duration;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(std::iter::once("pitr").chain(line.split(' '))).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_are_accepted_before_and_after_the_command() {
        for line in ["--repo /r --json --source shop -v info", "info --repo /r --json --source shop -v"] {
            let global = parse(line).unwrap().global;
            assert_eq!(global.repo, Some(PathBuf::from("/r")), "{line}");
            assert!(global.json && !global.quiet, "{line}");
            assert_eq!((global.source().unwrap(), global.verbose), (Some("shop"), 1), "{line}");
        }
    }

    #[test]
    fn a_command_for_one_source_refuses_several() {
        let global = parse("info --source a --source b").unwrap().global;
        assert_eq!(global.sources, ["a", "b"]);
        assert_eq!(global.source().unwrap_err().code, Exit::Usage);
        assert_eq!(parse("info").unwrap().global.source(), Ok(None));
    }

    #[test]
    fn a_global_option_after_the_command_wins() {
        let repo = parse("--repo /before info --repo /after").unwrap().global.repo;
        assert_eq!(repo, Some(PathBuf::from("/after")));
    }

    #[test]
    fn a_missing_repository_is_a_usage_error() {
        assert_eq!(parse("info --repo /r").unwrap().global.repository(), Ok(Path::new("/r")));
        let mut global = parse("info").unwrap().global;
        global.repo = None;
        assert_eq!(global.repository().unwrap_err().code, Exit::Usage);
    }

    #[test]
    fn restore_parses_its_options() {
        let line = "restore --to tx:7 --output o.db --exclusive --or-before --timeline 2 --force --dry-run --workers 3 --rto 5m";
        let Command::Restore(restore) = parse(line).unwrap().command else { panic!("not restore") };
        let to = Target::Tx(Numbered { timeline: None, number: 7 });
        assert_eq!((restore.to, restore.timeline, restore.workers), (to, Some(2), Some(3)));
        assert_eq!(restore.rto, Some(pitr::recovery::Rto::FIVE_MINUTES));
        assert!(restore.exclusive && restore.or_before && restore.force && restore.dry_run);
        assert!(parse("restore --to latest --output o --if-absent --force").is_err());
        assert!(parse("restore --to latest --output o --if-absent --delta").is_err());
        assert!(parse("restore --to latest --output o --in-place").is_err());
    }

    #[test]
    fn a_target_with_spaces_is_one_argument() {
        let args =
            Args::try_parse_from(["pitr", "restore", "--to", "13 minutes ago", "--output", "o"]).unwrap();
        let Command::Restore(restore) = args.command else { panic!("not restore") };
        assert_eq!(restore.to, Target::Time(Moment::Ago(Duration::from_secs(780))));
    }

    #[test]
    fn rpo_zero_is_refused_with_the_reason() {
        for zero in ["0", "0s", "0ms"] {
            let error = parse(&format!("watch a.db --rpo {zero}")).unwrap_err();
            assert!(error.contains("RPO 0 is not possible for SQLite"), "{error}");
        }
        assert!(parse("watch a.db --snapshot-every 0s").is_err());
        assert!(parse("watch").is_err());
    }

    #[test]
    fn every_command_has_examples_and_the_demo_writer_is_hidden() {
        let mut command = Args::command();
        let help = command.render_help().to_string();
        assert!(help.contains("Examples:") && !help.contains("demo-writer"), "{help}");
        for name in ["demo", "init", "backup", "watch", "restore", "log", "info", "verify", "repair", "prune"]
        {
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Examples:\n  "), "{name}");
        }
        for name in ["create", "list", "delete"] {
            let point = command.find_subcommand_mut("point").unwrap();
            let help = point.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Examples:\n  "), "{name}");
        }
    }
}
