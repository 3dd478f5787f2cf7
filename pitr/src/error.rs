//! Errors of the facade, by the crate that they come from.

use std::path::PathBuf;

use pitr_archive::PointName;
use pitr_format::{Lsn, SourceName};
use pitr_snapshot::BoxError;
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
    /// Retention.
    #[error(transparent)]
    Prune(#[from] pitr_prune::Error),
    /// An engine. [`downcast_ref`](pitr_engine::Error::downcast_ref) gives its own error.
    #[error(transparent)]
    Engine(#[from] pitr_engine::Error),
    /// The log of an attached engine.
    #[error(transparent)]
    Wal(#[from] pitr_wal::Error),
    /// The source of a snapshot.
    #[error("the source of a snapshot failed: {0}")]
    Source(#[source] BoxError),
    /// The positions that the source of a snapshot states contradict each other.
    #[error(
        "the source of a snapshot states redo_from {redo_from} and consistent_at {consistent_at}, and its log is durable up to {durable}; they must ascend"
    )]
    Positions {
        /// Replay would begin here.
        redo_from: Lsn,
        /// Last commit in the blocks.
        consistent_at: Lsn,
        /// Durable end of the log.
        durable: Lsn,
    },
    /// A snapshot was not published, because the log up to its consistent point is not archived.
    #[error("a snapshot was not published: it needs the log up to {consistent_at}, and the archive ends at {}", archived.unwrap_or(Lsn::ORIGIN))]
    NotArchived {
        /// Last commit in the snapshot.
        consistent_at: Lsn,
        /// End of the archive.
        archived: Option<Lsn>,
    },
    /// A commit is durable in the local log, and was not archived in the time that its caller
    /// waits. It is archived later, when the repository answers.
    #[error(
        "the commit at LSN {lsn} is durable in the log, but was not archived within {seconds} s: {}",
        why.as_deref().unwrap_or("the repository has not answered")
    )]
    ArchivePatience {
        /// The commit.
        lsn: Lsn,
        /// End of the archive.
        archived: Option<Lsn>,
        /// The time that the caller waited, seconds.
        seconds: f64,
        /// The failure of the last shipment, if there was one.
        why: Option<String>,
    },
    /// The source has snapshots of another engine.
    #[error("source {source_name} has snapshots of the engine {engine}; archive this log under another name")]
    OtherEngine {
        /// The source.
        source_name: SourceName,
        /// The engine of its newest snapshot.
        engine: String,
    },
    /// A live source can't be read.
    #[error("{}: the live source can't be read: {source}", path.display())]
    Live {
        /// The source.
        path: PathBuf,
        /// The engine's error.
        source: BoxError,
    },
    /// A live source can't be compared, because its log has logical records: only its engine knows
    /// what they write.
    #[error("{}: can't be compared: its log has records that only its engine can apply", path.display())]
    NotComparable {
        /// The source.
        path: PathBuf,
    },
    /// No thread could be started.
    #[error("a thread cannot be started: {0}")]
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
    /// The source has no recovery point of this name.
    #[error("source {source_name} has no point {name}{}", crate::near::listed(near))]
    UnknownPoint {
        /// The source.
        source_name: SourceName,
        /// The requested name.
        name: PointName,
        /// The most similar names of the source's points, the nearest first.
        near: Vec<String>,
    },
    /// A source name can't be derived from this path.
    #[error("no source name can be derived from {path}")]
    Unnamed {
        /// The path.
        path: PathBuf,
    },
}
