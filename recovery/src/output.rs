//! Where the result goes: the temporary file beside it, what may not stand there, and how it gets its name.
//!
//! # Promises
//! - The output never holds anything but what stood there before, or the whole result (law 4).
//! - The temporary file bears a mark in its first sector until everything else is durable: a leftover does not open as
//!   a database (FAILURES 32). The first sector is written last and alone, since a disk writes a sector whole or not at
//!   all.
//! - A journal that stands beside the output would be replayed into it: the output is refused with it (FAILURES 43).
//! - `force` moves what stands there aside, together, so that it still opens; nothing is deleted.
//! - The result is readable by those who could read what stood at the output, or else the source; while it is built, by its owner
//!   alone (FAILURES 58).
//! - A result that does not fit is refused before anything is written.

use crate::error::{Error, Result};
use pitr_format::Timestamp;
use pitr_vfs::{Access, Attributes, File, FileSystem, Lock};
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

/// The place of an output, locked and free to be built at.
pub(crate) struct Place<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    folder: PathBuf,
    partial: PathBuf,
    lock_path: PathBuf,
    lock: Option<Lock>,
}

impl<'a> Place<'a> {
    /// Locks the place, refuses what stands there unless `force`, and removes the leftover of an interrupted restore to
    /// the same output.
    pub(crate) fn take(fs: &'a dyn FileSystem, path: &Path, force: bool) -> Result<Self> {
        let (path, folder) = split(path)?;
        if !exists(fs, &folder)? {
            return Err(Error::NoFolder { path: folder });
        }
        let (partial, lock_path) = (beside(&path, ".pitr-partial"), beside(&path, ".pitr-lock"));
        // Whatever keeps the lock's file from being created keeps every file from being created there.
        let lock = fs.lock(&lock_path).map_err(Error::io("create files in", &folder))?;
        let lock = Some(lock.ok_or(Error::Locked { path: path.clone() })?);
        // From here on its file is removed with it.
        let place = Place { fs, path, folder, partial, lock_path, lock };
        if let (false, Some(taken)) = (force, standing(fs, &place.path)?.into_iter().next()) {
            return Err(Error::Exists { path: taken });
        }
        if exists(fs, &place.partial)? {
            fs.remove_file(&place.partial).map_err(Error::io("remove", &place.partial))?;
        }
        Ok(place)
    }

    /// Creates the temporary file.
    pub(crate) fn create(self) -> Result<Output<'a>> {
        let file = self.fs.create_private(&self.partial).map_err(Error::io("create", &self.partial))?;
        let output = Output { place: self, file, published: false };
        output.file.write_all_at(MARK, 0).map_err(output.failed("write"))?;
        Ok(output)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // While the lock is held: whoever opened the file before finds it locked and gives up.
        let _ = self.fs.remove_file(&self.lock_path);
        self.lock = None;
    }
}

/// Refuses a result that does not fit.
///
/// All bytes count: that some are zeros and become holes, and that some stand at the output already, is not relied on, since
/// what stands there is moved aside and keeps its room.
pub(crate) fn check_room(fs: &dyn FileSystem, path: &Path, needed: u64) -> Result<Option<u64>> {
    let (path, folder) = split(path)?;
    if !exists(fs, &folder)? {
        return Err(Error::NoFolder { path: folder });
    }
    let Some(free) = fs.free_bytes(&folder).map_err(Error::io("look at", &folder))? else { return Ok(None) };
    // The leftover of an interrupted restore is removed first.
    let leftover = match fs.open(&beside(&path, ".pitr-partial"), Access::Read) {
        Ok(file) => file.len().unwrap_or(0),
        Err(_) => 0,
    };
    let free = free.saturating_add(leftover);
    if needed > free { Err(Error::NoRoom { needed, free, folder }) } else { Ok(Some(free)) }
}

/// The path without a slash at its end, since names beside it are made from it, and its folder.
fn split(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or(Error::Output { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder.join(name), folder))
}

/// An output that is being built. Dropped unpublished, it removes its temporary file.
pub(crate) struct Output<'a> {
    place: Place<'a>,
    file: Arc<dyn File>,
    published: bool,
}

impl Output<'_> {
    /// The temporary file.
    pub(crate) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    /// Errors of working on the temporary file.
    pub(crate) fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(op, &self.place.partial)
    }

    /// Makes the file durable, puts its head in place of the mark, and gives it its name. `attributes` are those of the
    /// source: the result gets them unless something stands at the output, whose attributes it gets then.
    pub(crate) fn publish(
        mut self,
        head: &[u8],
        attributes: Option<Attributes>,
        force: bool,
        now: Timestamp,
    ) -> Result<Published> {
        let (first, rest) = head.split_at(head.len().min(SECTOR_BYTES));
        if !rest.is_empty() {
            self.file.write_all_at(rest, SECTOR_BYTES as u64).map_err(self.failed("write"))?;
        }
        self.file.sync_all().map_err(self.failed("sync"))?;
        self.file.write_all_at(first, 0).map_err(self.failed("write"))?;
        let not_given = self.place.dress(attributes)?;
        self.file.sync_all().map_err(self.failed("sync"))?;
        let moved_aside = self.place.publish(force, now)?;
        self.published = true;
        let Place { fs, folder, .. } = &self.place;
        fs.sync_dir(folder).map_err(Error::io("sync", folder))?;
        Ok(Published { moved_aside, not_given })
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // Nobody waits for the outcome: a leftover is harmless and the next restore removes it.
        if !self.published {
            let _ = self.place.fs.remove_file(&self.place.partial);
        }
    }
}

/// What publishing did besides.
pub(crate) struct Published {
    /// What stood at the output, under its new names.
    pub(crate) moved_aside: Vec<PathBuf>,
    /// The attributes that the result should have and could not be given.
    pub(crate) not_given: Option<Attributes>,
}

impl Place<'_> {
    /// Gives the temporary file its attributes. Where that can't be done it stays its owner's alone.
    fn dress(&self, source: Option<Attributes>) -> Result<Option<Attributes>> {
        let standing = match exists(self.fs, &self.path)? {
            true => self.fs.attributes(&self.path).ok().flatten(),
            false => None,
        };
        let wanted = standing.or(source);
        let is_given =
            |wanted: &Attributes| matches!(self.fs.set_attributes(&self.partial, *wanted), Ok(true));
        Ok(wanted.filter(|wanted| !is_given(wanted)))
    }

    /// Gives the temporary file its name, once what stands there was moved aside.
    fn publish(&self, force: bool, now: Timestamp) -> Result<Vec<PathBuf>> {
        let moved = if force { self.move_aside(now)? } else { Vec::new() };
        // A file created since the first check is kept.
        if let Some(taken) = standing(self.fs, &self.path)?.into_iter().next() {
            return Err(Error::Exists { path: taken });
        }
        match self.fs.publish(&self.partial, &self.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { path: self.path.clone() })
            }
            other => other.map_err(Error::io("publish", &self.path)).map(|()| moved),
        }
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
