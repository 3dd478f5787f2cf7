//! What each command does: arguments in, a document or a failure out.

mod backup;
mod failure;
mod folders;
mod gaps;
mod info;
mod init;
mod key;
mod log;
mod prune;
mod restore;
mod targets;
mod verify;
mod wal;
mod watch;

use pitr::codec::Codec;
use pitr::format::SourceName;
use pitr::{Pitr, PitrConfig};

use crate::cli::args::{Args, Command, Global};
use crate::cli::exit::{CliError, Exit};
use crate::demo;

/// Runs the command of a parsed command line.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let global = &args.global;
    match args.command {
        Command::Demo => demo::run(global),
        Command::Init(init) => init::run(global, &init),
        Command::Backup(backup) => backup::run(global, &backup),
        Command::Watch(watch) => watch::run(global, watch),
        Command::Restore(restore) => restore::run(global, &restore),
        Command::Log(log) => log::run(global, &log),
        Command::Info => info::run(global),
        Command::Verify(verify) => verify::run(global, &verify),
        Command::Prune(prune) => prune::run(global, &prune),
        Command::Key(key) => key::run(global, &key),
        Command::Wal(wal) => wal::run(global, &wal),
        Command::DemoWriter(writer) => demo::writer::run(&writer.dir, writer.seed)
            .map_err(|error| CliError::new(Exit::Failed, error).at(writer.dir.display())),
    }
}

/// The sources that a command works on: those named, all of them, or the only one.
fn sources_of(pitr: &Pitr, names: &[String], all: bool) -> pitr::Result<Vec<SourceName>> {
    match names {
        [] if all => match pitr.sources()? {
            sources if sources.is_empty() => pitr.only_source().map(|only| vec![only]), // says that there is none
            sources => Ok(sources),
        },
        [] => Ok(vec![pitr.only_source()?]),
        names => names.iter().map(|name| pitr.source(Some(name))).collect(),
    }
}

fn open(global: &Global) -> Result<Pitr, CliError> {
    open_writing(global, Codec::default())
}

/// Opens the repository; what is written goes through this codec.
fn open_writing(global: &Global, codec: Codec) -> Result<Pitr, CliError> {
    let config = PitrConfig { codec, ..PitrConfig::at(global.repository()?) };
    let credential = global.credential()?;
    Pitr::open_with(&config, credential.as_deref()).map_err(failure::explain)
}
