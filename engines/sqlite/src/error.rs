//! What can go wrong while a SQLite database is watched or restored.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the SQLite engine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a SQLite database.
    #[error("{path}: not a SQLite database ({why}); name the database file itself")]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The database is not in WAL mode.
    #[error(
        "{path}: the database is not in WAL mode, so its commits can't be followed; run `PRAGMA journal_mode=WAL` on it once, then watch it"
    )]
    NotWalMode {
        /// The database.
        path: PathBuf,
    },
    /// Somebody holds the database in exclusive locking mode.
    #[error(
        "{path}: another process holds the database exclusively; run `PRAGMA locking_mode=NORMAL` in the application (and read once), then watch it"
    )]
    Exclusive {
        /// The database.
        path: PathBuf,
    },
    /// The database never stood still for the moment that a look takes.
    #[error("{path}: the database is written so fast that no base could be taken; try again")]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The path can't be opened.
    #[error("{path}: {source}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The watcher's folder can't be made or used.
    #[error("the folder of the local log, {}: {source}", path.display())]
    StateFolder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The `-wal` file can't be read.
    #[error("reading the database's -wal file: {0}")]
    ReadLog(#[source] io::Error),
    /// The database file can't be read.
    #[error("reading the database file: {0}")]
    ReadDatabase(#[source] io::Error),
    /// A published frame of the `-wal` file doesn't check out.
    #[error("frame {frame} of the database's -wal file changed below us or is damaged")]
    FrameChanged {
        /// Number of the frame.
        frame: u32,
    },
    /// The `-wal` file restarted before everything in it was captured.
    #[error("the database's -wal file restarted before all of it was captured; commits may be missing")]
    LockLost,
    /// A file of the database was removed or replaced at its path.
    #[error("{path}: this file of the database was removed or replaced while it was watched")]
    Replaced {
        /// The database file, its `-wal` or its `-shm`.
        path: PathBuf,
    },
    /// A page of the database file is not what its log says.
    #[error(
        "{path}: page {page} of the database changed without the database's log, as when a file is copied over it"
    )]
    Overwritten {
        /// The database.
        path: PathBuf,
        /// The first such page that was found, counted from 1.
        page: u32,
    },
    /// A symbolic link on the way to the database leads elsewhere now.
    #[error("{path}: a link on the way was moved: it led to {was} and leads to {now} now")]
    LinkMoved {
        /// The path as it was given.
        path: PathBuf,
        /// The file that it led to.
        was: PathBuf,
        /// The file that it leads to.
        now: PathBuf,
    },
    /// The database file has several names.
    #[error(
        "{path}: the file has {names} names (hard links); SQLite keeps -wal and -shm beside one of them only, so a program that opens another name would write past pitr and damage the database; remove the other names, or say with --allow-hard-links that no program opens them"
    )]
    HardLinked {
        /// The database.
        path: PathBuf,
        /// Number of its names.
        names: u64,
    },
    /// The repository knows the source at another place.
    #[error(
        "{path} on host {host}: the repository knows the source {name} as {was} on host {was_host}; if this is the same database, moved, say so with --adopt, otherwise give it a name of its own with --source NAME"
    )]
    OtherPlace {
        /// The source.
        name: String,
        /// The database that was given.
        path: PathBuf,
        /// This host.
        host: String,
        /// Where the source was.
        was: PathBuf,
        /// On which host.
        was_host: String,
    },
    /// Another process watches or backs up the same database.
    #[error(
        "{dir}: in use by another pitr process that watches or backs up this database; stop it, or wait for it"
    )]
    Locked {
        /// The watcher's folder.
        dir: PathBuf,
    },
    /// The watcher's folder belongs to another repository or source.
    #[error(
        "{dir}: belongs to another repository or source ({found}); name another folder with --state, or, if nobody works on the database, remove it (which leaves a gap)"
    )]
    ForeignState {
        /// The watcher's folder.
        dir: PathBuf,
        /// What its identity says.
        found: String,
    },
    /// The watcher's folder was removed or replaced while it was used.
    #[error("{dir}: the watcher's folder was removed or replaced; a new local log begins, with a gap")]
    StateGone {
        /// The watcher's folder.
        dir: PathBuf,
    },
    /// The repository is not where it was.
    #[error("{place}: the repository is not there; is its volume mounted?")]
    RepositoryGone {
        /// The repository's place.
        place: String,
    },
    /// Another repository is found where ours was.
    #[error("{place}: another repository was put in place of the one that this watch writes to")]
    OtherRepository {
        /// The repository's place.
        place: String,
    },
    /// The repository's source of this name is something else.
    #[error(
        "the source {name} holds snapshots of another kind ({engine}); give this one another name with --source"
    )]
    OtherEngine {
        /// The source.
        name: String,
        /// What took its snapshots.
        engine: String,
    },
    /// The wall clock was set back so far that a new timeline must begin.
    #[error("the clock was set back from {from} to {to}")]
    ClockSetBack {
        /// The latest time that was logged.
        from: pitr_format::Timestamp,
        /// What the clock shows.
        to: pitr_format::Timestamp,
    },
    /// This process can have no more threads or descriptors.
    #[error("no more threads or descriptors for watching: {0}; raise the limits (ulimit -n, ulimit -u)")]
    Threads(#[source] io::Error),
    /// A thread of the watch died.
    #[error("a thread of the watch died; this is a fault of pitr")]
    Died,
    /// SQLite itself reports an error.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Our own log.
    #[error("the watcher's own log: {0}")]
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
    /// State of the watcher that can't be read.
    #[error("{what} in the watcher's log: {source}")]
    State {
        /// What was read.
        what: &'static str,
        /// Why it can't be read.
        source: pitr_format::DecodeError,
    },
}

impl Error {
    /// True if the source is no longer the one that was watched: watching must begin anew, behind a gap.
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

    /// True if it is about the repository, and trying again may help: it can't be reached, is not mounted, has no room
    /// or denies access. What was captured waits in the local log.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use pitr_archive::Error as A;
        matches!(
            self,
            Error::Archive(A::Objects(_) | A::Contended { .. } | A::NotWhatWasRead { .. } | A::Build { .. })
                | Error::Objects(_)
                | Error::RepositoryGone { .. }
                | Error::OtherRepository { .. }
        )
    }

    /// True if going on could do harm: another writer has taken over this source.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Archive(pitr_archive::Error::Fenced { .. }))
    }

    /// True if no database can be watched at the path as things are; that may change.
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

    /// True if trying again may help: SQLite says so, or the database did not stand still.
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
