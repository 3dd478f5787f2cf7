//! The compared programs, and their commands for each step.

use super::data::Source;
use crate::Result;
use crate::verdict;
use crate::world::{self, World};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub(super) const LEVEL: i32 = 3;

/// A participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    Pitr,
    Restic,
    Rustic,
    Borg,
    /// pgBackRest as the distribution has it, or a version with bundles and block increments.
    PgBackRest(Option<PathBuf>),
}

impl Peer {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Peer::Pitr => "pitr",
            Peer::Restic => "restic",
            Peer::Rustic => "rustic",
            Peer::Borg => "borg",
            Peer::PgBackRest(None) => "pgbackrest",
            Peer::PgBackRest(Some(_)) => "pgbackrest, blocks",
        }
    }

    fn binary(&self) -> Result<PathBuf> {
        match self {
            Peer::Pitr => world::build(),
            Peer::PgBackRest(Some(path)) => Ok(path.clone()),
            _ => Ok(PathBuf::from(self.name())),
        }
    }

    /// Version of the program, if it is installed.
    pub(super) fn version(&self) -> Option<String> {
        if *self == Peer::Pitr {
            return Some(verdict::commit());
        }
        let argument = match self {
            Peer::Restic | Peer::PgBackRest(_) => "version",
            _ => "--version",
        };
        let output = Command::new(self.binary().ok()?).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }
}

/// The steps of a comparison, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    First,
    Second,
    Restore,
    Check,
}

impl Step {
    pub(super) const ALL: [Step; 4] = [Step::First, Step::Second, Step::Restore, Step::Check];

    pub(super) fn name(self) -> &'static str {
        match self {
            Step::First => "first",
            Step::Second => "second",
            Step::Restore => "restore",
            Step::Check => "check",
        }
    }
}

/// A program with its folders.
pub(super) struct Run<'a> {
    peer: &'a Peer,
    binary: PathBuf,
    pub(super) repo: PathBuf,
    /// The data to back up: a folder, or a file alone in its folder.
    pub(super) source: &'a Source,
    output: PathBuf,
}

impl<'a> Run<'a> {
    /// Creates an empty repository.
    pub(super) fn new(peer: &'a Peer, source: &'a Source, world: &World) -> Result<Run<'a>> {
        let (repo, output) = (world.path("repo"), world.path("output"));
        fs::create_dir(&output)?;
        let run = Run { peer, binary: peer.binary()?, repo, source, output };
        let mut init = run.bare();
        match peer {
            Peer::Pitr | Peer::Restic | Peer::Rustic => init.arg("init"),
            Peer::Borg => init.args(["init", "--encryption", "none"]),
            Peer::PgBackRest(_) => init.arg("stanza-create"),
        };
        crate::usage::of(&mut init)?;
        Ok(run)
    }

    /// The path at which a restore puts the source.
    pub(super) fn restored(&self) -> PathBuf {
        let path = self.source.path();
        let name = path.file_name().unwrap_or(path.as_os_str());
        match self.peer {
            Peer::PgBackRest(_) => self.output.clone(),
            Peer::Pitr | Peer::Borg => self.output.join(name),
            // The programs here restore the whole path, or the given folder.
            Peer::Restic | Peer::Rustic => {
                let whole = self.output.join(path.strip_prefix("/").unwrap_or(path));
                let inner =
                    if self.source.is_folder() { self.output.clone() } else { self.output.join(name) };
                if whole.exists() { whole } else { inner }
            }
        }
    }

    fn bare(&self) -> Command {
        let mut command = Command::new(&self.binary);
        match self.peer {
            Peer::Pitr => _ = command.arg("--quiet").arg("--repo").arg(&self.repo),
            Peer::Restic => {
                command.env("RESTIC_PASSWORD", "x").env("RESTIC_REPOSITORY", &self.repo);
                command.arg("--no-cache");
            }
            Peer::Rustic => {
                command.env("RUSTIC_PASSWORD", "x").env("RUSTIC_REPOSITORY", &self.repo);
                command.args(["--no-cache", "--no-progress"]);
            }
            Peer::Borg => {
                command.env("BORG_REPO", &self.repo).env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
                command.env("BORG_BASE_DIR", self.output.with_file_name("borg"));
            }
            Peer::PgBackRest(blocks) => {
                let level = LEVEL.to_string();
                for (option, value) in [
                    ("CONFIG", "/dev/null"),
                    ("STANZA", "compare"),
                    ("ONLINE", "n"),
                    ("PROCESS_MAX", "2"),
                    ("COMPRESS_TYPE", "zst"),
                    ("COMPRESS_LEVEL", &level),
                    ("REPO1_RETENTION_FULL", "9"),
                    ("LOG_LEVEL_FILE", "off"),
                    ("LOG_LEVEL_CONSOLE", "error"),
                ] {
                    command.env(format!("PGBACKREST_{option}"), value);
                }
                if blocks.is_some() {
                    for option in ["REPO1_BUNDLE", "REPO1_BLOCK", "ALLOW_ROOT"] {
                        command.env(format!("PGBACKREST_{option}"), "y");
                    }
                }
                command.env("PGBACKREST_REPO1_PATH", &self.repo);
                command.env("PGBACKREST_PG1_PATH", self.source.path());
                command.env("PGBACKREST_LOCK_PATH", self.output.with_file_name("lock"));
            }
        }
        command
    }

    /// This program's command for the step.
    pub(super) fn command(&self, step: Step) -> Command {
        let mut command = self.bare();
        let path = self.source.path();
        let folder = self.source.folder();
        match (self.peer, step) {
            (Peer::Pitr, Step::First | Step::Second) => command.arg("backup").arg(path),
            (Peer::Pitr, Step::Restore) => {
                command.args(["restore", "--to", "latest", "--output"]).arg(self.restored())
            }
            (Peer::Pitr, Step::Check) => command.args(["verify", "--deep"]),
            (Peer::Restic | Peer::Rustic, Step::First | Step::Second) => command.arg("backup").arg(folder),
            (Peer::Restic, Step::Restore) => {
                command.args(["restore", "latest", "--target"]).arg(&self.output)
            }
            (Peer::Rustic, Step::Restore) => command.args(["restore", "latest"]).arg(&self.output),
            (Peer::Restic | Peer::Rustic, Step::Check) => command.args(["check", "--read-data"]),
            (Peer::Borg, Step::First | Step::Second) => {
                command.current_dir(path.parent().unwrap_or(path));
                command.args(["create", "--compression", &format!("zstd,{LEVEL}")]);
                command.arg(format!("::{}", step.name())).arg(path.file_name().unwrap_or(path.as_os_str()))
            }
            (Peer::Borg, Step::Restore) => command.current_dir(&self.output).args(["extract", "::second"]),
            (Peer::Borg, Step::Check) => command.args(["check", "--verify-data"]),
            (Peer::PgBackRest(_), Step::First) => command.args(["--type=full", "backup"]),
            (Peer::PgBackRest(_), Step::Second) => command.args(["--type=incr", "backup"]),
            (Peer::PgBackRest(_), Step::Restore) => {
                command.env("PGBACKREST_PG1_PATH", &self.output).arg("restore")
            }
            (Peer::PgBackRest(_), Step::Check) => command.arg("verify"),
        };
        command
    }
}
