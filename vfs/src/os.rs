//! The operating system's files.

use crate::once::{self, Direct};
use crate::regular::open_regular;
use crate::{Access, File, FileSystem, Lock, View};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    /// Closed with it, and not before: a process that closes any descriptor of a file drops its POSIX locks (FAILURES 38).
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
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OsFile::from(file)))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(OsFile::from(file)))
    }

    fn share_like(&self, path: &Path, other: &Path) -> io::Result<()> {
        let (like, ours) = (fs::metadata(other)?, fs::metadata(path)?);
        if (like.uid(), like.gid()) != (ours.uid(), ours.gid()) {
            match chown(path, Some(like.uid()), Some(like.gid())) {
                // Only root gives files away: what the other's group may do is not for ours.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
                other => other?,
            }
        }
        fs::set_permissions(path, fs::Permissions::from_mode(like.mode() & 0o777))
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
        // The parent is synced even if the folder is there: whoever made it may have died before.
        let parent = parent_of(dir);
        if !dir.is_dir() {
            if !parent.is_dir() {
                self.create_dir_all(parent)?;
            }
            match fs::create_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                other => other?,
            }
        }
        self.sync_dir(parent)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let flags = OFlags::DIRECTORY.bits() as i32; // nothing else is opened
        OpenOptions::new().read(true).custom_flags(flags).open(dir)?.sync_all()
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
            options.read(true).write(true).create(true).truncate(false);
            let file = open_regular(path, &mut options)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // Whoever had it may have removed it between these two: then the next one locks another file.
            if stands_at(&file, path)? {
                return Ok(Some(Box::new(file)));
            }
        }
    }
}

fn stands_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    let which = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match fs::metadata(path) {
        Ok(meta) => Ok(which(meta) == which(file.metadata()?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// For file systems that can't rename without replacing. Atomic for `to`; a crash in between leaves `from`
/// beside it, which its maker removes as a leftover.
fn publish_by_link(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        // A folder has no second name. What may be replaced between these two lines is an empty folder.
        return match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(e) => Err(e),
        };
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// The folder that holds a path's last part: `.` for a bare name, the root for the root.
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
    fn what_is_written_is_read_back_at_its_offset() {
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
    fn folders_are_made_with_those_above_them() {
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
    fn a_lock_is_held_once_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = OsFs.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(OsFs.lock(&path).unwrap().is_none());
        drop(held);
        assert!(OsFs.lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_whose_file_its_holder_removes_is_held_by_one() {
        // FAILURES 21: as a restore does when it ends.
        let dir = tempfile::tempdir().unwrap();
        let (path, held) = (dir.path().join("lock"), AtomicBool::new(false));
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 3_000 {
                        let Some(lock) = OsFs.lock(&path).unwrap() else { continue };
                        assert!(!held.swap(true, Ordering::SeqCst), "two hold it");
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

    #[test]
    fn what_is_private_is_read_by_its_owner_alone_until_it_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        OsFs.create_private(&ours).unwrap();
        assert_eq!(mode(&ours), 0o600);
        OsFs.create_new(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o4640)).unwrap();
        OsFs.share_like(&ours, &other).unwrap();
        assert_eq!(mode(&ours), 0o640);
    }
}
