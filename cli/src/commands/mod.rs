//! The commands. Each folder holds a command's arguments, its code and its answer.

pub(crate) mod backup;
mod bars;
pub(crate) mod demo;
mod gaps;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod point;
pub(crate) mod prune;
pub(crate) mod repair;
pub(crate) mod restore;
mod stopping;
mod targets;
pub(crate) mod verify;
pub(crate) mod wal;
pub(crate) mod watch;

use std::path::Path;
use std::time::Duration;

use pitr::codec::Codec;
use pitr::format::SourceName;
use pitr::recovery::{self, Rto};
use pitr::{Pitr, PitrConfig};

use crate::args::{Args, Command, Global};
use crate::failure::explain::explain;
use crate::failure::{CliError, Exit};

/// Runs the command of a parsed command line.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let global = &args.global;
    match args.command {
        Command::Demo(_) => demo::run(global),
        Command::Init(init) => init::run(global, &init),
        Command::Backup(backup) => backup::run(global, &backup),
        Command::Watch(watch) => watch::run(global, watch),
        Command::Restore(restore) => restore::run(global, &restore),
        Command::Log(log) => log::run(global, &log),
        Command::Info(_) => info::run(global),
        Command::Verify(verify) => verify::run(global, &verify),
        Command::Repair(repair) => repair::run(global, &repair),
        Command::Prune(prune) => prune::run(global, &prune),
        Command::Point(point) => point::run(global, &point),
        Command::Key(key) => key::run(global, &key),
        Command::Wal(wal) => wal::run(global, &wal),
        Command::DemoWriter(writer) => demo::writer::run(&writer.dir, writer.seed)
            .map_err(|error| CliError::new(Exit::Failed, error).at(writer.dir.display())),
    }
}

/// Name of this machine.
fn this_machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The sources that a command works on: the named ones, all, or the only one.
fn sources_of(pitr: &Pitr, names: &[String], all: bool) -> pitr::Result<Vec<SourceName>> {
    match names {
        [] if all => match pitr.sources()? {
            // No source: `only_source` returns the error.
            sources if sources.is_empty() => pitr.only_source().map(|only| vec![only]),
            sources => Ok(sources),
        },
        [] => Ok(vec![pitr.only_source()?]),
        names => names.iter().map(|name| pitr.source(Some(name))).collect(),
    }
}

/// The given source name, or the name of the database file.
fn source_of(global: &Global, database: &Path) -> Result<SourceName, CliError> {
    match global.source()? {
        Some(name) => SourceName::new(name).map_err(CliError::usage),
        None => Pitr::source_for(database).map_err(explain),
    }
}

/// Fails if a restore took longer than promised.
fn within_rto(rto: Option<Rto>, took: Duration) -> Result<(), CliError> {
    match rto {
        Some(expected) if took > expected.get() => {
            let error = recovery::Error::RtoExceeded { expected, actual: took, estimate: None };
            Err(explain(error.into()))
        }
        _ => Ok(()),
    }
}

fn open(global: &Global) -> Result<Pitr, CliError> {
    open_writing(global, Codec::default())
}

/// Opens the repository to read it, as it is now.
fn open_view(global: &Global) -> Result<Pitr, CliError> {
    open(global)?.view().map_err(explain)
}

/// Opens the repository. New data is compressed with `codec`.
fn open_writing(global: &Global, codec: Codec) -> Result<Pitr, CliError> {
    let config = PitrConfig { codec, ..PitrConfig::at(global.repository()?) };
    let credential = global.credential()?;
    Pitr::open_with(&config, credential.as_deref()).map_err(explain)
}
