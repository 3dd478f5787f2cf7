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
use std::time::Duration;

use pitr_codec::Codec;
use pitr_format::{SegmentSize, SourceName};

use crate::error::Result;
use crate::keeper::KeeperOptions;
use crate::place::Place;

pub use fleet::{Fleet, Found};
pub use pitr_engine::{EngineContext as WatchContext, Event, Events, Summary};
pub use run::Watch;

/// Name of this engine in snapshots.
pub const ENGINE: &str = "sqlite";

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
    /// Those of [`Place::resolve`].
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
    /// When the `-wal` file is made to restart.
    pub keeper: KeeperOptions,
    /// Compression of snapshots.
    pub codec: Codec,
    /// Options of the local log.
    pub log: LogOptions,
    /// Accepts a database that was moved: the source may have been elsewhere until now. Without it
    /// another location is refused, unless the database is a restored state that the repository
    /// knows.
    pub adopt: bool,
    /// Accepts a database file with several names (hard links), if no program opens the other
    /// names.
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
    /// Size of the log's segments, if the log is created now.
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
