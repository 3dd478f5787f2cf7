//! The watcher's folder beside the database: lock, identity and local logs.
//!
//! ```text
//! NAME-pitr/
//!   lock                 held while a watcher or a backup runs
//!   identity             repository and source of the logs
//!   alive                time up to which the log was complete, for a killed watcher
//!   pages                checksums of a sample of the database's pages
//!   warned               SQLite version of the last warning, and its time
//!   control              socket on which a running watcher takes requests
//!   timeline-00000001/   the local log of a timeline
//! ```
//! Losing the folder means a gap in the archive, never a wrong answer: a restore needs nothing in
//! it.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pitr_format::bytes::{Put, Reader};
use pitr_format::{SourceName, TimelineId, Timestamp};
use pitr_vfs::{Access, Attributes, File, FileSystem, Lock};

use crate::error::{Error, Result};
use crate::source::with_suffix;

const IDENTITY_BYTES_MAX: u64 = 4096;

const DAY_MICROS: u64 = 86_400_000_000;

/// The last warning.
struct Warned {
    about: u32,
    at: Timestamp,
}

impl Warned {
    const BYTES: usize = 12;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.put_u32(self.about);
        bytes.put_i64(self.at.micros());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let about = r.u32("warning").ok()?;
        Some(Warned { about, at: Timestamp::from_micros(r.i64("warning").ok()?) })
    }
}

/// The folder, locked.
pub struct State {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    _lock: Lock,
    /// Device and inode of the lock file.
    lock_file: (u64, u64),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The default folder of a database: `NAME-pitr` beside it.
#[must_use]
pub fn default_dir(database: &Path) -> PathBuf {
    with_suffix(database, "-pitr")
}

/// Opens or creates a small file of a watcher's folder.
pub(crate) fn open_or_create(fs: &dyn FileSystem, path: &Path) -> std::io::Result<Arc<dyn File>> {
    if fs.exists(path)? { fs.open(path, Access::ReadWrite) } else { fs.create_new(path) }
}

/// Path of the socket on which a running watcher takes requests.
#[must_use]
pub fn control_path(dir: &Path) -> PathBuf {
    dir.join("control")
}

impl State {
    /// Creates the folder if needed, locks it, and checks that it belongs to this repository and
    /// source.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        repository: [u8; 16],
        source: &SourceName,
    ) -> Result<Self> {
        let io = |e| Error::StateFolder { path: dir.to_owned(), source: e };
        fs.create_dir_all(dir).map_err(io)?;
        let lock = fs.lock(&dir.join("lock")).map_err(io)?;
        let ours = identity(repository, source);
        let Some(lock) = lock else {
            // The process that holds the folder may work for another repository or source. Then it
            // must not get our requests.
            check_identity(fs.as_ref(), dir, &ours)?;
            return Err(Error::Locked { dir: dir.to_owned() });
        };
        if !check_identity(fs.as_ref(), dir, &ours)? {
            put_identity(fs.as_ref(), dir, &ours)?;
        }
        let lock_file = lock_file(dir).map_err(io)?;
        Ok(State { fs, dir: dir.to_owned(), _lock: lock, lock_file })
    }

    /// Fails if the folder is no longer the one that was opened.
    ///
    /// # Errors
    /// [`Error::StateGone`].
    pub fn check_in_place(&self) -> Result<()> {
        match lock_file(&self.dir) {
            Ok(now) if now == self.lock_file => Ok(()),
            _ => Err(Error::StateGone { dir: self.dir.clone() }),
        }
    }

    /// True if this warning was not given within the last day. It then counts as given.
    pub fn should_warn(&self, about: u32, now: Timestamp) -> bool {
        let mark = Warned { about, at: now };
        // If the mark can't be read or written, the warning is repeated needlessly.
        let Ok(file) = open_or_create(self.fs.as_ref(), &self.dir.join("warned")) else { return true };
        let mut bytes = [0; Warned::BYTES];
        let before = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| Warned::decode(&bytes));
        let again = before.is_none_or(|before| {
            before.about != about || now.since(before.at).max(before.at.since(now)) >= DAY_MICROS
        });
        if again {
            let _ = file.write_all_at(&mark.encode(), 0);
        }
        again
    }

    /// Removes permissions of the folder that the database's file doesn't give: the local log holds
    /// the database's content, and earlier versions made the folder readable by everybody (FAILURES
    /// 58). A folder that holds anything else stays as it is.
    pub fn restrict_mode_to(&self, database: &Path) -> Result<()> {
        let io = |source| Error::StateFolder { path: self.dir.clone(), source };
        let is_ours = |name: &OsString| {
            name.to_str().is_some_and(|name| {
                matches!(name, "lock" | "identity" | "alive" | "pages" | "warned" | "control")
                    || name.starts_with("timeline-")
                    || name.ends_with(".new")
            })
        };
        let of = |path: &Path| self.fs.attributes(path).map_err(io);
        let (Some(folder), Some(database)) = (of(&self.dir)?, of(database)?) else { return Ok(()) };
        let may_read = database.mode & 0o444;
        let mode = folder.mode & (0o700 | database.mode & 0o066 | may_read >> 2);
        if mode == folder.mode || !self.fs.list(&self.dir).map_err(io)?.iter().all(is_ours) {
            return Ok(());
        }
        self.fs.set_attributes(&self.dir, Attributes { mode, ..folder }).map(drop).map_err(io)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of the local log of `timeline`.
    #[must_use]
    pub fn log_dir(&self, timeline: TimelineId) -> PathBuf {
        self.dir.join(format!("timeline-{:08x}", timeline.get()))
    }

    /// The timelines that have a local log, oldest first.
    pub fn timelines(&self) -> Result<Vec<TimelineId>> {
        let names = self.fs.list(&self.dir).map_err(|e| Error::Open { path: self.dir.clone(), source: e })?;
        Ok(logs(&names))
    }

    /// Renames an unusable local log. Nothing of it is deleted. Returns its new path.
    pub fn set_aside(&self, timeline: TimelineId, suffix: &str) -> Result<PathBuf> {
        let from = self.log_dir(timeline);
        let to = with_suffix(&from, &format!(".set-aside-{suffix}"));
        let io = |e| Error::Open { path: from.clone(), source: e };
        self.fs.publish(&from, &to).map_err(io)?;
        self.fs.sync_dir(&self.dir).map_err(io)?;
        Ok(to)
    }
}

fn lock_file(dir: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(dir.join("lock"))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The timelines of the local logs in the folder, oldest first, if the folder belongs to this
/// repository and source. Nothing is locked or created.
pub(crate) fn local_logs(
    fs: &dyn FileSystem,
    dir: &Path,
    repository: [u8; 16],
    source: &SourceName,
) -> Result<Vec<TimelineId>> {
    match check_identity(fs, dir, &identity(repository, source)) {
        Ok(true) => {}
        Ok(false) | Err(Error::ForeignState { .. }) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    }
    let names = fs.list(dir).map_err(|e| Error::Open { path: dir.to_owned(), source: e })?;
    Ok(logs(&names))
}

/// The timelines of the local logs among these names, oldest first.
fn logs(names: &[OsString]) -> Vec<TimelineId> {
    let number = |name: &str| u32::from_str_radix(name.strip_prefix("timeline-")?, 16).ok();
    let mut found: Vec<_> =
        names.iter().filter_map(|n| n.to_str()).filter_map(number).map(TimelineId::new).collect();
    found.sort_unstable();
    found
}

/// Checks that the folder belongs to this watch. False if it has no identity yet.
fn check_identity(fs: &dyn FileSystem, dir: &Path, ours: &str) -> Result<bool> {
    let path = dir.join("identity");
    let io = |e| Error::Open { path: path.clone(), source: e };
    if !fs.exists(&path).map_err(io)? {
        return Ok(false);
    }
    let file = fs.open(&path, Access::Read).map_err(io)?;
    let len = file.len().map_err(io)?.min(IDENTITY_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    if bytes == ours.as_bytes() {
        return Ok(true);
    }
    let found = String::from_utf8_lossy(&bytes).replace('\n', " ");
    Err(Error::ForeignState { dir: dir.to_owned(), found })
}

fn put_identity(fs: &dyn FileSystem, dir: &Path, ours: &str) -> Result<()> {
    let path = dir.join("identity");
    let io = |e| Error::Open { path: path.clone(), source: e };
    let aside = dir.join("identity.new");
    if fs.exists(&aside).map_err(io)? {
        fs.remove_file(&aside).map_err(io)?;
    }
    let file = fs.create_new(&aside).map_err(io)?;
    file.write_all_at(ours.as_bytes(), 0).and_then(|()| file.sync_all()).map_err(io)?;
    fs.publish(&aside, &path).and_then(|()| fs.sync_dir(dir)).map_err(io)
}

fn identity(repository: [u8; 16], source: &SourceName) -> String {
    let id: String = repository.iter().map(|b| format!("{b:02x}")).collect();
    format!("pitr state 1\nrepository {id}\nsource {source}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitr_vfs::OsFs;

    #[test]
    fn the_folder_is_as_readable_as_the_database() {
        // FAILURES 58
        let dir = tempfile::tempdir().unwrap();
        let (path, database) = (dir.path().join("app.db-pitr"), dir.path().join("app.db"));
        let ours = OsFs.attributes(dir.path()).unwrap().unwrap();
        let set = |path: &Path, mode| OsFs.set_attributes(path, Attributes { mode, ..ours }).unwrap();
        std::fs::write(&database, b"").unwrap();
        let state = State::open(Arc::new(OsFs), &path, [1; 16], &SourceName::new("app").unwrap()).unwrap();
        let mode = || OsFs.attributes(&path).unwrap().unwrap().mode;
        assert_eq!(mode(), 0o700);
        for ours in ["alive", "alive.new", "pages", "pages.new", "control", "timeline-00000001"] {
            std::fs::write(path.join(ours), b"").unwrap();
        }
        assert!(state.should_warn(1, Timestamp::MIN));
        let warned = OsFs.attributes(&path.join("warned")).unwrap().unwrap();
        assert_eq!(warned.mode, 0o600);
        for (folder, of_database, narrowed) in
            [(0o755, 0o600, 0o700), (0o755, 0o640, 0o750), (0o755, 0o644, 0o755), (0o700, 0o666, 0o700)]
        {
            set(&path, folder);
            set(&database, of_database);
            state.restrict_mode_to(&database).unwrap();
            assert_eq!(mode(), narrowed, "{folder:o} {of_database:o}");
        }
        // A folder that holds other files is not the watcher's alone.
        std::fs::write(path.join("other"), b"").unwrap();
        set(&path, 0o755);
        set(&database, 0o600);
        state.restrict_mode_to(&database).unwrap();
        assert_eq!(mode(), 0o755);
    }

    #[test]
    fn a_warning_is_given_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db-pitr");
        let state = State::open(Arc::new(OsFs), &path, [1; 16], &SourceName::new("app").unwrap()).unwrap();
        let at = |hours: i64| Timestamp::from_micros(hours * 3_600_000_000);
        let asked = [
            (3_040_001, 0),
            (3_040_001, 1),
            (3_040_001, 23),
            (3_040_001, 24),
            (3_050_000, 25),
            (3_050_000, 26),
        ];
        assert_eq!(
            asked.map(|(about, hours)| state.should_warn(about, at(hours))),
            [true, false, false, true, true, false]
        );
    }

    #[test]
    fn the_folder_serves_one_process_of_its_own_repository_and_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db-pitr");
        let open = |repository, source: &str| {
            State::open(Arc::new(OsFs), &path, [repository; 16], &SourceName::new(source).unwrap())
        };
        let first = open(1, "app").unwrap();
        assert!(matches!(open(1, "app"), Err(Error::Locked { .. })));
        drop(first);
        assert!(open(1, "app").is_ok());
        assert!(matches!(open(2, "app"), Err(Error::ForeignState { .. })));
        assert!(matches!(open(1, "other"), Err(Error::ForeignState { .. })));
    }
}
