//! A disk on which the `-wal` file at first seems to restart all the time.

use pitr_vfs::{Access, File, FileSystem, Lock, Metadata, OsFs};
use std::ffi::OsString;
use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Clone)]
pub(crate) struct Unsteady {
    /// Remaining reads of the start of the file that alternate between empty and real content.
    left: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Log {
    file: Arc<dyn File>,
    left: Arc<AtomicU32>,
}

impl Unsteady {
    pub(crate) fn for_reads(reads: u32) -> Self {
        Unsteady { left: Arc::new(AtomicU32::new(reads)) }
    }

    /// True once the file reads normally.
    pub(crate) fn is_over(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

impl FileSystem for Unsteady {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        let file = OsFs.open(path, access)?;
        let is_log = path.to_string_lossy().ends_with(".db-wal");
        Ok(if is_log { Arc::new(Log { file, left: Arc::clone(&self.left) }) } else { file })
    }

    fn create_new(&self, path: &Path) -> Result<Arc<dyn File>> {
        OsFs.create_new(path)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        OsFs.metadata(path)
    }

    fn create_folder_within(&self, dir: &Path) -> Result<()> {
        OsFs.create_folder_within(dir)
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

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        OsFs.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        OsFs.exists(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Lock>> {
        OsFs.lock(path)
    }
}

impl File for Log {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let left = if offset == 0 { self.left.load(Ordering::Relaxed) } else { 0 };
        self.left.fetch_sub(u32::from(left > 0), Ordering::Relaxed);
        if left % 2 == 1 { Ok(0) } else { self.file.read_at(buf, offset) }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }
}
