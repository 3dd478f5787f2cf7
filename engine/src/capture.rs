//! Capturing the commits of live sources.

use crate::error::Result;
use pitr_archive::ForkReason;
use pitr_codec::Codec;
use pitr_format::record::GapReason;
use pitr_format::{Lsn, SourceName, TimelineId, Timestamp, TxId};
use pitr_objects::{Objects, Repository};
use pitr_snapshot::Snapshot;
use pitr_vfs::Env;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Turns the commits of a live source into records of a log, and archives them.
pub trait Capture: Debug + Send + Sync {
    /// Follows the links of a path. A path without a file is accepted, so that the caller can wait
    /// for the file.
    ///
    /// # Errors
    /// Errors of following the path.
    fn locate(&self, path: &Path) -> Result<Located>;

    /// The source at a place, with its local log in `state` or in the engine's usual folder.
    fn source(&self, located: &Located, source: SourceName, state: Option<PathBuf>) -> LiveSource;

    /// Takes one snapshot, and archives every commit up to it. With `full` it reads the whole
    /// source.
    ///
    /// # Errors
    /// [`Error::Watched`](crate::Error::Watched) if another process captures it: [`ask`](Self::ask)
    /// that one.
    fn backup(
        &self,
        context: EngineContext,
        live: &LiveSource,
        options: CaptureOptions,
        full: bool,
        events: Events,
    ) -> Result<Snapshot>;

    /// Has the process that watches the source take a snapshot.
    ///
    /// # Errors
    /// [`Error::NoAnswer`](crate::Error::NoAnswer), [`Error::Refused`](crate::Error::Refused).
    fn ask(&self, objects: &Objects, live: &LiveSource, full: bool) -> Result<Snapshot>;

    /// Has the process that watches the source archive every commit that returned before this call.
    ///
    /// # Errors
    /// [`Error::NoAnswer`](crate::Error::NoAnswer) if no process watches the source, or it can't be
    /// asked; [`Error::Refused`](crate::Error::Refused).
    fn ask_to_archive(&self, context: &EngineContext, live: &LiveSource) -> Result<()> {
        let _ = context;
        let source = io::Error::from(io::ErrorKind::Unsupported);
        Err(crate::Error::NoAnswer { state: live.state.clone(), source })
    }

    /// A fleet without members.
    ///
    /// # Errors
    /// Those of the engine.
    fn fleet(&self, context: EngineContext, options: CaptureOptions) -> Result<Box<dyn Fleet>>;

    /// Finds sources in a folder: those whose path below the folder `matches`.
    fn search(&self, root: &Path, matches: Matches) -> Box<dyn SourceSearch>;
}

/// Chooses sources by their path below a searched folder.
pub type Matches = Box<dyn Fn(&Path) -> bool + Send>;

/// Watches any number of sources.
pub trait Fleet: Send {
    /// Adds a source. Once this returns, every commit is captured.
    ///
    /// # Errors
    /// Errors of the first access to the source.
    fn add(&mut self, live: LiveSource, events: Events) -> Result<()>;

    /// Adds a source that may not exist yet. It is watched as soon as it exists.
    fn add_waiting(&mut self, live: LiveSource, events: Events);

    /// Adds a source that was found in a folder. It leaves the fleet when it no longer exists.
    fn add_found(&mut self, found: Found);

    /// Watches until `stop`, then archives everything captured. `search` is called repeatedly and
    /// returns further sources.
    ///
    /// # Errors
    /// Errors that end the whole watch. Errors that end the watch of one source are returned with
    /// its name.
    fn run(self: Box<Self>, stop: &AtomicBool, search: Option<Search<'_>>) -> Result<Outcomes>;
}

/// Searches one folder for sources, repeatedly.
pub trait SourceSearch: Send {
    /// Leaves out a source that is already watched.
    ///
    /// # Errors
    /// Errors of looking up the source.
    fn mark_known(&mut self, source: &Path) -> io::Result<()>;

    /// The sources that were created since the last call, relative to the folder, in order. An
    /// entry that can't be read now is found by a later call.
    ///
    /// # Errors
    /// Errors of reading the folder itself.
    fn next_found(&mut self) -> io::Result<Vec<PathBuf>>;
}

/// What an engine needs for its work: files, clock, repository.
#[derive(Debug, Clone)]
pub struct EngineContext {
    /// The repository.
    pub objects: Objects,
    /// Identity of the repository.
    pub repository: [u8; 16],
}

impl EngineContext {
    /// The repository, with the file system and the clock of its handle.
    #[must_use]
    pub fn new(objects: &Objects, repository: &Repository) -> Self {
        EngineContext { objects: objects.clone(), repository: repository.id }
    }

    /// The machine: files of the source and of the local log, and the clock that stamps commits.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.objects.env()
    }
}

/// A path as it was given, and the file that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The path as it was given, made absolute. A watch resolves it repeatedly, because a link in
    /// it may be moved to another source.
    pub given: PathBuf,
    /// The path without links.
    pub resolved: PathBuf,
}

/// A live source.
#[derive(Debug, Clone)]
pub struct LiveSource {
    /// Place of the source.
    pub place: Located,
    /// Name of the source in the repository.
    pub source: SourceName,
    /// Folder of the source's local log.
    pub state: PathBuf,
}

/// A source that was found in a folder.
pub struct Found {
    /// The source.
    pub live: LiveSource,
    /// Receives the source's events.
    pub events: Events,
}

impl Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("live", &self.live).finish_non_exhaustive()
    }
}

/// Lists the sources that were created since the last call.
pub type Search<'a> = Box<dyn FnMut() -> Vec<Found> + Send + 'a>;

/// How sources are captured.
#[derive(Debug, Clone, Copy)]
pub struct CaptureOptions {
    /// Pause between two shipments of the local log.
    pub ship_every: Duration,
    /// Pause between two snapshots; none are taken if `None`.
    pub snapshot_every: Option<Duration>,
    /// How snapshots are compressed.
    pub codec: Codec,
    /// Keeps local logs small and gives them no threads, so that hundreds of sources can be
    /// watched.
    pub is_fleet: bool,
    /// Accepts a source whose place has changed: it is the same source, moved. Otherwise another
    /// place is refused, unless the source is a restored state that the repository knows.
    pub adopt: bool,
    /// Accepts a file with several names (hard links), if no program opens the other names.
    pub allow_hard_links: bool,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions {
            ship_every: Duration::from_secs(1),
            snapshot_every: None,
            codec: Codec::default(),
            is_fleet: false,
            adopt: false,
            allow_hard_links: false,
        }
    }
}

/// What a watch reports while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Capture is established: every commit from now on is captured.
    Watching,
    /// Commits may be missing from the history here. A new base is taken.
    Gap(GapReason),
    /// A new timeline began.
    Forked {
        /// The new timeline.
        timeline: TimelineId,
        /// Why the new timeline began.
        reason: ForkReason,
    },
    /// The clock is earlier than the last logged time, by less than what begins a new timeline.
    /// Commits get the last logged time until the clock has passed it.
    ClockBehind {
        /// The last time that was logged.
        until: Timestamp,
    },
    /// A local log that can't be used was moved aside.
    SetAside {
        /// New path of that log.
        path: PathBuf,
        /// Why the log can't be used.
        why: String,
    },
    /// A snapshot was stored.
    Snapshot {
        /// Root of the snapshot.
        snapshot: Box<Snapshot>,
        /// How long the snapshot took.
        took: Duration,
    },
    /// The snapshot that was to be the parent of the next one is damaged. A base is taken without
    /// it.
    ParentDamaged(String),
    /// A snapshot could not be taken. The watch tries again later.
    SnapshotFailed(String),
    /// The repository could not be written. The watch tries again.
    ShipFailed(String),
    /// Shipping works again.
    ShipRecovered,
    /// Nothing is captured at the moment, and why. The watch tries again.
    Waiting(String),
    /// A source that was found in a watched folder no longer exists and is not watched any more.
    Removed,
    /// Something that the user should change about the source. Capture continues.
    Warning(String),
}

/// Receives events, from any thread.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// What a watch did, for its last line of output.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Transactions captured.
    pub commits: u64,
    /// Pages in these transactions.
    pub pages: u64,
    /// For how long the source's write lock was held, each time.
    pub write_lock: Vec<Duration>,
    /// Everything below this LSN is archived.
    pub archived: Lsn,
    /// The last transaction archived.
    pub last_tx: Option<TxId>,
}

impl Summary {
    /// Adds the counts of a later watch of the same source.
    pub fn add(&mut self, later: &Summary) {
        self.commits += later.commits;
        self.pages += later.pages;
        self.write_lock.extend_from_slice(&later.write_lock);
        self.archived = self.archived.max(later.archived);
        self.last_tx = later.last_tx.or(self.last_tx);
    }
}

/// The outcome of each source. An engine may use errors of its own.
pub type Outcomes<E = crate::Error> = Vec<(SourceName, Result<Summary, E>)>;
