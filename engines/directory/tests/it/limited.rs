//! The operating system's files on a disk whose free space a test sets.

use pitr_vfs::{Access, File, FileSystem, Lock, OsFs};
use std::ffi::OsString;
use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Limited {
    pub(crate) free: AtomicU64,
}

impl FileSystem for Limited {
    fn free_bytes(&self, _: &Path) -> Result<Option<u64>> {
        Ok(Some(self.free.load(Ordering::Relaxed)))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        OsFs.open(path, access)
    }

    fn create_new(&self, path: &Path) -> Result<Arc<dyn File>> {
        OsFs.create_new(path)
    }

    fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        OsFs.publish(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        OsFs.remove_file(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        OsFs.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        OsFs.create_dir_all(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        OsFs.create_dir(dir)
    }

    fn remove_all(&self, path: &Path) -> Result<()> {
        OsFs.remove_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        OsFs.sync_dir(dir)
    }

    fn sync_below(&self, dir: &Path) -> Result<()> {
        OsFs.sync_below(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        OsFs.exists(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Lock>> {
        OsFs.lock(path)
    }
}
