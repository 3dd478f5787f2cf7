//! Watching databases: capture, shipping and snapshots, kept apart by threads.
//!
//! A [`Watch`] is one database with its local log and its place in the archive; it has no threads. A [`Fleet`] drives any
//! number of them with a fixed number of threads, see [`fleet`].
//!
//! A source that is no longer the one that was watched (replaced, overwritten, its log restarted under us) ends an
//! attachment; the next one begins with a gap and a new base. Every other trouble (the repository, the watcher's folder
//! or the database is gone for a while) is told, and tried again with growing pauses. Only a writer that was taken over
//! ends for good: two that write on would be a mixture.

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

/// What a watch works with.
#[derive(Debug, Clone)]
pub struct WatchContext {
    /// The file system of the database and of the local log.
    pub fs: Arc<dyn FileSystem>,
    /// The clock that stamps commits.
    pub clock: Arc<dyn Clock>,
    /// The repository.
    pub objects: Objects,
    /// Its identity.
    pub repository: [u8; 16],
}

/// What is watched.
#[derive(Debug, Clone)]
pub struct WatchSource {
    /// The path of the database as it was given, absolute. A watch resolves it again and again: a link on the way may be
    /// moved to another database.
    pub given: PathBuf,
    /// The file that the path leads to; `-wal` and `-shm` are beside this one.
    pub database: PathBuf,
    /// Its name in the repository.
    pub source: SourceName,
    /// Folder of the local log.
    pub state: PathBuf,
}

/// The former name of [`WatchSource`].
pub type Subject = WatchSource;

impl WatchSource {
    /// The database at `place` as a source, with its local log in `state`, or beside the file that the path leads to.
    #[must_use]
    pub fn new(place: &Place, source: SourceName, state: Option<PathBuf>) -> Self {
        let state = state.unwrap_or_else(|| state::default_dir(place.resolved()));
        WatchSource { given: place.given().to_owned(), database: place.resolved().to_owned(), source, state }
    }

    /// Where the database is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::known(self.given.clone(), self.database.clone())
    }

    /// Follows the links of the given path again; the local log stays where it is.
    ///
    /// # Errors
    /// As [`Place::resolve`].
    pub fn follow_links(&mut self) -> Result<()> {
        let place = Place::resolve(&self.given)?;
        (self.given, self.database) = (place.given().to_owned(), place.resolved().to_owned());
        Ok(())
    }
}

/// How it is watched.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// What is durable in the local log is shipped this often.
    pub ship_every: Duration,
    /// A snapshot is taken this often; none if `None`.
    pub snapshot_every: Option<Duration>,
    /// The database's log is looked at this often.
    pub look_every: Duration,
    /// While nothing is committed a watermark is shipped this often.
    pub watermark_every: Duration,
    /// When the database's log is made to restart.
    pub keeper: KeeperOptions,
    /// How snapshots are compressed.
    pub codec: Codec,
    /// The local log.
    pub log: LogOptions,
    /// The source may have been elsewhere until now: the database is the same one, moved. Otherwise another place is
    /// refused, unless the database is a restored state that the repository knows.
    pub adopt: bool,
    /// The database file may have other names (hard links), which no program opens.
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

/// How a local log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of its segments, if it begins now.
    pub segment_size: SegmentSize,
    /// True for a thread of its own, which makes segments ready for a writer at full speed. See
    /// [`pitr_wal::WalOptions::background`].
    pub background: bool,
}

impl LogOptions {
    /// For one of hundreds of databases: small segments, and no thread.
    pub const MANY: LogOptions = LogOptions { segment_size: SegmentSize::SMALL, background: false };
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_size: SegmentSize::DEFAULT, background: true }
    }
}

/// What a watch tells while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Capture is established: every commit from now on is captured.
    Watching,
    /// History has a hole here; a new base is taken.
    Gap(GapReason),
    /// A new timeline began.
    Forked {
        /// The new one.
        timeline: TimelineId,
        /// Why.
        reason: ForkReason,
    },
    /// The clock is behind the last time that was logged, by less than begins a new timeline: commits get that time until
    /// the clock has passed it.
    ClockBehind {
        /// The last time that was logged.
        until: Timestamp,
    },
    /// A local log that can't be used was set aside.
    SetAside {
        /// Where it is now.
        path: PathBuf,
        /// Why it can't be used.
        why: String,
    },
    /// A snapshot was stored.
    Snapshot {
        /// What its root tells.
        snapshot: Box<Snapshot>,
        /// How long it took.
        took: Duration,
    },
    /// The snapshot that the next one would have built on is damaged; a base is taken without it.
    ParentDamaged(String),
    /// A snapshot could not be taken; it is tried again later.
    SnapshotFailed(String),
    /// The repository could not be written; it is tried again.
    ShipFailed(String),
    /// Shipping works again.
    ShipRecovered,
    /// Nothing is captured for now, and why. It is tried again.
    Waiting(String),
    /// A database that was found in a watched folder is not there any more, and is watched no longer.
    Removed,
    /// The application uses a SQLite library with a known fault in the log (3.7.0 to 3.51.2).
    OldLibrary {
        /// Its version, as in `3040001`.
        version: u32,
    },
}

/// Takes events; called from any thread.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
