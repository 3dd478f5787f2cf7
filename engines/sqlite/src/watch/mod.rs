//! Watches databases: capture, shipping and snapshots, in separate threads.
//!
//! A [`Watch`] is one database with its local log and its part of the archive; it has no threads. A
//! [`Fleet`] drives any number of watches with a fixed number of threads, see [`fleet`].
//!
//! A source that was replaced or overwritten, or whose `-wal` file restarted unexpectedly, ends an
//! attachment. The next attachment begins with a gap and a new base. Every other fault (the
//! repository, the watcher's folder or the database is temporarily gone) is reported, and retried
//! with growing pauses. Only the takeover by another writer ends a watch for good: two active
//! writers would mix their histories.

mod alive;
mod attach;
mod begin;
mod binding;
pub mod control;
pub mod fleet;
pub mod folder;
#[cfg(test)]
mod interleaved;
mod run;
mod shared;
mod snapshots;
pub mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pitr_archive::ForkReason;
use pitr_codec::Codec;
use pitr_format::record::GapReason;
use pitr_format::{SegmentSize, SourceName, TimelineId, Timestamp};
use pitr_objects::Objects;
use pitr_snapshot::Snapshot;
use pitr_vfs::{Clock, FileSystem};

use crate::error::Result;
use crate::keeper::KeeperOptions;
use crate::place::Place;

pub use fleet::{Fleet, Found, lower_priority};
pub use run::{Summary, Watch};

/// Name of this engine in snapshots.
pub const ENGINE: &str = "sqlite";

/// The file system, clock and repository of a watch.
#[derive(Debug, Clone)]
pub struct WatchContext {
    /// The file system of the database and of the local log.
    pub fs: Arc<dyn FileSystem>,
    /// The clock that timestamps commits.
    pub clock: Arc<dyn Clock>,
    /// The repository.
    pub objects: Objects,
    /// Identity of the repository.
    pub repository: [u8; 16],
}

/// The database that a watch captures.
#[derive(Debug, Clone)]
pub struct WatchSource {
    /// The given path of the database, absolute. A watch resolves it repeatedly: a link in the path
    /// may later lead to another database.
    pub given: PathBuf,
    /// The file that the path leads to. `-wal` and `-shm` are beside this file.
    pub database: PathBuf,
    /// Name of the source in the repository.
    pub source: SourceName,
    /// Folder of the local log.
    pub state: PathBuf,
}

impl WatchSource {
    /// The database at `place` as a source. Its local log is in `state`, or by default beside the
    /// file that the path leads to.
    #[must_use]
    pub fn new(place: &Place, source: SourceName, state: Option<PathBuf>) -> Self {
        let state = state.unwrap_or_else(|| state::default_dir(place.resolved()));
        WatchSource { given: place.given().to_owned(), database: place.resolved().to_owned(), source, state }
    }

    /// Location of the database.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::known(self.given.clone(), self.database.clone())
    }

    /// Resolves the links of the given path again. The local log stays where it is.
    ///
    /// # Errors
    /// As [`Place::resolve`].
    pub fn follow_links(&mut self) -> Result<()> {
        let place = Place::resolve(&self.given)?;
        (self.given, self.database) = (place.given().to_owned(), place.resolved().to_owned());
        Ok(())
    }
}

/// Options of a watch.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// Interval at which the durable part of the local log is shipped.
    pub ship_every: Duration,
    /// Interval between snapshots; `None` takes none.
    pub snapshot_every: Option<Duration>,
    /// Interval between looks at the database's `-wal` file.
    pub look_every: Duration,
    /// Interval between shipped watermarks while nothing is committed.
    pub watermark_every: Duration,
    /// When the database's `-wal` file is made to restart.
    pub keeper: KeeperOptions,
    /// Compression of snapshots.
    pub codec: Codec,
    /// Options of the local log.
    pub log: LogOptions,
    /// Accepts a database that was moved: the source may have been elsewhere until now. Without it
    /// another location is refused, unless the database is a restored state that the repository
    /// knows.
    pub adopt: bool,
    /// Accepts a database file with other names (hard links), which no program opens.
    pub allow_hard_links: bool,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions {
            ship_every: Duration::from_secs(1),
            snapshot_every: None,
            look_every: Duration::from_millis(5),
            watermark_every: Duration::from_secs(60),
            keeper: KeeperOptions::default(),
            codec: Codec::default(),
            log: LogOptions::default(),
            adopt: false,
            allow_hard_links: false,
        }
    }
}

/// Options of a local log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of its segments, if the log is created now.
    pub segment_size: SegmentSize,
    /// True for a thread that prepares segments for a writer at full speed. See
    /// [`pitr_wal::WalOptions::background`].
    pub background: bool,
}

impl LogOptions {
    /// Options for one of hundreds of databases: small segments, and no thread.
    pub const MANY: LogOptions = LogOptions { segment_size: SegmentSize::SMALL, background: false };
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_size: SegmentSize::DEFAULT, background: true }
    }
}

/// An event of a running watch.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Capture is established: every commit from now on is captured.
    Watching,
    /// The history has a gap here; a new base is taken.
    Gap(GapReason),
    /// A new timeline began.
    Forked {
        /// The new timeline.
        timeline: TimelineId,
        /// The reason for the fork.
        reason: ForkReason,
    },
    /// The clock is behind the last logged time, by too little to begin a new timeline. Commits get
    /// the logged time until the clock has passed it.
    ClockBehind {
        /// The last logged time.
        until: Timestamp,
    },
    /// An unusable local log was set aside.
    SetAside {
        /// Its new path.
        path: PathBuf,
        /// Why it is unusable.
        why: String,
    },
    /// A snapshot was stored.
    Snapshot {
        /// Content of its root.
        snapshot: Box<Snapshot>,
        /// Duration of taking it.
        took: Duration,
    },
    /// The parent of the next snapshot is damaged; a base is taken without it.
    ParentDamaged(String),
    /// A snapshot failed; it is retried later.
    SnapshotFailed(String),
    /// Writing to the repository failed; it is retried.
    ShipFailed(String),
    /// Shipping works again.
    ShipRecovered,
    /// Nothing is captured at the moment, with the reason. The watch retries.
    Waiting(String),
    /// A database from a watched folder no longer exists, and is no longer watched.
    Removed,
    /// The application uses a SQLite library with a known fault of its log (3.7.0 to 3.51.2).
    OldLibrary {
        /// Its version, as in `3040001`.
        version: u32,
    },
}

/// Receives events; called from any thread.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
