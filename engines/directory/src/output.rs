//! Where a restored folder goes: the temporary folder beside it, what may not stand there, and how it gets its name.

use crate::{Error, Result};
use pitr_format::Timestamp;
use pitr_vfs::{FileSystem, OsFs};
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A folder that is being built under a temporary name, by one restore at a time. Dropped unpublished, it removes what was built.
pub struct OutputFolder {
    path: PathBuf,
    parent: PathBuf,
    partial: PathBuf,
    lock_path: PathBuf,
    lock: Option<pitr_vfs::Lock>,
    /// The lock file stays: it marks the partial folder as a leftover of a pitr restore.
    keeps_lock: bool,
    published: bool,
}

impl std::fmt::Debug for OutputFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl OutputFolder {
    /// Locks the output, refuses an existing one unless `force`, removes the leftover of an interrupted restore to the same
    /// output, and makes the temporary folder, which nobody else may enter.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InTheWay`], [`Error::Locked`], [`Error::NoFolder`], [`Error::Output`], [`Error::Io`].
    pub fn begin(path: &Path, force: bool) -> Result<Self> {
        let (path, parent) = &split(path)?;
        if !exists(parent)? {
            return Err(Error::NoFolder { path: parent.clone() });
        }
        let (partial, lock_path) = (beside(path, ".pitr-partial"), beside(path, ".pitr-lock"));
        // A killed restore leaves both. A partial folder without the lock file is not a leftover of pitr.
        let was_ours = exists(&lock_path)?;
        let keeps_lock = was_ours && exists(&partial)?;
        // Whatever keeps the lock's file from being created keeps every file from being created there.
        let lock = OsFs.lock(&lock_path).map_err(Error::io("create files in", parent))?;
        let lock = lock.ok_or(Error::Locked { path: path.to_owned() })?;
        let mut output = OutputFolder {
            path: path.to_owned(),
            parent: parent.to_owned(),
            partial,
            lock_path,
            lock: Some(lock),
            keeps_lock,
            published: true, // nothing of ours is there yet
        };
        if exists(path)? && !force {
            return Err(Error::Exists { path: path.to_owned() });
        }
        if exists(&output.partial)? {
            if !was_ours {
                return Err(Error::InTheWay { path: output.partial.clone() });
            }
            remove_all(&output.partial).map_err(Error::io("remove", &output.partial))?;
        }
        output.keeps_lock = false;
        // Nobody else looks in before everything has its own mode.
        let made = DirBuilder::new().mode(0o700).create(&output.partial);
        made.map_err(Error::io("make", &output.partial))?;
        output.published = false;
        Ok(output)
    }

    /// The temporary folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Makes the folders of a relative path below the temporary folder, and makes their names durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_dirs(&self, relative: &Path) -> Result<()> {
        let mut folder = self.partial.clone();
        for part in relative {
            let parent = folder.clone();
            folder.push(part);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(Error::io("make", &folder))?;
                    OsFs.sync_dir(&parent).map_err(Error::io("sync", &parent))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the folder, which must be durable, its name. Returns what was moved aside.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    pub fn publish(mut self, force: bool, now: Timestamp) -> Result<Option<PathBuf>> {
        let mut moved = None;
        if force && exists(&self.path)? {
            let stamp: String = now.to_string().chars().filter(|c| *c != ':' && *c != '-').collect();
            let aside = beside(&self.path, &format!(".before-{stamp}"));
            OsFs.publish(&self.path, &aside).map_err(Error::io("move aside", &self.path))?;
            moved = Some(aside);
        }
        match OsFs.publish(&self.partial, &self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { path: self.path.clone() });
            }
            other => other.map_err(Error::io("publish", &self.path))?,
        }
        self.published = true;
        OsFs.sync_dir(&self.parent).map_err(Error::io("sync", &self.parent))?;
        Ok(moved)
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        // Nobody waits for the outcome: the next restore removes a leftover.
        if !self.published {
            let _ = remove_all(&self.partial);
        }
        if !self.keeps_lock {
            let _ = std::fs::remove_file(&self.lock_path);
        }
        self.lock = None;
    }
}

/// Removes a folder that we made, also when it was given modes that keep us out.
fn remove_all(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return std::fs::remove_file(path); // of a database
    }
    if std::fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    let mut waiting = vec![path.to_owned()];
    while let Some(folder) = waiting.pop() {
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    std::fs::remove_dir_all(path)
}

/// Refuses a result that does not fit. Returns the free bytes, if known.
pub(crate) fn check_room(fs: &dyn FileSystem, path: &Path, needed: u64) -> Result<Option<u64>> {
    let (_, folder) = split(path)?;
    if !exists(&folder)? {
        return Err(Error::NoFolder { path: folder });
    }
    match fs.free_bytes(&folder).map_err(Error::io("look at", &folder))? {
        Some(free) if free < needed => Err(Error::NoRoom { needed, free, folder }),
        free => Ok(free),
    }
}

/// The path without a slash at its end, since names beside it are made from it, and the folder that it is in.
fn split(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or_else(|| Error::Output { path: path.to_owned() })?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent.join(name), parent))
}

fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
