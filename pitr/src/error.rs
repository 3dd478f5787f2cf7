//! Errors of the facade, by the crate that they come from.

use std::path::PathBuf;

use thiserror::Error;

/// Result of the facade.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the facade.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid setting.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// The repository.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] pitr_archive::Error),
    /// The chunks of snapshots.
    #[error(transparent)]
    Chunks(#[from] pitr_dedup::Error),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] pitr_snapshot::Error),
    /// A restore.
    #[error(transparent)]
    Recovery(#[from] pitr_recovery::Error),
    /// A verification.
    #[error(transparent)]
    Verify(#[from] pitr_verify::Error),
    /// The engine for folders.
    #[error(transparent)]
    Directory(#[from] pitr_directory::Error),
    /// Retention.
    #[error(transparent)]
    Prune(#[from] pitr_prune::Error),
    /// The SQLite engine.
    #[error(transparent)]
    Sqlite(#[from] pitr_sqlite::Error),
    /// An engine that this crate does not know, or a capability that an engine lacks.
    #[error(transparent)]
    Engine(pitr_engine::Error),
    /// No thread could be started.
    #[error("the thread of a watch cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The repository has no source yet.
    #[error("repository {repository} has no source yet")]
    NoSource {
        /// The repository.
        repository: String,
    },
    /// The repository has several sources and none was named.
    #[error("repository {repository} has several sources ({names}), and none was named")]
    WhichSource {
        /// The repository.
        repository: String,
        /// Names of the repository's sources.
        names: String,
    },
    /// The repository has no source of this name.
    #[error("repository {repository} has no source {name:?}; its sources are {names}")]
    UnknownSource {
        /// The repository.
        repository: String,
        /// The requested name.
        name: String,
        /// Names of the repository's sources.
        names: String,
    },
    /// A source name can't be derived from this path.
    #[error("no source name can be derived from {path}")]
    Unnamed {
        /// The path.
        path: PathBuf,
    },
}

/// Errors of the engines that come with pitr keep their types.
impl From<pitr_engine::Error> for Error {
    fn from(error: pitr_engine::Error) -> Self {
        let pitr_engine::Error::Engine(inner) = error else { return Error::Engine(error) };
        let inner = match inner.downcast::<pitr_sqlite::Error>() {
            Ok(error) => return Error::Sqlite(*error),
            Err(other) => other,
        };
        match inner.downcast::<pitr_directory::Error>() {
            Ok(error) => Error::Directory(*error),
            Err(other) => Error::Engine(pitr_engine::Error::Engine(other)),
        }
    }
}
