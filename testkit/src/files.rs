//! A file system that counts and misbehaves as a test asks.

use pitr_vfs::{Access, Attributes, File, FileSystem, Lock, Metadata, OsFs, View};
use std::ffi::OsString;
use std::fmt;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An operation on a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A file is opened.
    Open,
    /// A file is created.
    Create,
    /// One or more folders are created.
    CreateFolder,
    /// Something gets its final name. The path is the new one.
    Publish,
    /// A file, or a folder with everything in it, is removed.
    Remove,
    /// A folder is listed.
    List,
    /// What a name leads to is asked for, or its attributes.
    Look,
    /// Owner, group or permissions are set.
    SetAttributes,
    /// The free space is asked for.
    FreeBytes,
    /// A lock is taken.
    Lock,
    /// A file, a folder, or everything below a folder is synced.
    Sync,
    /// Bytes are read.
    Read {
        /// Where, bytes from the start of the file.
        offset: u64,
    },
    /// Bytes are written.
    Write {
        /// Where, bytes from the start of the file.
        offset: u64,
    },
    /// The length is set.
    SetLen,
}

/// How the file system answers an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is carried out.
    Serve,
    /// A sync does nothing and succeeds. Other operations are carried out.
    NoSync,
    /// A read finds the end of the file. Other operations are carried out.
    NoBytes,
    /// This many bytes are free. Other operations are carried out.
    Free(u64),
}

type Hook = dyn Fn(Operation, &Path) -> Outcome + Send + Sync;

/// A file system that asks a hook before each operation and counts the bytes read. Without a hook
/// it carries every operation out.
#[derive(Clone)]
pub struct TestFs {
    fs: Arc<dyn FileSystem>,
    hook: Arc<Hook>,
    bytes_read: Arc<AtomicU64>,
}

impl TestFs {
    /// The files of the operating system.
    #[must_use]
    pub fn os() -> Self {
        Self::around(Arc::new(OsFs))
    }

    /// The files of `fs`.
    #[must_use]
    pub fn around(fs: Arc<dyn FileSystem>) -> Self {
        TestFs { fs, hook: Arc::new(|_, _| Outcome::Serve), bytes_read: Arc::default() }
    }

    /// Does with each operation what `hook` says. The hook may also do something at that moment.
    #[must_use]
    pub fn answering(self, hook: impl Fn(Operation, &Path) -> Outcome + Send + Sync + 'static) -> Self {
        TestFs { hook: Arc::new(hook), ..self }
    }

    /// Bytes read from files so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Asks the hook about an operation whose result no outcome changes.
    fn serve(&self, operation: Operation, path: &Path) -> &dyn FileSystem {
        (self.hook)(operation, path);
        self.fs.as_ref()
    }

    fn sync(&self, path: &Path, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        if (self.hook)(Operation::Sync, path) == Outcome::NoSync { Ok(()) } else { sync() }
    }

    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TestFile { fs: self.clone(), file, path: path.to_owned() })
    }
}

impl fmt::Debug for TestFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestFs").field("fs", &self.fs).finish_non_exhaustive()
    }
}

impl FileSystem for TestFs {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.serve(Operation::Open, path).open(path, access)?))
    }

    fn create_new(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.serve(Operation::Create, path).create_new(path)?))
    }

    fn create_private(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.serve(Operation::Create, path).create_private(path)?))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.serve(Operation::Look, path).metadata(path)
    }

    fn attributes(&self, path: &Path) -> Result<Option<Attributes>> {
        self.serve(Operation::Look, path).attributes(path)
    }

    fn set_attributes(&self, path: &Path, attributes: Attributes) -> Result<bool> {
        self.serve(Operation::SetAttributes, path).set_attributes(path, attributes)
    }

    fn set_folder_mode(&self, dir: &Path, mode: u32) -> Result<()> {
        self.serve(Operation::SetAttributes, dir).set_folder_mode(dir, mode)
    }

    fn free_bytes(&self, dir: &Path) -> Result<Option<u64>> {
        match (self.hook)(Operation::FreeBytes, dir) {
            Outcome::Free(bytes) => Ok(Some(bytes)),
            _ => self.fs.free_bytes(dir),
        }
    }

    fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        self.serve(Operation::Publish, to).publish(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.serve(Operation::Remove, path).remove_file(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        self.serve(Operation::List, dir).list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.serve(Operation::CreateFolder, dir).create_dir_all(dir)
    }

    fn create_folder_within(&self, dir: &Path) -> Result<()> {
        self.serve(Operation::CreateFolder, dir).create_folder_within(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.serve(Operation::CreateFolder, dir).create_dir(dir)
    }

    fn remove_all(&self, path: &Path) -> Result<()> {
        self.serve(Operation::Remove, path).remove_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.sync(dir, || self.fs.sync_dir(dir))
    }

    fn sync_below(&self, dir: &Path) -> Result<()> {
        self.sync(dir, || self.fs.sync_below(dir))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.serve(Operation::Look, path).exists(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Lock>> {
        self.serve(Operation::Lock, path).lock(path)
    }
}

#[derive(Debug)]
struct TestFile {
    fs: TestFs,
    file: Arc<dyn File>,
    path: PathBuf,
}

impl TestFile {
    fn ask(&self, operation: Operation) -> Outcome {
        (self.fs.hook)(operation, &self.path)
    }

    fn read(&self, offset: u64, read: impl FnOnce() -> Result<usize>) -> Result<usize> {
        if self.ask(Operation::Read { offset }) == Outcome::NoBytes {
            return Ok(0);
        }
        let bytes = read()?;
        self.fs.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl File for TestFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.read(offset, || self.file.read_at(buf, offset))
    }

    fn read_once_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.read(offset, || self.file.read_once_at(buf, offset))
    }

    fn view(&self, len: u64) -> Result<View> {
        self.ask(Operation::Read { offset: 0 });
        let view = self.file.view(len)?;
        self.fs.bytes_read.fetch_add(len, Ordering::Relaxed);
        Ok(view)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.ask(Operation::Write { offset });
        self.file.write_all_at(buf, offset)
    }

    fn write_once_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.ask(Operation::Write { offset });
        self.file.write_once_at(buf, offset)
    }

    fn sync_data(&self) -> Result<()> {
        self.fs.sync(&self.path, || self.file.sync_data())
    }

    fn sync_all(&self) -> Result<()> {
        self.fs.sync(&self.path, || self.file.sync_all())
    }

    fn len(&self) -> Result<u64> {
        self.ask(Operation::Look);
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.ask(Operation::SetLen);
        self.file.set_len(len)
    }
}
