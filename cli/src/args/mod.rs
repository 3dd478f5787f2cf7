//! The command line: what may be written, and what each part means.
//!
//! Options that every command understands stand before or after it. A command or an option is here when it works.

pub(crate) mod credentials;
pub(crate) mod target;
pub(crate) mod values;

use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser, Subcommand};
use pitr::codec::KeyWrap;

use self::values::{parse_source, repository_parser};
use crate::commands::backup::args::Backup;
use crate::commands::demo::args::{Demo, DemoWriter};
use crate::commands::info::args::Info;
use crate::commands::init::args::Init;
use crate::commands::key::args::Key;
use crate::commands::log::args::Log;
use crate::commands::prune::args::Prune;
use crate::commands::restore::args::Restore;
use crate::commands::verify::args::Verify;
use crate::commands::wal::args::Wal;
use crate::commands::watch::args::Watch;
use crate::failure::CliError;
use crate::output::Output;
use crate::output::progress::Progress;

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
    Demo(Demo),
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
    Info(Info),
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

#[cfg(test)]
mod tests {
    use super::target::{Moment, Target};
    use super::*;
    use crate::failure::Exit;
    use clap::CommandFactory;
    use std::time::Duration;

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
