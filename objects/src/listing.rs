//! Lists a repository in a local folder, which may contain foreign files (FAILURES 59).
//!
//! Foreign entries are reported and never block the listing of objects. Entries that may hide objects, such as an unreadable folder
//! of the layout, are marked: the rest of such a listing is not the whole repository (FAILURES 20).

use crate::Entry;
use pitr_format::SourceName;
use pitr_vfs::NotAFile;
use rustix::io::Errno;
use std::fmt;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An entry of the repository's folder that is not an object.
#[derive(Debug)]
pub struct Stray {
    /// Its path within the repository; only for people if it is not UTF-8.
    pub path: String,
    /// What it is.
    pub what: StrayKind,
    /// It may contain objects, which this listing lacks.
    pub may_hide_objects: bool,
}

/// What a [`Stray`] is.
#[derive(Debug)]
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
    /// It can't be read.
    Unreadable(io::Error),
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

/// The entries below a folder of a repository.
#[derive(Debug, Default)]
pub struct Listing {
    /// The objects, sorted by path.
    pub entries: Vec<Entry>,
    /// Everything else.
    pub strays: Vec<Stray>,
}

/// Lists the entries below `prefix` in the folder `root`. A missing folder is empty.
pub(crate) fn list(root: &Path, prefix: &str) -> Listing {
    let mut walk = Walk { listing: Listing::default(), above: Vec::new() };
    let top = if prefix.is_empty() { root.to_owned() } else { root.join(prefix) };
    match fs::metadata(&top) {
        Ok(about) if about.is_dir() => walk.folder(&top, prefix, &about),
        // A file has nothing below it.
        Ok(_) => {}
        Err(error) if is_absent(&error) => {}
        Err(error) => walk.stray(prefix, StrayKind::Unreadable(error)),
    }
    let mut listing = walk.listing;
    listing.entries.sort();
    listing.strays.sort_by(|a, b| a.path.cmp(&b.path));
    listing
}

struct Walk {
    listing: Listing,
    /// The folders that lead here, by device and inode.
    above: Vec<(u64, u64)>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, path: &str, about: &Metadata) {
        let identity = (about.dev(), about.ino());
        if self.above.contains(&identity) {
            return self.stray(path, StrayKind::Loop);
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return, // it went since
            Err(error) => return self.stray(path, StrayKind::Unreadable(error)),
        };
        self.above.push(identity);
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, path),
                Err(error) => self.stray(path, StrayKind::Unreadable(error)),
            }
        }
        self.above.pop();
    }

    fn entry(&mut self, entry: &DirEntry, folder: &str) {
        let name = entry.file_name();
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let path = format!("{below}{}", name.to_string_lossy());
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let at = entry.path();
        let about = match fs::metadata(&at) {
            Ok(about) => about,
            Err(error) if is_absent(&error) && is_link => return self.stray(&path, StrayKind::Dangling),
            Err(error) if is_absent(&error) => return, // it went since
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return self.stray(&path, StrayKind::Loop);
            }
            Err(error) => return self.stray(&path, StrayKind::Unreadable(error)),
        };
        if let Some(found) = NotAFile::of(about.file_type()).filter(|found| *found != NotAFile::Folder) {
            return self.stray(&path, StrayKind::NotAFile(found));
        }
        // The lossy conversion changes only names that no object can have.
        let is_ours = name.to_str().is_some() && crate::store::exact_path(&path).is_ok();
        match about.is_dir() {
            _ if !is_ours => self.stray(&path, StrayKind::Name),
            true if is_link && !may_hold_objects(&path) => self.stray(&path, StrayKind::LinkedFolder),
            true => self.folder(&at, &path, &about),
            false if is_staged(&path) => {}
            false => self.listing.entries.push(Entry { path, size: about.len() }),
        }
    }

    fn stray(&mut self, path: &str, what: StrayKind) {
        let may_hide_objects = match what {
            StrayKind::Unreadable(_) | StrayKind::Dangling => may_hold_objects(path),
            _ => false,
        };
        self.listing.strays.push(Stray { path: path.to_owned(), what, may_hide_objects });
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// True for a temporary file of a put.
fn is_staged(path: &str) -> bool {
    let suffix = path.rsplit_once('#').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

/// True if the repository's layout has a folder at this path.
fn may_hold_objects(path: &str) -> bool {
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["" | "packs" | "index" | "sources" | "keys" | "condemned" | "leases"] => true,
        ["packs", two] => digits(two, 2),
        ["keys", id] => digits(id, 32),
        ["keys", id, "slots" | "rings"] => digits(id, 32),
        ["sources", name] => SourceName::new(name).is_ok(),
        ["sources", name, "log" | "epochs" | "timelines" | "snapshots" | "pruned"] => {
            SourceName::new(name).is_ok()
        }
        ["sources", _, "log" | "snapshots" | "pruned", timeline] => digits(timeline, 8),
        ["sources", _, "log" | "snapshots", timeline, epoch] => digits(timeline, 8) && digits(epoch, 16),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::ffi::OsStr;
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
        let Listing { entries, strays } = list(dir.path(), "");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [".DS_Store", "packs/ab/c", "repository"]);
        assert_eq!(entries[1].size, 3);
        let told: Vec<_> = strays.iter().map(|stray| (stray.path.as_str(), stray.may_hide_objects)).collect();
        let quiet = ["everything", "gone", "itself"].map(|path| (path, false));
        let more = [("index", true), ("\u{fffd}", false), ("packs/ab/pipe", false), ("packs/cd", false)];
        let mut expected = [&quiet[..], &more[..]].concat();
        expected.sort();
        assert_eq!(told, expected, "{strays:?}");
        assert_eq!(list(dir.path(), "packs/ab").entries, entries[1..2]);
        for nothing in ["none", "repository", "packs/none/none"] {
            assert!(list(dir.path(), nothing).entries.is_empty(), "{nothing}");
        }
    }

    #[test]
    fn folders_of_the_layout_are_told_from_others() {
        for path in ["packs", "packs/0f", "sources/db/log/00000001/0000000000000001", "sources/db"] {
            assert!(may_hold_objects(path), "{path}");
        }
        for path in ["lost+found", "packs/lost+found", "sources/lost+found", "sources/db/x", "home"] {
            assert!(!may_hold_objects(path), "{path}");
        }
    }
}
