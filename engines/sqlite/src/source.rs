//! The watched database: the connections, the read transaction that keeps its `-wal` file, and the
//! hand-over.
//!
//! # Invariants
//! - **One read transaction of this engine is always open**, from [`Source::open`] to the end. It
//!   holds one of SQLite's read locks 1 to 4, and then the `-wal` file can't restart. Or it holds
//!   read lock 0, which SQLite gives to a reader when the whole `-wal` file is backfilled. Then the
//!   file may restart, but no frame of its next generation can be backfilled, so it can't restart
//!   again.
//! - **A hand-over opens the next read transaction before it closes the old one.** It is allowed
//!   only after a look that began when the old one was already open and captured everything it saw
//!   (the caller ensures this). Then nothing is lost. Let the old transaction be at mark m. Capture
//!   reaches m or further. Backfill can't pass m. The new transaction gets read lock 0 only if
//!   everything committed is backfilled, which means that nothing was committed after m: all of it
//!   is captured, and is made durable in the local log before the old transaction closes. Otherwise
//!   it gets a read lock above 0, the `-wal` file can't restart, and frames that are not yet
//!   durable in the local log can be read from it again.
//! - **Our descriptor of the database file is closed last.** Closing any descriptor of a file drops
//!   all POSIX locks of the process on it (FAILURES 38). So `file` is the last field, and a
//!   [`BaseView`](crate::base::BaseView) that shares it must be dropped before another `Source` is
//!   opened on the same file.

use std::cell::OnceCell;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pitr_format::Timestamp;
use pitr_vfs::{Access, Clock, File, FileSystem, check_regular};
use rusqlite::Connection;

use crate::conn::{self, Published};
use crate::error::{Error, Result};
use crate::header::{DatabaseHeader, HEADER_BYTES};
use crate::position::{FileStamp, Position};
use crate::steps;
use crate::wal::{Salts, WalFile, WalHeader};

/// What one look found. Salts and published frames belong to the same generation.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// Header of the `-wal` file; `None` while it has none.
    pub header: Option<WalHeader>,
    /// What the wal-index publishes. The backfilled frames were counted before the published ones.
    /// So every frame that a counted checkpoint saw is among the published ones.
    pub published: Published,
}

/// An open, watched database. See the invariants in the module documentation.
#[derive(Debug)]
pub struct Source {
    clock: Arc<dyn Clock>,
    path: PathBuf,
    look: Connection,
    hold: Connection,
    spare: Connection,
    /// Opened at first use: most databases of a folder never need them.
    writer: OnceCell<Connection>,
    checkpointer: OnceCell<Connection>,
    log: WalFile,
    /// False if the open read transaction certainly keeps the `-wal` file from restarting.
    may_restart: bool,
    identities: Identities,
    header: DatabaseHeader,
    file: Arc<dyn File>,
}

/// Shows whether the database file changed: its length, and its times of modification and of
/// change, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    len: u64,
    modified_ns: i64,
    changed_ns: i64,
}

/// The files of the database, by device and inode. `None` for a file that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identities {
    database: (u64, u64),
    log: Option<(u64, u64)>,
    index: Option<(u64, u64)>,
}

/// Time without a write, microseconds, after which every later write shows in the change time.
const SETTLED_MICROS: u64 = 100_000;
/// Attempts at a consistent look before the database counts as too busy.
const TRIES: u32 = 1000;

impl Source {
    /// Opens the database at `path` and begins to keep its `-wal` file.
    ///
    /// # Errors
    /// [`Error::Replaced`] if a file of the database was replaced during the call; [`Error::Open`],
    /// [`Error::NotADatabase`], [`Error::NotWalMode`], [`Error::Exclusive`], [`Error::Sqlite`].
    pub fn open(fs: &dyn FileSystem, clock: Arc<dyn Clock>, path: &Path) -> Result<Self> {
        let open_error = |source| Error::Open { path: path.to_owned(), source };
        let before = Identities::of(path)?;
        let file = fs.open(path, Access::Read).map_err(open_error)?;
        let header = read_header(path, file.as_ref())?;
        if !header.wal_mode {
            return Err(Error::NotWalMode { path: path.to_owned() });
        }
        // FAILURES 59: SQLite would open these, and wait for the other end of a pipe.
        for suffix in ["-journal", "-wal", "-shm"] {
            let beside = with_suffix(path, suffix);
            check_regular(&beside).map_err(|source| Error::Open { path: beside, source })?;
        }
        let connect = || conn::open(path);
        let hold = connect()?;
        begin_first_read(path, &hold, clock.as_ref())?;
        let identities = Identities::of(path)?;
        let log_path = with_suffix(path, "-wal");
        let log =
            fs.open(&log_path, Access::Read).map_err(|source| Error::Open { path: log_path, source })?;
        let source = Source {
            clock,
            path: path.to_owned(),
            look: connect()?,
            hold,
            spare: connect()?,
            writer: OnceCell::new(),
            checkpointer: OnceCell::new(),
            log: WalFile::new(log),
            may_restart: true,
            identities,
            header,
            file,
        };
        // Files opened between two equal lookups are the files that the lookups name.
        before.check_still(path, &identities)?;
        source.check_in_place()?;
        Ok(source)
    }

    /// The database's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header at the time when the database was opened.
    #[must_use]
    pub fn header(&self) -> &DatabaseHeader {
        &self.header
    }

    /// The `-wal` file.
    #[must_use]
    pub fn log(&self) -> &WalFile {
        &self.log
    }

    /// The database file, for a full read.
    #[must_use]
    pub fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.file)
    }

    /// True unless the open read transaction certainly keeps the `-wal` file from restarting.
    #[must_use]
    pub fn may_restart(&self) -> bool {
        self.may_restart
    }

    /// Header, published and backfilled frames of one generation of the `-wal` file. `None` if they
    /// can't be read at the moment.
    pub fn observe(&self) -> Result<Option<Observed>> {
        for _ in 0..TRIES {
            let before = self.log.header()?;
            let Some(first) = conn::published(&self.look)? else { return Ok(None) };
            let Some(second) = conn::published(&self.look)? else { return Ok(None) };
            let header = self.log.header()?;
            let salts = (before.map(|h| h.salts), header.map(|h| h.salts));
            if let Some(published) = of_one_generation(salts, first, second) {
                return Ok(Some(Observed { header, published }));
            }
        }
        Ok(None)
    }

    /// Moves the read transaction to the newest commit. `captured` is the end of the last look, of
    /// which everything must be captured. Calls `make_durable` if the `-wal` file may restart from
    /// now on. Returns false if SQLite was busy and nothing changed.
    pub fn hand_over(
        &mut self,
        captured: &Position,
        make_durable: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let before = self.observe()?;
        match conn::begin_read(&self.spare) {
            Ok(()) => {}
            Err(e) if e.is_busy() => return Ok(false),
            Err(e) => return Err(e),
        }
        let moved = conn::published(&self.look).and_then(|after| {
            let holds_frames =
                before.zip(after).is_some_and(|(before, after)| holds_frames(captured, &before, after));
            if !holds_frames {
                make_durable()?;
            }
            self.may_restart = !holds_frames;
            std::mem::swap(&mut self.hold, &mut self.spare);
            Ok(true)
        });
        conn::end(&self.spare)?;
        moved
    }

    /// Runs a passive checkpoint; `None` if another one is running.
    pub fn checkpoint(&self) -> Result<Option<Published>> {
        match conn::checkpoint_passive(self.connection(&self.checkpointer)?) {
            Err(e) if e.is_busy() => Ok(None),
            other => other,
        }
    }

    /// Takes the write lock without waiting; false if a writer has it.
    pub fn lock_writes(&self) -> Result<bool> {
        match conn::begin_write(self.connection(&self.writer)?) {
            Ok(()) => Ok(true),
            Err(e) if e.is_busy() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Releases the write lock.
    pub fn unlock_writes(&self) -> Result<()> {
        self.writer.get().map_or(Ok(()), conn::end)
    }

    fn connection<'a>(&self, cell: &'a OnceCell<Connection>) -> Result<&'a Connection> {
        if let Some(connection) = cell.get() {
            return Ok(connection);
        }
        let opened = conn::open(&self.path)?;
        Ok(cell.get_or_init(|| opened))
    }

    /// Pages of the database in the open read transaction.
    pub fn page_count(&self) -> Result<u32> {
        conn::page_count(&self.hold)
    }

    /// Ends the read transaction and begins it again. Allowed only while nothing has been captured.
    pub fn renew(&mut self) -> Result<()> {
        conn::end(&self.hold)?;
        self.may_restart = true;
        begin_first_read(&self.path, &self.hold, self.clock.as_ref())
    }

    /// The database file's stamp; `None` if it was written so recently that a later write might not
    /// show.
    pub fn file_stamp(&self, now: Timestamp) -> Result<Option<FileStamp>> {
        let metadata =
            std::fs::metadata(&self.path).map_err(|e| Error::Open { path: self.path.clone(), source: e })?;
        let changed_ns = metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec();
        let stamp = FileStamp { file: identity(&metadata), len: metadata.len(), changed_ns };
        let changed = Timestamp::from_micros(changed_ns / 1000);
        // If the clock was set back since, the next write gets an earlier time, which also differs.
        let settled = now.since(changed).max(changed.since(now)) > SETTLED_MICROS;
        Ok(settled.then_some(stamp))
    }

    /// Checks that the open files of the database are still those at its path (FAILURES 9, 48), and
    /// returns the state of the database file.
    ///
    /// # Errors
    /// [`Error::Replaced`]; [`Error::Open`] if the path can't be looked up.
    pub fn check_in_place(&self) -> Result<FileState> {
        let metadata = metadata(&self.path)?;
        let Some(metadata) = metadata else { return Err(Error::Replaced { path: self.path.clone() }) };
        let now = Identities::beside(&self.path, identity(&metadata))?;
        self.identities.check_same(&self.path, &now)?;
        Ok(FileState {
            len: metadata.len(),
            modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            changed_ns: metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
        })
    }
}

impl Identities {
    fn of(path: &Path) -> Result<Self> {
        let not_found = || std::io::ErrorKind::NotFound.into();
        let database =
            metadata(path)?.ok_or_else(|| Error::Open { path: path.to_owned(), source: not_found() })?;
        Self::beside(path, identity(&database))
    }

    fn beside(path: &Path, database: (u64, u64)) -> Result<Self> {
        let of = |suffix| metadata(&with_suffix(path, suffix)).map(|found| found.as_ref().map(identity));
        Ok(Identities { database, log: of("-wal")?, index: of("-shm")? })
    }

    /// Fails unless `now` names the same files.
    fn check_same(&self, path: &Path, now: &Identities) -> Result<()> {
        let replaced = |path| Err(Error::Replaced { path });
        if now.database != self.database {
            replaced(path.to_owned())
        } else if now.log != self.log {
            replaced(with_suffix(path, "-wal"))
        } else if now.index != self.index {
            replaced(with_suffix(path, "-shm"))
        } else {
            Ok(())
        }
    }

    /// Like [`check_same`](Self::check_same), but a `-wal` or `-shm` that did not exist may have
    /// been created.
    fn check_still(&self, path: &Path, now: &Identities) -> Result<()> {
        let (log, index) = (self.log.or(now.log), self.index.or(now.index));
        Identities { log, index, ..*self }.check_same(path, now)
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    steps::reached();
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Open { path: path.to_owned(), source }),
    }
}

/// The backfilled frames of `first` and the published frames of `second`, if the `-wal` file did
/// not restart while they were read. The index was read twice, between two reads of the header's
/// salts.
///
/// The order matters because a checkpoint reads, of each page, only the newest frame that is
/// published when it begins. If a read lock forbids that frame, the checkpoint skips the page, and
/// counts the page's older frames as backfilled. So a count of backfilled frames describes the
/// database file only together with the number of frames that were published when it was read.
///
/// SQLite reads the number of published frames and then that of backfilled ones. A restart sets the
/// published frames to 0, clears the backfilled ones, writes the header, writes the first frame,
/// and publishes it. If a restart falls into the middle of `first`, all n published frames of the
/// old generation seem not to be backfilled, although each of them is. But then `second` finds none
/// published, or fewer, or as many of the new generation, whose header is already in place. If it
/// falls just before `first`, frames may count as backfilled although none is published.
fn of_one_generation(
    (before, after): (Option<Salts>, Option<Salts>),
    first: Published,
    second: Published,
) -> Option<Published> {
    let backfilled = first.backfilled.min(second.frames);
    (before == after && second.frames >= first.frames).then_some(Published { backfilled, ..second })
}

/// True if a read transaction that began between two observations certainly has a read lock above
/// 0.
///
/// SQLite gives read lock 0 only when everything committed is backfilled. At `before`, the captured
/// generation had frames that were not backfilled. It could not restart in between: the old
/// transaction prevents that, or, when it is itself on read lock 0 of an earlier generation,
/// prevents the backfill. So both observations belong to one generation. If at `after` not even the
/// captured frames are backfilled, then not everything committed was backfilled when the
/// transaction began.
fn holds_frames(captured: &Position, before: &Observed, after: Published) -> bool {
    before.header.map(|h| h.salts) == captured.salts
        && before.published.backfilled < before.published.frames
        && after.backfilled < captured.frame
}

/// The path with `suffix` after its last component, as SQLite names the files beside a database.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn read_header(path: &Path, file: &dyn File) -> Result<DatabaseHeader> {
    steps::reached();
    let mut bytes = [0; HEADER_BYTES];
    let not_a_database = |why: String| Error::NotADatabase { path: path.to_owned(), why };
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(not_a_database("it is shorter than a SQLite header".to_owned()));
        }
        Err(e) => return Err(Error::Open { path: path.to_owned(), source: e }),
    }
    DatabaseHeader::decode(&bytes)
        .map_err(|e| not_a_database(e.to_string()))?
        .ok_or_else(|| not_a_database("it is empty".to_owned()))
}

/// Begins the first read transaction. It fails if the database can't be shared.
fn begin_first_read(path: &Path, conn: &Connection, clock: &dyn Clock) -> Result<()> {
    const PATIENCE_MS: u64 = 2_000;
    for waited_ms in 0..=PATIENCE_MS {
        match conn::begin_read(conn) {
            Err(e) if e.is_busy() && waited_ms < PATIENCE_MS => {
                clock.sleep(std::time::Duration::from_millis(1));
            }
            Err(e) if e.is_busy() => return Err(Error::Exclusive { path: path.to_owned() }),
            other => return other,
        }
    }
    Err(Error::Exclusive { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_during_a_look_is_detected() {
        // FAILURES 3, 4
        let at = |frames, backfilled| Published { frames, backfilled };
        let (old, new) = (Some(Salts([1; 8])), Some(Salts([2; 8])));
        let rows = [
            // No restart.
            ((old, old), at(9, 4), at(9, 4), Some(at(9, 4))),
            // No restart, but a commit and a checkpoint between the two observations.
            ((old, old), at(9, 4), at(11, 9), Some(at(11, 4))),
            // No restart, but a commit and a checkpoint during the first observation.
            ((old, old), at(9, 9), at(11, 9), Some(at(11, 9))),
            // A restart during the first observation.
            ((old, old), at(9, 0), at(0, 0), None),
            // A restart during the first observation, then a commit.
            ((old, new), at(9, 0), at(3, 0), None),
            // A restart during the first observation, then a commit of as many frames as before.
            ((old, new), at(9, 0), at(9, 0), None),
            // A restart between the two observations.
            ((old, old), at(9, 9), at(0, 0), None),
            // A restart just before the first observation.
            ((old, old), at(0, 9), at(0, 0), Some(at(0, 0))),
            // A restart after a TRUNCATE.
            ((None, new), at(0, 0), at(3, 0), None),
            // A restart after the second observation.
            ((old, old), at(9, 9), at(9, 9), Some(at(9, 9))),
        ];
        for (salts, first, second, expected) in rows {
            assert_eq!(of_one_generation(salts, first, second), expected, "{salts:?} {first:?} {second:?}");
        }
    }
}
