//! What can go wrong with engines.

use crate::explain::Explain;
use pitr_snapshot::BoxError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an engine may be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Captures the commits of a live source.
    Capture,
    /// Takes snapshots of a source without a log.
    TakeSnapshot,
    /// Restores files of its sources.
    Restore,
    /// Answers queries on a restored copy.
    Queries,
    /// Reads live sources as of one commit.
    Live,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::Capture => "capture commits",
            Capability::TakeSnapshot => "take snapshots without a log",
            Capability::Restore => "restore files",
            Capability::Queries => "answer queries",
            Capability::Live => "read live sources as of one commit",
        })
    }
}

/// Why an engine could not do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine lacks a capability.
    #[error("the engine {engine} cannot {capability}")]
    Lacks {
        /// Name of the engine.
        engine: &'static str,
        /// The capability.
        capability: Capability,
    },
    /// A snapshot of an engine that is not registered.
    #[error("a snapshot is of the engine {name:?}, which this program does not have; it has {known}")]
    UnknownEngine {
        /// The snapshot's engine.
        name: String,
        /// The registered engines.
        known: String,
    },
    /// A path that no registered engine detects, and there is no default engine.
    #[error("no engine detects {} as one of its sources; this program has the engines: {known}", path.display())]
    NotDetected {
        /// The path.
        path: PathBuf,
        /// The registered engines.
        known: String,
    },
    /// The engine of a source is not known from a snapshot, and there is no default engine.
    #[error(
        "the source has no snapshot that names its engine, and no engine is the default; this program has the engines: {known}"
    )]
    NoDefault {
        /// The registered engines.
        known: String,
    },
    /// An engine of this name is registered already.
    #[error("an engine of the name {name} is registered already")]
    RegisteredTwice {
        /// The name.
        name: &'static str,
    },
    /// Another process captures the source.
    #[error("{source}")]
    Watched {
        /// The engine's error.
        source: BoxError,
    },
    /// Another process uses the source and does not answer requests.
    #[error("{}: another pitr process uses this database and answers no requests: {source}", state.display())]
    NoAnswer {
        /// The source's folder.
        state: PathBuf,
        /// Why the request failed.
        source: io::Error,
    },
    /// The process that watches the source has not archived every commit in time.
    #[error(
        "{}: the running watcher has not archived every commit within {} s; it is behind the application",
        state.display(), waited.as_secs()
    )]
    Behind {
        /// The source's folder.
        state: PathBuf,
        /// How long its answer was waited for.
        waited: Duration,
    },
    /// The process that watches the source could not carry out the request.
    #[error("the running watcher: {answer}")]
    Refused {
        /// The answer of that process.
        answer: String,
    },
    /// The engine's own error.
    #[error("{0}")]
    Engine(Box<dyn Explain>),
}

impl Error {
    /// An engine's own error.
    pub fn engine(error: impl Explain) -> Error {
        Error::Engine(Box::new(error))
    }

    /// The engine's own error, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match self {
            Error::Engine(error) => (error.as_ref() as &(dyn std::error::Error + 'static)).downcast_ref(),
            _ => None,
        }
    }
}
