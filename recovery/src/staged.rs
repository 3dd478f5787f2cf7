//! An output, a file or a folder, that is built under a temporary name beside its path and
//! published when it is complete.
//!
//! # Promises
//! - At any moment, the output's path has its earlier content or the whole result (law 4).
//! - Never replaces a file or folder created since the first check.
//! - Touches a leftover only if a restore of pitr made it. The lock file beside the output proves
//!   this: it is durable before anything is built, and it is removed last. If it is missing, a file
//!   of the temporary name is refused (FAILURES 32).
//! - Keeps what an interrupted or failed restore wrote ([`StagedOutput::keep`]). The next restore
//!   to the same output continues with it ([`StagedOutput::resume_file`]). Other files in it
//!   are removed.
//! - Refuses an output with a companion beside it: a journal there would be replayed into the
//!   result (FAILURES 43).
//! - `force` moves the old output aside together with its companions, so that it can still be
//!   opened. Nothing is deleted.
//! - Until it is published, only its owner can read the result (FAILURES 58).

use crate::error::{Error, Result};
use pitr_format::Timestamp;
use pitr_vfs::{Access, Attributes, File, FileSystem, Lock, Metadata};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Suffix of the temporary name.
const PARTIAL: &str = ".pitr-partial";
/// Suffix of the lock file.
const LOCK: &str = ".pitr-lock";
/// Suffix of the name that a temporary file has for a moment.
const SPILL: &str = ".pitr-spill";

/// How an existing output is handled.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputRules<'a> {
    /// Moves an existing output aside instead of refusing it.
    pub force: bool,
    /// Suffixes of files beside the output that belong to it, such as `-wal`.
    pub companions: &'a [&'a str],
}

/// The state of the temporary name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No file of this restore: not begun, or published.
    Clear,
    /// The leftover of an interrupted restore.
    Leftover,
    /// The result, unfinished.
    Building,
}

/// An output that one restore is building. See the module's head.
///
/// Dropped before [`publish`](Self::publish), it removes what was built.
pub struct StagedOutput<'a> {
    fs: &'a dyn FileSystem,
    rules: OutputRules<'a>,
    path: PathBuf,
    folder: PathBuf,
    partial: PathBuf,
    lock_path: PathBuf,
    lock: Option<Lock>,
    stage: Stage,
    /// True to keep an unfinished result.
    is_kept: bool,
    /// Attributes of an output that was taken over.
    had: Option<Attributes>,
}

impl std::fmt::Debug for StagedOutput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedOutput")
            .field("path", &self.path)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<'a> StagedOutput<'a> {
    /// Locks the output, and refuses an existing one unless `force`. The leftover of an interrupted
    /// restore to the same output stays until a result is begun.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InTheWay`], [`Error::Locked`], [`Error::NoFolder`],
    /// [`Error::Output`], [`Error::Io`].
    pub fn take(fs: &'a dyn FileSystem, path: &Path, rules: OutputRules<'a>) -> Result<Self> {
        let (path, folder) = split(path)?;
        if !exists(fs, &folder)? {
            return Err(Error::NoFolder { path: folder });
        }
        let (partial, lock_path) = (beside(&path, PARTIAL), beside(&path, LOCK));
        // Checked before the lock is taken, because taking the lock creates its file.
        if is_foreign(fs, &partial, &lock_path)? {
            return Err(Error::InTheWay { path: partial });
        }
        // A folder in which the lock file can't be created can't get the output either.
        let lock = fs.lock(&lock_path).map_err(Error::io("create files in", &folder))?;
        let lock = Some(lock.ok_or_else(|| Error::Locked { path: path.clone() })?);
        let stage = if exists(fs, &partial)? { Stage::Leftover } else { Stage::Clear };
        let (is_kept, had) = (false, None);
        let staged = StagedOutput { fs, rules, path, folder, partial, lock_path, lock, stage, is_kept, had };
        if !rules.force {
            staged.refuse_existing()?;
        }
        Ok(staged)
    }

    /// Begins a result that is one file, under its temporary name. Returns the file, and true if it
    /// has the content that an interrupted restore left.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_file(&mut self) -> Result<(Arc<dyn File>, bool)> {
        self.claim()?;
        if self.stage == Stage::Leftover {
            if self.is_plain(&self.partial)
                && let Ok(file) = self.fs.open(&self.partial, Access::ReadWrite)
            {
                self.stage = Stage::Building;
                return Ok((file, true));
            }
            self.remove_leftover()?;
        }
        let file = self.fs.create_private(&self.partial).map_err(Error::io("create", &self.partial))?;
        self.stage = Stage::Building;
        Ok((file, false))
    }

    /// Begins a result that is a folder, which only its owner may enter. These folders and files
    /// will be in it. Returns true if some may have the content that an interrupted restore left.
    /// Everything else that it left is removed, links too: they could lead out of the folder
    /// (FAILURES 31).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_folder(&mut self, folders: &[PathBuf], files: &[&Path]) -> Result<bool> {
        let is_folder = |found: Metadata| found.is_folder() && !found.is_link;
        let is_resumed =
            self.stage == Stage::Leftover && self.fs.metadata(&self.partial).is_ok_and(is_folder);
        if !is_resumed {
            self.remove_leftover()?;
        }
        self.claim()?;
        if !is_resumed {
            self.fs.create_dir(&self.partial).map_err(Error::io("create", &self.partial))?;
        }
        self.stage = Stage::Building;
        if is_resumed {
            let folders = folders.iter().map(PathBuf::as_path).collect();
            self.tidy(Path::new(""), &folders, &files.iter().copied().collect())?;
        }
        Ok(is_resumed)
    }

    /// Creates these folders in the result, except those that an interrupted restore left. Their
    /// names are not durable yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create_folders(&self, folders: &[PathBuf]) -> Result<()> {
        folders.iter().try_for_each(|folder| self.create_dir(&self.partial.join(folder)))
    }

    /// Creates a folder. `resume_folder` leaves only folders that are wanted, so an existing one is
    /// accepted.
    fn create_dir(&self, at: &Path) -> Result<()> {
        match self.fs.create_dir(at) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created.map_err(Error::io("create", at)),
        }
    }

    /// Removes what is neither a wanted folder nor a wanted file without a second name.
    fn tidy(&self, inside: &Path, folders: &BTreeSet<&Path>, files: &BTreeSet<&Path>) -> Result<()> {
        let dir = self.partial.join(inside);
        // Only the owner may enter it before it is complete.
        self.fs.set_folder_mode(&dir, 0o700).map_err(Error::io("set the mode of", &dir))?;
        for name in self.fs.list(&dir).map_err(Error::io("list", &dir))? {
            let (path, relative) = (dir.join(&name), inside.join(&name));
            let is_link = self.fs.metadata(&path).map_or(true, |found| found.is_link);
            let is_folder = self.fs.metadata(&path).is_ok_and(|found| found.is_folder());
            if !is_link && is_folder && folders.contains(relative.as_path()) {
                self.tidy(&relative, folders, files)?;
            } else if !files.contains(relative.as_path()) || !self.is_plain(&path) {
                self.fs.remove_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// True for a file with one name and without a link in between.
    fn is_plain(&self, path: &Path) -> bool {
        let is_plain = |found: Metadata| found.other.is_none() && !found.is_link && found.links == 1;
        self.fs.metadata(path).is_ok_and(is_plain)
    }

    /// Gives the existing output the temporary name, so that its content is updated in place. Its
    /// companions are moved aside. From here on, the old state is lost. Without an existing output,
    /// the leftover of an interrupted restore is used.
    ///
    /// # Errors
    /// [`Error::NotInPlace`] if the output is a link, or a file with several names;
    /// [`Error::InUse`]; [`Error::Io`].
    pub(crate) fn take_over(&mut self, is_folder: bool, now: Timestamp) -> Result<()> {
        if !exists(self.fs, &self.path)? {
            return Ok(());
        }
        let found = self.fs.metadata(&self.path).map_err(Error::io("look at", &self.path))?;
        let is_folder = is_folder && found.is_folder() && !found.is_link;
        if !is_folder && !self.is_plain(&self.path) {
            return Err(Error::NotInPlace { path: self.path.clone() });
        }
        if self.fs.is_open_elsewhere(&self.path).map_err(Error::io("look at", &self.path))? {
            return Err(Error::InUse { path: self.path.clone() });
        }
        self.remove_leftover()?;
        self.claim()?;
        self.had = self.fs.attributes(&self.path).ok().flatten();
        self.fs.publish(&self.path, &self.partial).map_err(Error::io("rename", &self.path))?;
        self.stage = Stage::Leftover;
        self.fs.sync_dir(&self.folder).map_err(Error::io("sync", &self.folder))?;
        if let Some(had) = self.had.filter(|_| !is_folder) {
            // Until it is published, only its owner can read the result.
            let private = Attributes { mode: 0o600, ..had };
            self.fs.set_attributes(&self.partial, private).map_err(Error::io("close", &self.partial))?;
        }
        self.move_aside(now).map(drop)
    }

    /// Determines whether an unfinished result is kept when this value is dropped. The next restore
    /// to the same output continues with it. Nothing is kept unless this is called.
    pub fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// The files that a restore to `path` may leave: the output, its unfinished form, and its lock.
    #[must_use]
    pub fn files(path: &Path) -> [PathBuf; 3] {
        [path.to_owned(), beside(path, PARTIAL), beside(path, LOCK)]
    }

    /// The temporary name of an unfinished result that will be kept.
    #[must_use]
    pub(crate) fn kept(&self) -> Option<&Path> {
        (self.is_kept && self.stage == Stage::Building).then_some(&*self.partial)
    }

    /// Path at which a temporary file is created and loses its name at once.
    pub(crate) fn spill_path(&self) -> PathBuf {
        beside(&self.path, SPILL)
    }

    fn remove_leftover(&mut self) -> Result<()> {
        if self.stage == Stage::Leftover {
            self.fs.remove_all(&self.partial).map_err(Error::io("remove", &self.partial))?;
            self.stage = Stage::Clear;
        }
        Ok(())
    }

    /// Makes the lock file durable, so that no crash leaves a result without it. On a file system
    /// whose locks leave no file, creates one.
    fn claim(&self) -> Result<()> {
        if !exists(self.fs, &self.lock_path)? {
            self.fs.create_private(&self.lock_path).map_err(Error::io("create", &self.lock_path))?;
        }
        self.fs.sync_dir(&self.folder).map_err(Error::io("sync", &self.folder))
    }

    /// The temporary name.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Creates the folders of a relative path below the temporary folder; their names are durable
    /// on return.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_dirs(&self, relative: &Path) -> Result<()> {
        let mut folder = self.partial.clone();
        for part in relative {
            let parent = folder.clone();
            folder.push(part);
            self.create_dir(&folder)?;
            // A folder that an interrupted restore left may not be durable.
            self.fs.sync_dir(&parent).map_err(Error::io("sync", &parent))?;
        }
        Ok(())
    }

    /// Gives the result the attributes of the existing output, or else those of its source. Returns
    /// those that could not be set; then only the owner has access.
    pub(crate) fn dress(&self, source: Option<Attributes>) -> Result<Option<Attributes>> {
        let existing = match exists(self.fs, &self.path)? {
            true => self.fs.attributes(&self.path).ok().flatten(),
            false => None,
        };
        let wanted = existing.or(self.had).or(source);
        let is_given =
            |wanted: &Attributes| matches!(self.fs.set_attributes(&self.partial, *wanted), Ok(true));
        Ok(wanted.filter(|wanted| !is_given(wanted)))
    }

    /// Publishes the result, which must be durable. With `force`, an existing output is moved
    /// aside, to a name that contains `now`. Returns the new names of the moved files.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    pub fn publish(mut self, now: Timestamp) -> Result<Vec<PathBuf>> {
        let moved = if self.rules.force { self.move_aside(now)? } else { Vec::new() };
        self.refuse_existing()?;
        match self.fs.publish(&self.partial, &self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { path: self.path.clone() });
            }
            other => other.map_err(Error::io("publish", &self.path))?,
        }
        self.stage = Stage::Clear;
        self.fs.sync_dir(&self.folder).map_err(Error::io("sync", &self.folder))?;
        Ok(moved)
    }

    /// Moves the output and its companions aside. The output comes first, so that it is never
    /// without its journal at a path that a program may open.
    fn move_aside(&self, now: Timestamp) -> Result<Vec<PathBuf>> {
        let stamp: String = now.to_string().chars().filter(|c| *c != ':' && *c != '-').collect();
        let aside = beside(&self.path, &format!(".before-{stamp}"));
        let mut moved = Vec::new();
        for suffix in self.suffixes() {
            let from = beside(&self.path, suffix);
            if exists(self.fs, &from)? {
                let to = beside(&aside, suffix);
                self.fs.publish(&from, &to).map_err(Error::io("move aside", &from))?;
                moved.push(to);
            }
        }
        if !moved.is_empty() {
            self.fs.sync_dir(&self.folder).map_err(Error::io("sync", &self.folder))?;
        }
        Ok(moved)
    }

    fn refuse_existing(&self) -> Result<()> {
        for suffix in self.suffixes() {
            let path = beside(&self.path, suffix);
            if exists(self.fs, &path)? {
                return Err(Error::Exists { path });
            }
        }
        Ok(())
    }

    /// Suffixes of the output itself and of its companions.
    fn suffixes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        std::iter::once("").chain(self.rules.companions.iter().copied())
    }

    /// Removes the unfinished result. True if no leftover needs the lock file any more.
    fn clean_up(&self) -> bool {
        match self.stage {
            Stage::Clear => true,
            Stage::Leftover => false,
            Stage::Building if self.is_kept => false,
            Stage::Building => {
                self.fs.remove_all(&self.partial).is_ok() && self.fs.sync_dir(&self.folder).is_ok()
            }
        }
    }
}

impl Drop for StagedOutput<'_> {
    fn drop(&mut self) {
        // Errors can't be reported here. A leftover keeps its lock file, and the next restore
        // removes both.
        if self.clean_up() {
            // Removed while the lock is held: a process that opened the file before finds it locked
            // and gives up.
            let _ = self.fs.remove_file(&self.lock_path);
        }
        self.lock = None;
    }
}

/// True if a file that no restore of pitr made has the temporary name.
fn is_foreign(fs: &dyn FileSystem, partial: &Path, lock_path: &Path) -> Result<bool> {
    // Another restore that is just ending removes both, so the temporary name is checked twice.
    Ok(exists(fs, partial)? && !exists(fs, lock_path)? && exists(fs, partial)?)
}

/// Refuses a result that does not fit. Returns the free bytes, if known.
///
/// All bytes count, even zeros that become holes, and bytes that an existing output has: it is
/// moved aside and still takes its space.
pub(crate) fn check_room(
    fs: &dyn FileSystem,
    path: &Path,
    needed: u64,
    in_place: bool,
) -> Result<Option<u64>> {
    let (path, folder) = split(path)?;
    if !exists(fs, &folder)? {
        return Err(Error::NoFolder { path: folder });
    }
    let Some(free) = fs.free_bytes(&folder).map_err(Error::io("look at", &folder))? else { return Ok(None) };
    // The leftover of an interrupted restore is used or removed, and an output that is updated in
    // place keeps its space.
    let (partial, lock_path) = (beside(&path, PARTIAL), beside(&path, LOCK));
    let allocated = |path: &Path| fs.metadata(path).map_or(0, |found| found.allocated);
    let mut leftover = if exists(fs, &lock_path)? { allocated(&partial) } else { 0 };
    if in_place {
        leftover = leftover.max(allocated(&path));
    }
    let free = free.saturating_add(leftover);
    if needed > free { Err(Error::NoRoom { needed, free, folder }) } else { Ok(Some(free)) }
}

/// The path without a slash at its end, and its folder. Names beside the output are derived from
/// this path.
fn split(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or_else(|| Error::Output { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder.join(name), folder))
}

fn exists(fs: &dyn FileSystem, path: &Path) -> Result<bool> {
    fs.exists(path).map_err(Error::io("look at", path))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
