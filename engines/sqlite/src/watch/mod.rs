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
use std::time::Duration;

use pitr_codec::Codec;
use pitr_format::{SegmentSize, SourceName};

use crate::error::Result;
use crate::keeper::KeeperOptions;
use crate::place::Place;

pub use fleet::{Fleet, Found, give_way};
pub use pitr_engine::{Event, Events, Summary, Surroundings};
pub use run::Watch;

/// Name of this engine in snapshots.
pub const ENGINE: &str = "sqlite";

/// What is watched.
#[derive(Debug, Clone)]
pub struct Subject {
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

impl Subject {
    /// The database at `place` as a source, with its local log in `state`, or beside the file that the path leads to.
    #[must_use]
    pub fn new(place: &Place, source: SourceName, state: Option<PathBuf>) -> Self {
        let state = state.unwrap_or_else(|| state::default_dir(place.resolved()));
        Subject { given: place.given().to_owned(), database: place.resolved().to_owned(), source, state }
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
