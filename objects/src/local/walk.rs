//! Lists a folder, which may contain foreign files (FAILURES 59).
//!
//! Foreign entries are reported and never block the listing of objects. Entries that may hide
//! objects, such as an unreadable folder of the layout, are marked: the rest of such a listing is
//! not the whole repository (FAILURES 20).

use super::{STORE, meta};
use crate::layout::may_hold_objects;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectMeta, Result};
use pitr_vfs::{FileSystem, Metadata, NotAFile};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An entry of the repository's folder that is not an object.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {what}")]
pub struct Stray {
    /// Path of the entry within the repository; for people only, if it is not UTF-8.
    pub path: String,
    /// The kind of the entry.
    pub what: StrayKind,
    /// True if the entry may contain objects that this listing lacks.
    pub may_hide_objects: bool,
}

/// The kind of a [`Stray`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StrayKind {
    /// Neither file nor folder.
    NotAFile(NotAFile),
    /// A symbolic link to nothing.
    Dangling,
    /// A symbolic link to a folder above itself, or to itself.
    Loop,
    /// A symbolic link to a folder, where the repository has none.
    LinkedFolder,
    /// A name that no object can have.
    Name,
    /// The entry can't be read.
    Unreadable(Arc<io::Error>),
}

impl fmt::Display for StrayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrayKind::NotAFile(found) => found.fmt(f),
            StrayKind::Dangling => f.write_str("a symbolic link to nothing"),
            StrayKind::Loop => f.write_str("a loop of symbolic links"),
            StrayKind::LinkedFolder => {
                f.write_str("a symbolic link to a folder that is not part of the repository")
            }
            StrayKind::Name => f.write_str("a name that no object has"),
            StrayKind::Unreadable(error) => write!(f, "it can't be read: {error}"),
        }
    }
}

/// Lists the objects below `prefix` in the folder `root`, unordered. A missing folder counts as
/// empty. An entry that is not an object is returned as an error with a [`Stray`] as its source.
pub(super) fn walk(fs: &dyn FileSystem, root: &Path, prefix: &str) -> Vec<Result<ObjectMeta>> {
    let mut walk = Walk { fs, found: Vec::new(), above: Vec::new() };
    let top = if prefix.is_empty() { root.to_owned() } else { root.join(prefix) };
    match fs.metadata(&top) {
        Ok(found) if found.is_folder() => walk.folder(&top, prefix, &found),
        // A file has nothing below it.
        Ok(_) => {}
        Err(error) if is_absent(&error) => {}
        Err(error) => walk.stray(prefix, StrayKind::Unreadable(error.into())),
    }
    walk.found
}

struct Walk<'f> {
    fs: &'f dyn FileSystem,
    found: Vec<Result<ObjectMeta>>,
    /// The folders on the path to this one, by device and inode.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, path: &str, found: &Metadata) {
        if self.above.contains(&found.id) {
            return self.stray(path, StrayKind::Loop);
        }
        let names = match self.fs.list(folder) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => return, // deleted since
            Err(error) => return self.stray(path, StrayKind::Unreadable(error.into())),
        };
        self.above.push(found.id);
        names.iter().for_each(|name| self.entry(&folder.join(name), name, path));
        self.above.pop();
    }

    fn entry(&mut self, at: &Path, name: &OsStr, folder: &str) {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let path = format!("{below}{}", name.to_string_lossy());
        let found = match self.fs.metadata(at) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => match self.fs.exists(at) {
                Ok(true) => return self.stray(&path, StrayKind::Dangling),
                _ => return, // deleted since
            },
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return self.stray(&path, StrayKind::Loop);
            }
            Err(error) => return self.stray(&path, StrayKind::Unreadable(error.into())),
        };
        if let Some(other) = found.other.filter(|other| *other != NotAFile::Folder) {
            return self.stray(&path, StrayKind::NotAFile(other));
        }
        // The lossy conversion changes only names that no object can have.
        let location = name.to_str().and_then(|_| ObjectPath::parse(&path).ok());
        let Some(location) = location.filter(|location| location.as_ref() == path) else {
            return self.stray(&path, StrayKind::Name);
        };
        match found.is_folder() {
            true if found.is_link && !may_hold_objects(&path) => self.stray(&path, StrayKind::LinkedFolder),
            true => self.folder(at, &path, &found),
            false if is_staged(&path) => {}
            false => self.found.push(Ok(meta(location, found.len))),
        }
    }

    fn stray(&mut self, path: &str, what: StrayKind) {
        let may_hide_objects = match what {
            StrayKind::Unreadable(_) | StrayKind::Dangling => may_hold_objects(path),
            _ => false,
        };
        let stray = Stray { path: path.to_owned(), what, may_hide_objects };
        self.found.push(Err(Error::Generic { store: STORE, source: stray.into() }));
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// True for a temporary file of a put.
pub(super) fn is_staged(path: &str) -> bool {
    let suffix = path.rsplit_once('#').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listing, Objects};
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn strays_are_named_and_hide_nothing() {
        // FAILURES 59
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("packs/ab")).unwrap();
        fs::write(at("packs/ab/c"), b"123").unwrap();
        fs::write(at("packs/ab/new#1"), b"half").unwrap();
        fs::write(at("repository"), b"1").unwrap();
        fs::write(at(".DS_Store"), b"").unwrap();
        mknodat(CWD, at("packs/ab/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink(at("packs"), at("packs/cd")).unwrap();
        symlink(at("itself"), at("itself")).unwrap();
        symlink(at("nothing"), at("gone")).unwrap();
        symlink("/", at("everything")).unwrap();
        symlink(at("nothing"), at("index")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), b"").unwrap();
        let objects = Objects::local(dir.path()).unwrap();
        let list = |prefix: &str| objects.listing(prefix).unwrap();
        let Listing { entries, strays } = list("");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [".DS_Store", "packs/ab/c", "repository"]);
        assert_eq!(entries[1].size, 3);
        let told: Vec<_> = strays.iter().map(|stray| (stray.path.as_str(), stray.may_hide_objects)).collect();
        let quiet = ["everything", "gone", "itself"].map(|path| (path, false));
        let more = [("index", true), ("\u{fffd}", false), ("packs/ab/pipe", false), ("packs/cd", false)];
        let mut expected = [&quiet[..], &more[..]].concat();
        expected.sort();
        assert_eq!(told, expected, "{strays:?}");
        assert_eq!(list("packs/ab").entries, entries[1..2]);
        for nothing in ["none", "repository", "packs/none/none"] {
            assert!(list(nothing).entries.is_empty(), "{nothing}");
        }
    }
}
