//! Where the result goes: the temporary file beside it, what may not stand there, and how it gets its name.
//!
//! # Promises
//! - The output never holds anything but what stood there before, or the whole result (law 4).
//! - The temporary file bears a mark in its first sector until everything else is durable: a leftover does not open as
//!   a database (FAILURES 32). The first sector is written last and alone, since a disk writes a sector whole or not at
//!   all.
//! - A journal that stands beside the output would be replayed into it: the output is refused with it (FAILURES 43).
//! - `force` moves what stands there aside, together, so that it still opens; nothing is deleted.
//! - Nobody but its owner reads what is restored, or those who could read what stood there.

use crate::error::{Error, Result};
use pitr_format::Timestamp;
use pitr_vfs::{File, FileSystem, Lock};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What stands at the head of a file that is being built.
pub(crate) const MARK: &[u8] = b"pitr: an unfinished restore, not a database\n";
/// What a disk writes whole or not at all, bytes.
const SECTOR_BYTES: usize = 512;
/// Names beside a database that belong to it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// An output that is being built. Dropped unpublished, it removes its temporary file.
pub(crate) struct Output<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    folder: PathBuf,
    partial: PathBuf,
    lock_path: PathBuf,
    lock: Option<Lock>,
    file: Arc<dyn File>,
    published: bool,
}

impl<'a> Output<'a> {
    /// Locks the output, refuses what stands there unless `force`, and creates the temporary file. A leftover of an
    /// interrupted restore to the same output is removed.
    pub(crate) fn begin(fs: &'a dyn FileSystem, path: &Path, force: bool) -> Result<Self> {
        let (folder, path) = place(path)?;
        let path = &path;
        let (partial, lock_path) = (beside(path, ".pitr-partial"), beside(path, ".pitr-lock"));
        let lock = fs.lock(&lock_path).map_err(Error::io("lock", &lock_path))?;
        let lock = lock.ok_or(Error::Locked { path: path.to_owned() })?;
        let made = Self::create(fs, path, &partial, force);
        if made.is_err() {
            // The lock file says nothing that is needed; what went wrong is told already.
            let _ = fs.remove_file(&lock_path);
        }
        let (path, lock) = (path.to_owned(), Some(lock));
        Ok(Output { fs, path, folder, partial, lock_path, lock, file: made?, published: false })
    }

    fn create(fs: &dyn FileSystem, path: &Path, partial: &Path, force: bool) -> Result<Arc<dyn File>> {
        check_free(fs, path, force)?;
        if exists(fs, partial)? {
            fs.remove_file(partial).map_err(Error::io("remove", partial))?;
        }
        let file = fs.create_private(partial).map_err(Error::io("create", partial))?;
        file.write_all_at(MARK, 0).map_err(Error::io("write", partial))?;
        Ok(file)
    }

    /// The temporary file.
    pub(crate) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    /// Errors of working on the temporary file.
    pub(crate) fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(op, &self.partial)
    }

    /// Makes the file durable, puts its head in place of the mark, and gives it its name. Returns what was moved aside.
    pub(crate) fn publish(mut self, head: &[u8], force: bool, now: Timestamp) -> Result<Vec<PathBuf>> {
        let (first, rest) = head.split_at(head.len().min(SECTOR_BYTES));
        if !rest.is_empty() {
            self.file.write_all_at(rest, SECTOR_BYTES as u64).map_err(self.failed("write"))?;
        }
        self.file.sync_all().map_err(self.failed("sync"))?;
        self.file.write_all_at(first, 0).map_err(self.failed("write"))?;
        self.file.sync_all().map_err(self.failed("sync"))?;
        if exists(self.fs, &self.path)? {
            // Where that can't be done it stays its owner's alone.
            let _ = self.fs.share_like(&self.partial, &self.path);
        }
        let moved = if force { self.move_aside(now)? } else { Vec::new() };
        // Whoever made a file here meanwhile, keeps it.
        if let Some(taken) = standing(self.fs, &self.path)?.into_iter().next() {
            return Err(Error::Exists { path: taken });
        }
        match self.fs.publish(&self.partial, &self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { path: self.path.clone() });
            }
            other => other.map_err(Error::io("publish", &self.path))?,
        }
        self.published = true;
        self.fs.sync_dir(&self.folder).map_err(Error::io("sync", &self.folder))?;
        Ok(moved)
    }

    /// Gives what stands at the output another name: the database first, so that it is never left without its journal
    /// under a name that someone opens.
    fn move_aside(&self, now: Timestamp) -> Result<Vec<PathBuf>> {
        let stamp: String = now.to_string().chars().filter(|c| *c != ':' && *c != '-').collect();
        let aside = beside(&self.path, &format!(".before-{stamp}"));
        let mut moved = Vec::new();
        for (from, suffix) in names(&self.path) {
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
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // Nobody waits for the outcome: a leftover is harmless and the next restore removes it.
        if !self.published {
            let _ = self.fs.remove_file(&self.partial);
        }
        // While the lock is held: whoever opened the file before finds it locked and gives up.
        let _ = self.fs.remove_file(&self.lock_path);
        self.lock = None;
    }
}

/// Errors if the output, or a name beside it, is taken and may not be moved aside. Writes nothing.
pub(crate) fn check_free(fs: &dyn FileSystem, path: &Path, force: bool) -> Result<()> {
    let (_, path) = place(path)?;
    match standing(fs, &path)?.into_iter().next() {
        Some(taken) if !force => Err(Error::Exists { path: taken }),
        _ => Ok(()),
    }
}

/// The folder of an output, and the output without a slash at its end: names beside it are made from it.
fn place(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or(Error::Output { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let path = folder.join(name);
    Ok((folder, path))
}

/// What stands at the output or beside it.
fn standing(fs: &dyn FileSystem, path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (name, _) in names(path) {
        if exists(fs, &name)? {
            found.push(name);
        }
    }
    Ok(found)
}

/// The output and the names beside it that belong to it.
fn names(path: &Path) -> impl Iterator<Item = (PathBuf, &'static str)> {
    std::iter::once("").chain(COMPANIONS).map(|suffix| (beside(path, suffix), suffix))
}

fn exists(fs: &dyn FileSystem, path: &Path) -> Result<bool> {
    fs.exists(path).map_err(Error::io("look at", path))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
