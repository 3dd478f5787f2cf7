//! The files of the operating system.

use crate::once::{self, Direct};
use crate::permissions::{FILE_MODE, FOLDER_MODE, inherit_access};
use crate::regular::open_regular;
use crate::{Access, Attributes, File, FileSystem, Lock, Metadata, NotAFile, View};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    /// Closed with the file, and not earlier: a process that closes any descriptor of a file loses
    /// its POSIX locks on it (FAILURES 38).
    direct: Direct,
}

impl From<fs::File> for OsFile {
    fn from(file: fs::File) -> Self {
        OsFile { file, direct: Direct::new() }
    }
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn read_once_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let done = once::read_directly(&self.file, &self.direct, buf, offset);
        Ok(done + self.read_up_to_at(&mut buf[done..], offset + done as u64)?)
    }

    fn write_once_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let done = once::write_directly(&self.file, &self.direct, buf, offset);
        self.write_all_at(&buf[..done.start], offset)?;
        self.write_all_at(&buf[done.end..], offset + done.end as u64)
    }

    fn view(&self, len: u64) -> io::Result<View> {
        View::map(&self.file, len)
    }
}

impl FileSystem for OsFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        Ok(Arc::new(OsFile::from(open_regular(path, &mut options)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = create(path)?;
        if let Err(error) = inherit_access(&file, parent_of(path)) {
            let _ = fs::remove_file(path); // the first error is reported
            return Err(error);
        }
        Ok(Arc::new(OsFile::from(file)))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile::from(create(path)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = fs::symlink_metadata(path)?;
        let is_link = found.is_symlink();
        let found = if is_link { fs::metadata(path)? } else { found };
        let (other, id) = (NotAFile::of(found.file_type()), (found.dev(), found.ino()));
        let (allocated, links) = (found.blocks().saturating_mul(512), found.nlink());
        Ok(Metadata { other, len: found.len(), allocated, links, id, is_link })
    }

    fn is_open_elsewhere(&self, path: &Path) -> io::Result<bool> {
        let (path, own) = (fs::canonicalize(path)?, std::process::id().to_string());
        let Ok(processes) = fs::read_dir("/proc") else { return Ok(false) };
        // A process may end while it is inspected.
        let others = processes.flatten().filter(|process| process.file_name().to_str() != Some(&*own));
        let opened = others.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten());
        Ok(opened.flatten().any(|opened| fs::read_link(opened.path()).is_ok_and(|to| to.starts_with(&path))))
    }

    fn attributes(&self, path: &Path) -> io::Result<Option<Attributes>> {
        Ok(Some(Attributes::of(&fs::metadata(path)?)))
    }

    fn set_attributes(&self, path: &Path, attributes: Attributes) -> io::Result<bool> {
        attributes.apply_to(path)
    }

    fn set_folder_mode(&self, dir: &Path, mode: u32) -> io::Result<()> {
        if fs::metadata(dir)?.mode() & 0o7777 == mode {
            return Ok(());
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(mode))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let about = rustix::fs::statvfs(dir)?;
        Ok(Some(about.f_bavail.saturating_mul(about.f_frsize)))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => publish_by_link(from, to),
            other => Ok(other?),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names =
            fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // The parent is synced even if the folder exists: its creator may have crashed before the
        // sync.
        let parent = parent_of(dir);
        if !dir.is_dir() {
            if !parent.is_dir() {
                self.create_dir_all(parent)?;
            }
            create_folder(dir)?;
        }
        self.sync_dir(parent)
    }

    fn create_folder_within(&self, dir: &Path) -> io::Result<()> {
        // The parent is synced even if the folder exists: its creator may have crashed before the
        // sync.
        let parent = parent_of(dir);
        if !dir.is_dir() && create_folder(dir)? {
            inherit_access(&fs::File::open(dir)?, parent)?;
        }
        self.sync_dir(parent)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(FOLDER_MODE).create(dir)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return fs::remove_file(path);
        }
        fs::remove_dir_all(path).or_else(|_| {
            unlock_folders(path)?;
            fs::remove_dir_all(path)
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open_folder(dir)?.sync_all()
    }

    fn sync_below(&self, dir: &Path) -> io::Result<()> {
        // One call serves any number of files. It also writes back other files of the file system.
        let opened = match open_folder(dir) {
            // The folder's mode denies access even to its owner. The folder is on the file system
            // of its parent, which is synced instead.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open_folder(parent_of(dir)),
            other => other,
        };
        Ok(rustix::fs::syncfs(opened?)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            let file = open_regular(path, &mut options)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // The previous holder may have removed the file after the open. Then the next caller
            // would lock another file.
            if is_at(&file, path)? {
                return Ok(Some(Box::new(file)));
            }
        }
    }
}

/// Opens a folder, and nothing else.
fn open_folder(dir: &Path) -> io::Result<fs::File> {
    let flags = OFlags::DIRECTORY.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(dir)
}

/// Lets the owner into every folder below and including `dir`, whatever modes they were given.
fn unlock_folders(dir: &Path) -> io::Result<()> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(folder) = waiting.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(FOLDER_MODE))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Returns true if the folder was created, false if it existed.
fn create_folder(dir: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(FOLDER_MODE).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        other => other.map(|()| true),
    }
}

fn is_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    let which = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match fs::metadata(path) {
        Ok(meta) => Ok(which(meta) == which(file.metadata()?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Publishes on file systems that cannot rename without replacing.
///
/// The call is atomic for `to`. A crash in between also leaves `from`, which its creator removes as
/// a leftover.
fn publish_by_link(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        // A folder cannot have a second name. The rename below can replace at most an empty folder.
        return match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(e) => Err(e),
        };
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// The folder that contains the path: `.` for a bare name, the root for the root.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn names(dir: &Path) -> Vec<OsString> {
        OsFs.list(dir).unwrap()
    }

    #[test]
    fn written_bytes_are_read_back_at_their_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = OsFs.create_new(&path).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_all_at(b"world", 6).unwrap();
        file.write_all_at(b"hello", 0).unwrap();
        file.sync_data().unwrap();
        let mut buf = [9; 11];
        OsFs.open(&path, Access::Read).unwrap().read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"hello\0world");
        assert_eq!(file.read_up_to_at(&mut buf, 8).unwrap(), 3);
        let past = file.read_exact_at(&mut buf, 8).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(5).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.len().unwrap(), 5);
        assert!(OsFs.open(&path, Access::Read).unwrap().write_all_at(b"x", 0).is_err());
    }

    #[test]
    fn publishing_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for publish in [|a: &Path, b: &Path| OsFs.publish(a, b), |a: &Path, b: &Path| publish_by_link(a, b)] {
            OsFs.create_new(&at("new")).unwrap();
            publish(&at("new"), &at("there")).unwrap();
            assert_eq!(names(dir.path()), ["there"]);
            OsFs.create_new(&at("other")).unwrap();
            let taken = publish(&at("other"), &at("there")).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(names(dir.path()), ["other", "there"]);
            OsFs.remove_file(&at("other")).unwrap();
            OsFs.remove_file(&at("there")).unwrap();
        }
        assert_eq!(OsFs.create_new(&at("a")).map(drop).map_err(|e| e.kind()), Ok(()));
        assert_eq!(
            OsFs.create_new(&at("a")).map(drop).map_err(|e| e.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
    }

    #[test]
    fn missing_parent_folders_are_created() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        OsFs.create_dir_all(&deep).unwrap();
        OsFs.create_dir_all(&deep).unwrap();
        assert!(OsFs.exists(&deep).unwrap() && !OsFs.exists(&deep.join("d")).unwrap());
        OsFs.create_new(&deep.join("f")).unwrap();
        assert!(OsFs.create_dir_all(&deep.join("f")).is_err());
        assert_eq!(parent_of(Path::new("x")), Path::new("."));
        assert_eq!(parent_of(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn folders_are_published_without_replacing_and_removed_with_all_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        OsFs.create_dir(&at("new")).unwrap();
        assert_eq!(OsFs.create_dir(&at("new")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(OsFs.create_dir(&at("missing/new")).is_err());
        OsFs.create_dir(&at("new/inner")).unwrap();
        OsFs.create_new(&at("new/inner/file")).unwrap();
        OsFs.create_new(&at("outside")).unwrap();
        std::os::unix::fs::symlink(at("outside"), at("new/link")).unwrap();
        OsFs.sync_below(&at("new")).unwrap();
        OsFs.create_dir(&at("taken")).unwrap();
        let taken = OsFs.publish(&at("new"), &at("taken")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        OsFs.publish(&at("new"), &at("there")).unwrap();
        set_mode(&at("there/inner"), 0);
        OsFs.remove_all(&at("there")).unwrap();
        OsFs.remove_all(&at("taken")).unwrap();
        assert_eq!(names(dir.path()), ["outside"]);
        OsFs.remove_all(&at("outside")).unwrap();
        assert_eq!(OsFs.remove_all(&at("outside")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_has_one_holder_and_ends_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = OsFs.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(OsFs.lock(&path).unwrap().is_none());
        drop(held);
        assert!(OsFs.lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_has_one_holder_although_its_file_is_removed() {
        // FAILURES 21: a restore removes the lock file when it ends.
        let dir = tempfile::tempdir().unwrap();
        let (path, held) = (dir.path().join("lock"), AtomicBool::new(false));
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 3_000 {
                        let Some(lock) = OsFs.lock(&path).unwrap() else { continue };
                        assert!(!held.swap(true, Ordering::SeqCst), "two holders of the lock");
                        taken.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.store(false, Ordering::SeqCst);
                        fs::remove_file(&path).unwrap();
                        drop(lock);
                    }
                });
            }
        });
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn new_files_are_for_the_owner_or_inherit_the_folders_rights() {
        // FAILURES 58
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        OsFs.create_dir_all(&top.join("deep")).unwrap();
        assert_eq!((mode(&top), mode(&top.join("deep"))), (0o700, 0o700));
        for (folder, file, inner) in [
            (0o700, 0o600, 0o700),
            (0o750, 0o640, 0o750),
            (0o2770, 0o660, 0o2770),
            (0o755, 0o644, 0o755),
            (0o1777, 0o600, 0o700),
        ] {
            set_mode(&top, folder);
            let at = |name: &str| top.join(format!("{name}-{folder:o}"));
            OsFs.create_new(&at("file")).unwrap();
            OsFs.create_private(&at("private")).unwrap();
            drop(OsFs.lock(&at("lock")).unwrap());
            OsFs.create_folder_within(&at("within")).unwrap();
            OsFs.create_dir_all(&at("all")).unwrap();
            assert_eq!(mode(&at("file")), file, "{folder:o}");
            assert_eq!(mode(&at("within")), inner, "{folder:o}");
            assert_eq!((mode(&at("private")), mode(&at("lock"))), (0o600, 0o600), "{folder:o}");
            assert_eq!(mode(&at("all")) & 0o777, 0o700, "{folder:o}");
        }
    }

    #[test]
    fn attributes_are_copied_without_special_bits() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        OsFs.create_private(&ours).unwrap();
        OsFs.create_private(&other).unwrap();
        set_mode(&other, 0o4640);
        let attributes = OsFs.attributes(&other).unwrap().unwrap();
        assert!(OsFs.set_attributes(&ours, attributes).unwrap());
        assert_eq!(mode(&ours), 0o640);
    }

    #[test]
    fn free_space_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OsFs.free_bytes(dir.path()).unwrap().is_some());
        assert!(OsFs.free_bytes(&dir.path().join("missing")).is_err());
    }
}
