//! What a repository in a local folder needs beyond the object store's trait.

use crate::{Error, Result};
use bytes::Bytes;
use object_store::{Error as StoreError, GetRange};
use pitr_vfs::{Buffer, Buffers, File as _, FileSystem, Loan, NotAFile, OsFile, OsFs, open_file};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder of a repository on this machine.
#[derive(Debug)]
pub(crate) struct LocalFolder {
    root: PathBuf,
    /// Folders in it that are there and durable, with those above them.
    settled: Mutex<HashSet<PathBuf>>,
    buffers: Buffers,
}

/// The bytes of a buffer that were asked for.
struct Part {
    loan: Loan,
    there: Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.loan[self.there.clone()]
    }
}

/// Where reads begin and end, so that direct requests can be made; where none are it does no harm.
const ALIGNMENT: u64 = Buffer::ALIGNMENT as u64;

impl LocalFolder {
    pub(crate) fn new(root: &Path) -> Self {
        LocalFolder { root: root.to_owned(), settled: Mutex::default(), buffers: Buffers::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// True if the object is there.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Reads a range of an object, or all of it, as far as it goes; returns the object's length too. Of more than `most` bytes only
    /// the number comes. As what is put, what is read here does not go through the page cache: packs are read once.
    pub(crate) fn read(
        &self,
        path: &str,
        range: Option<&GetRange>,
        most: u64,
    ) -> io::Result<(u64, std::result::Result<Bytes, u64>)> {
        let file = open_object(&self.root.join(path))?;
        let about = file.metadata()?;
        let wanted = within(range, about.len());
        let bytes = wanted.end - wanted.start;
        if bytes > most {
            return Ok((about.len(), Err(bytes)));
        }
        let (file, start) = (OsFile::from(file), wanted.start / ALIGNMENT * ALIGNMENT);
        let mut loan = self.buffers.lend((wanted.end.next_multiple_of(ALIGNMENT) - start) as usize);
        let read = file.read_once_at(&mut loan, start)?;
        let from = (wanted.start - start) as usize;
        let there = from.min(read)..read.min(from + bytes as usize);
        Ok((about.len(), Ok(Bytes::from_owner(Part { loan, there }))))
    }

    /// The length of an object.
    pub(crate) fn size(&self, path: &str) -> io::Result<u64> {
        let about = fs::metadata(self.root.join(path)).map_err(absent)?;
        match NotAFile::of(about.file_type()) {
            None => Ok(about.len()),
            Some(NotAFile::Folder) => Err(io::ErrorKind::NotFound.into()),
            Some(found) => Err(found.into()),
        }
    }

    /// Creates an object that must not be there yet, durably; [`io::ErrorKind::AlreadyExists`] if it is. The store's own put
    /// would do but for the page cache, through which what is written here does not go: nobody reads it soon, and a page that
    /// is used for the first time costs more than compressing what is in it.
    pub(crate) fn put_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.root.join(path);
        let folder = target.parent().unwrap_or(&self.root);
        self.settle(folder)?;
        let staged = match stage(&target, bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody tidied up empty folders since we last looked.
                self.settled().clear();
                self.settle(folder)?;
                stage(&target, bytes)?
            }
            staged => staged?,
        };
        if let Err(error) = OsFs.publish(&staged, &target) {
            let _ = fs::remove_file(&staged); // what went wrong is told
            return Err(error);
        }
        OsFs.sync_dir(folder)
    }

    /// What the folder says of an object, in the words of a store. Names the file.
    pub(crate) fn error(&self, path: &str, source: io::Error) -> StoreError {
        let kind = source.kind();
        let source = format!("{}: {source}", self.root.join(path).display());
        let path = path.to_owned();
        match kind {
            io::ErrorKind::AlreadyExists => StoreError::AlreadyExists { path, source: source.into() },
            io::ErrorKind::NotFound => StoreError::NotFound { path, source: source.into() },
            _ => StoreError::Generic { store: "folder", source: io::Error::new(kind, source).into() },
        }
    }

    /// Makes a folder of the repository, and its name durable. Once for each, also if it is there: another process may have made it a
    /// moment ago and not synced it yet, and what we put in it must not be lost with it.
    fn settle(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.settled().contains(folder) {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.settle(above)?;
        }
        OsFs.create_folder_within(folder)?;
        self.settled().insert(folder.to_owned());
        Ok(())
    }

    fn settled(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs an object that is already there, and the folders that lead to it. One that an earlier, failed put of
    /// ours left behind may be visible without being durable (FAILURES 26).
    pub(crate) fn sync(&self, path: &str) -> Result<()> {
        let file = self.root.join(path);
        let synced = open_object(&file).and_then(|file| file.sync_all());
        synced.map_err(|source| Error::Folder { path: file.clone(), source })?;
        let below_root = |folder: &&Path| folder.starts_with(&self.root);
        file.ancestors().skip(1).take_while(below_root).try_for_each(sync)
    }
}

/// Opens an object, and waits for nobody (FAILURES 59). A folder is no object.
fn open_object(path: &Path) -> io::Result<File> {
    match open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(io::ErrorKind::NotFound.into()),
        other => other.map_err(absent),
    }
}

/// Where a file stands in place of a folder there is nothing below it.
fn absent(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotADirectory => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

/// What there is of a range of an object.
fn within(range: Option<&GetRange>, len: u64) -> Range<u64> {
    match range {
        None => 0..len,
        Some(GetRange::Bounded(range)) => range.start.min(len)..range.end.min(len),
        Some(GetRange::Offset(start)) => *start.min(&len)..len,
        Some(GetRange::Suffix(bytes)) => len.saturating_sub(*bytes)..len,
    }
}

/// Writes a file beside an object that is to be, durably, under a name that the store's listings leave out.
fn stage(target: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let mut staged = OsString::from(target);
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match OsFs.create_new(&staged) {
            Ok(file) => {
                let written = file.write_once_at(bytes, 0).and_then(|()| file.sync_all());
                if written.is_err() {
                    let _ = fs::remove_file(&staged); // as above
                }
                return written.map(|()| staged);
            }
            // Another process puts the same, or died when it did.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Makes a folder and those above it, durably. `files` are the permissions of what is put into it; for its owner alone if they
/// are not given.
///
/// A folder that is there already is made private if it is ours and empty: it is to hold nothing but the repository. One that holds
/// other things, or a repository, keeps its permissions unless they are given.
pub(crate) fn create_folder(path: &Path, files: Option<u32>) -> Result<()> {
    let failed = |source| Error::Folder { path: path.to_owned(), source };
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !exists(folder)).collect();
    let mode = folder_mode(files.unwrap_or(0o600));
    if missing.is_empty() {
        let is_repository = path.join(crate::REPOSITORY_PATH).exists();
        match files {
            Some(_) if !is_repository => set_mode(path, mode).map_err(failed)?,
            // If it can't be changed, `readers` reports it.
            None if is_empty(path).map_err(failed)? => {
                set_mode(path, mode).or_else(not_ours).map_err(failed)?
            }
            _ => {}
        }
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    missing.iter().try_for_each(|folder| set_mode(folder, mode)).map_err(failed)?;
    // A new folder's entry is in the folder above it.
    missing.into_iter().filter_map(Path::parent).try_for_each(|above| match above.as_os_str().is_empty() {
        true => sync(Path::new(".")),
        false => sync(above),
    })
}

/// The mode of a folder whose files have this one: entered by those who may read. Files get the folder's group.
fn folder_mode(files: u32) -> u32 {
    let enter = (files & 0o444) >> 2;
    let group = if files & 0o070 != 0 { 0o2000 } else { 0 };
    0o700 | files & 0o777 | enter | group
}

fn set_mode(folder: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(folder)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

fn not_ours(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

/// Who may read a repository besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readers {
    /// The members of its folder's group.
    Group,
    /// Every user of this machine.
    Everyone,
}

/// Who may enter a folder besides its owner, and so read what is put into it.
pub(crate) fn readers(folder: &Path) -> Result<Option<Readers>> {
    let meta = fs::metadata(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    Ok(match meta.mode() {
        mode if mode & 0o005 != 0 => Some(Readers::Everyone),
        mode if mode & 0o050 != 0 => Some(Readers::Group),
        _ => None,
    })
}

fn exists(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

fn sync(path: &Path) -> Result<()> {
    OsFs.sync_dir(path).map_err(|source| Error::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_put_once_and_nothing_else_is_left() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let folder = LocalFolder::new(dir.path());
        for bytes in [0, 5, (2 << 20) + 17] {
            let (path, content) = (format!("a/b/{bytes}"), vec![7; bytes]);
            folder.put_new(&path, &content).unwrap();
            assert!(fs::read(dir.path().join(&path)).unwrap() == content);
            let again = folder.put_new(&path, b"other").unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            assert!(fs::read(dir.path().join(&path)).unwrap() == content);
        }
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 3);
        // What a process that died was about to put is nobody's.
        fs::write(dir.path().join("a/b/new#1"), b"half").unwrap();
        folder.put_new("a/b/new", b"whole").unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/new")).unwrap(), b"whole");
        assert_eq!(fs::read(dir.path().join("a/b/new#1")).unwrap(), b"half");
        // A folder that went is made again.
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        folder.put_new("a/b/new", b"whole").unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/new")).unwrap(), b"whole");
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_repository_is_its_owners_or_shared_as_its_folder_is() {
        // FAILURES 58
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let modes = |name: &str| {
            let root = at(name);
            LocalFolder::new(&root).put_new("a/b", b"x").unwrap();
            let of = [root.clone(), root.join("a"), root.join("a/b")].map(|path| mode(&path) & 0o777);
            (of, readers(&root).unwrap())
        };
        create_folder(&at("above/new"), None).unwrap();
        assert_eq!(modes("above/new"), ([0o700, 0o700, 0o600], None));
        assert_eq!(mode(&at("above")), 0o700);
        create_folder(&at("shared"), Some(0o640)).unwrap();
        assert_eq!(modes("shared"), ([0o750, 0o750, 0o640], Some(Readers::Group)));
        assert_eq!(mode(&at("shared")) & 0o2000, 0o2000, "files get the folder's group");
        create_folder(&at("open"), Some(0o644)).unwrap();
        assert_eq!(modes("open"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        // One that is there, empty or not, and one whose permissions were changed later.
        let make = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(0o755)).unwrap();
        };
        ["empty", "used", "given"].into_iter().for_each(make);
        fs::write(at("used/other"), b"mine").unwrap();
        create_folder(&at("empty"), None).unwrap();
        create_folder(&at("used"), None).unwrap();
        create_folder(&at("given"), Some(0o660)).unwrap();
        assert_eq!(modes("empty"), ([0o700, 0o700, 0o600], None));
        assert_eq!(modes("used"), ([0o755, 0o755, 0o644], Some(Readers::Everyone)));
        assert_eq!(modes("given"), ([0o770, 0o770, 0o660], Some(Readers::Group)));
    }

    #[test]
    fn the_first_puts_into_a_folder_may_come_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let first_puts = &|thread: usize| {
            let folder = LocalFolder::new(dir.path());
            let put = |round: usize| {
                start.wait();
                folder.put_new(&format!("{round}/{thread}"), b"x")
            };
            // All rounds, also behind one that failed: the others wait for it.
            (0..300).map(put).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || first_puts(thread))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).for_each(Result::unwrap);
        });
    }

    #[test]
    fn where_no_folder_can_be_nothing_is_put() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"a file").unwrap();
        assert!(LocalFolder::new(dir.path()).put_new("a/b", b"x").is_err());
        // A name that is too long for the system is not tried for ever.
        assert!(LocalFolder::new(dir.path()).put_new(&"n".repeat(300), b"x").is_err());
    }
}
