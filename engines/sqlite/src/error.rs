//! Errors of watching and restoring a SQLite database.

use std::io;
use std::path::PathBuf;

use pitr_engine::{Explain, Explanation, Failure};
use pitr_format::Severity;
use pitr_vfs::is_denied;
use thiserror::Error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the SQLite engine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a SQLite database.
    #[error("{path}: not a SQLite database ({why}); give the path of the database file itself")]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// The database is not in WAL mode.
    #[error(
        "{path}: the database is not in WAL mode, so its commits can't be captured; run `PRAGMA journal_mode=WAL` on it once, then watch it"
    )]
    NotWalMode {
        /// The database.
        path: PathBuf,
    },
    /// Another process holds the database in exclusive locking mode.
    #[error(
        "{path}: another process holds the database in exclusive locking mode; run `PRAGMA locking_mode=NORMAL` and then one read in the application, then watch it"
    )]
    Exclusive {
        /// The database.
        path: PathBuf,
    },
    /// Concurrent writes never allowed a consistent look at the database.
    #[error("{path}: the database was busy: concurrent writes prevented a consistent read; try again")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The path can't be opened.
    #[error("{path}: {source}")]
    Open {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The watcher's folder can't be created or used.
    #[error("folder of the local log {}: {source}", path.display())]
    StateFolder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The `-wal` file can't be read.
    #[error("the database's -wal file can't be read: {0}")]
    ReadLog(#[source] io::Error),
    /// The database file can't be read.
    #[error("the database file can't be read: {0}")]
    ReadDatabase(#[source] io::Error),
    /// A published frame of the `-wal` file fails its checksum.
    #[error("frame {frame} of the database's -wal file changed during the read or is damaged")]
    FrameChanged {
        /// Number of the frame.
        frame: u32,
    },
    /// The `-wal` file restarted before everything in it was captured.
    #[error("the database's -wal file restarted before all of it was captured; commits may be missing")]
    LockLost,
    /// A file of the database was removed or replaced at its path.
    #[error("{path}: this file of the watched database was removed or replaced")]
    Replaced {
        /// The database file, its `-wal` or its `-shm` file.
        path: PathBuf,
    },
    /// A page of the database file differs from the content that its log recorded.
    #[error(
        "{path}: page {page} of the database file does not match the database's log; was another file copied over it?"
    )]
    Overwritten {
        /// The database.
        path: PathBuf,
        /// The first page that differs, counted from 1.
        page: u32,
    },
    /// A symbolic link in the path of the database now leads to another file.
    #[error("{path}: a symbolic link in the path was moved: it led to {was} and now leads to {now}")]
    LinkMoved {
        /// The path that the user gave.
        path: PathBuf,
        /// The file to which the link led before.
        was: PathBuf,
        /// The file to which the link leads now.
        now: PathBuf,
    },
    /// The database file has several names.
    #[error(
        "{path}: the file has {names} names (hard links); SQLite keeps -wal and -shm beside one of them only, so a program that opens another name bypasses pitr and damages the database; remove the other names, or pass --allow-hard-links if no program opens them"
    )]
    HardLinked {
        /// The database.
        path: PathBuf,
        /// Number of the file's names.
        names: u64,
    },
    /// The repository records another location for the source.
    #[error(
        "{path} on host {host}: the repository records the source {name} as {was} on host {was_host}; if the database was moved, pass --adopt; if it is another database, give it its own name with --source NAME"
    )]
    OtherPlace {
        /// The source.
        name: String,
        /// The given database.
        path: PathBuf,
        /// This host.
        host: String,
        /// Recorded path of the source.
        was: PathBuf,
        /// Recorded host of the source.
        was_host: String,
    },
    /// Another process watches or backs up the same database.
    #[error(
        "{dir}: another pitr process is watching or backing up this database; stop it, or wait until it ends"
    )]
    Locked {
        /// The watcher's folder.
        dir: PathBuf,
    },
    /// The watcher's folder belongs to another repository or source.
    #[error(
        "{dir}: belongs to another repository or source ({found}); give another folder with --state, or, if no pitr process uses this folder, remove it (which leaves a gap)"
    )]
    ForeignState {
        /// The watcher's folder.
        dir: PathBuf,
        /// Content of the identity file.
        found: String,
    },
    /// The watcher's folder was removed or replaced while it was in use.
    #[error("{dir}: the watcher's folder was removed or replaced; a new local log begins, after a gap")]
    StateGone {
        /// The watcher's folder.
        dir: PathBuf,
    },
    /// The repository is missing from its location.
    #[error("{place}: there is no repository here any more; is its volume mounted?")]
    RepositoryGone {
        /// Location of the repository.
        place: String,
    },
    /// The location of the repository holds another repository.
    #[error(
        "{place}: this is another repository than the one that this watch writes to; is the right volume mounted?"
    )]
    OtherRepository {
        /// Location of the repository.
        place: String,
    },
    /// The source of this name belongs to another engine.
    #[error(
        "the source {name} holds snapshots of another engine ({engine}); give this database another name with --source"
    )]
    OtherEngine {
        /// The source.
        name: String,
        /// The engine that wrote the source's snapshots.
        engine: String,
    },
    /// The wall clock was set back so far that a new timeline must begin.
    #[error("the clock was set back from {from} to {to}")]
    ClockSetBack {
        /// The latest logged time.
        from: pitr_format::Timestamp,
        /// The time that the clock shows.
        to: pitr_format::Timestamp,
    },
    /// The limit of threads or descriptors is reached.
    #[error("the limit of threads or descriptors is reached: {0}; raise it (ulimit -n, ulimit -u)")]
    Threads(#[source] io::Error),
    /// A thread of the watch panicked.
    #[error("a thread of the watch panicked; this is a bug in pitr")]
    Died,
    /// SQLite reports an error.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The local log.
    #[error("local log: {0}")]
    Wal(#[from] pitr_wal::Error),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] pitr_archive::Error),
    /// The repository.
    #[error(transparent)]
    Objects(#[from] pitr_objects::Error),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] pitr_snapshot::Error),
    /// The repository's chunks.
    #[error(transparent)]
    Chunks(#[from] pitr_dedup::Error),
    /// Reading the archived log.
    #[error(transparent)]
    Recovery(#[from] pitr_recovery::Error),
    /// State in the local log can't be decoded.
    #[error("{what} in the local log can't be decoded: {source}")]
    State {
        /// The object that was read.
        what: &'static str,
        /// The reason.
        source: pitr_format::DecodeError,
    },
}

impl Error {
    /// True if the source was replaced or changed outside its log: the watch must start again after
    /// a gap.
    #[must_use]
    pub fn is_break(&self) -> bool {
        matches!(
            self,
            Error::FrameChanged { .. }
                | Error::LockLost
                | Error::Replaced { .. }
                | Error::Overwritten { .. }
                | Error::LinkMoved { .. }
        )
    }

    /// True if the error concerns the repository and a retry may help: it can't be reached, is not
    /// mounted, is full or denies access. Captured data waits in the local log.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use pitr_archive::Error as A;
        matches!(
            self,
            Error::Archive(
                A::Objects(_) | A::Contended { .. } | A::EncodingMismatch { .. } | A::Build { .. }
            ) | Error::Objects(_)
                | Error::RepositoryGone { .. }
                | Error::OtherRepository { .. }
        )
    }

    /// True if continuing could do harm: another writer has taken over this source.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Archive(pitr_archive::Error::Fenced { .. }))
    }

    /// True if at the moment no database can be watched at the path. A later attempt may succeed.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Error::Open { .. }
                | Error::NotADatabase { .. }
                | Error::NotWalMode { .. }
                | Error::Exclusive { .. }
        )
    }

    /// True if a retry may help: SQLite is busy, or concurrent writes prevented a consistent look.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match self {
            Error::Busy { .. } => true,
            Error::Sqlite(e) => matches!(e.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)),
            _ => false,
        }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation<'_> {
        match self {
            Error::Archive(e) => Explanation::Archive(e),
            Error::Objects(e) => Explanation::Objects(e.kind()),
            Error::Snapshot(e) => Explanation::Snapshot(e),
            Error::Chunks(e) => Explanation::Objects(e.kind()),
            Error::Recovery(e) => Explanation::Recovery(e),
            Error::Locked { .. } | Error::Wal(pitr_wal::Error::Locked { .. }) => {
                Explanation::of(Failure::Locked)
            }
            Error::Wal(e) if e.severity() == Severity::Fatal => Explanation::of(Failure::Corrupt),
            Error::NotADatabase { .. }
            | Error::NotWalMode { .. }
            | Error::ForeignState { .. }
            | Error::HardLinked { .. }
            | Error::OtherPlace { .. }
            | Error::OtherEngine { .. } => Explanation::of(Failure::Usage),
            Error::StateFolder { source, .. } if is_denied(source.kind()) => {
                Explanation::advised(Failure::Denied, "give a writable folder with --state DIR")
            }
            Error::StateFolder { .. } => Explanation::advised(
                Failure::Other,
                "check that it can be created and that the disk is not full, or give another folder with --state DIR",
            ),
            Error::Open { source, .. } if is_denied(source.kind()) => {
                Explanation::advised(Failure::Denied, "run it as a user who may read and write the file")
            }
            Error::Open { .. } => {
                Explanation::advised(Failure::Usage, "check the path, and that it can be read")
            }
            Error::Sqlite(_) if self.lacks_the_source() => Explanation::advised(
                Failure::Denied,
                "check that the user running pitr can write to the database, its -shm file and their folder",
            ),
            _ => Explanation::of(Failure::Other),
        }
    }

    /// SQLite's error does not name the file that could not be opened.
    fn lacks_the_source(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
        let Error::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(CannotOpen | ReadOnly | PermissionDenied))
    }
}
