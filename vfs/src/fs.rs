//! The traits for files and file systems.

use crate::view::{View, bounded};
use crate::{Attributes, NotAFile};
use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The file is opened for reading.
    Read,
    /// The file is opened for reading and writing.
    ReadWrite,
}

/// An exclusive lock, held until it is dropped.
pub type Lock = Box<dyn Send + Sync>;

/// An open file. It has no cursor: every call states its offset. Several threads may use it
/// concurrently.
pub trait File: Send + Sync + Debug {
    /// Reads bytes at `offset` into `buf`. Returns their number, which is 0 only at the end of the
    /// file or for an empty `buf`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`. The file grows as needed, with zeros in between. After an
    /// error, any part may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all earlier writes durable, and the length needed to read them back.
    fn sync_data(&self) -> io::Result<()>;

    /// Like [`File::sync_data`], with all metadata.
    fn sync_all(&self) -> io::Result<()>;

    /// The length, bytes.
    fn len(&self) -> io::Result<u64>;

    /// True if the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Truncates the file to `len` bytes, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The first `len` bytes, mapped if the file system can. Returns
    /// [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    ///
    /// Use it only for bytes that are neither changed nor truncated while the view lives: see
    /// [`View`].
    fn view(&self, len: u64) -> io::Result<View> {
        let mut bytes = vec![0; bounded(len, self.len()?)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(View::from(bytes))
    }

    /// Reads until `buf` is full or the file ends. Returns the number of bytes read.
    fn read_up_to_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Like [`read_up_to_at`](File::read_up_to_at), for data that is read once.
    ///
    /// If the system supports it and the bytes are not cached, they bypass its cache. Aligned
    /// requests of 1 MiB benefit most ([`Buffer`]).
    ///
    /// [`Buffer`]: crate::Buffer
    fn read_once_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_up_to_at(buf, offset)
    }

    /// Like [`write_all_at`](File::write_all_at), for data that is not read soon. If the system
    /// supports it, whole blocks bypass its cache.
    fn write_once_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(buf, offset)
    }

    /// Fills `buf` from `offset`. Returns [`io::ErrorKind::UnexpectedEof`] if the file ends
    /// earlier.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_up_to_at(buf, offset)? == buf.len() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the requested bytes"))
        }
    }
}

/// The entry that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The kind of the entry, if it is not a regular file.
    pub other: Option<NotAFile>,
    /// Length of a file, bytes.
    pub len: u64,
    /// Bytes that a file takes on the disk. Less than its length if it has holes.
    pub allocated: u64,
    /// Number of names of a file.
    pub links: u64,
    /// Identity of a file or folder on this machine: device and number.
    pub id: (u64, u64),
    /// The name is a symbolic link.
    pub is_link: bool,
}

impl Metadata {
    /// True for a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.other == Some(NotAFile::Folder)
    }
}

/// A file system.
pub trait FileSystem: Send + Sync + Debug {
    /// Opens an existing regular file. Anything else at the path, such as a named pipe, is an
    /// error. Never blocks.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file for reading and writing. Returns [`io::ErrorKind::AlreadyExists`] if
    /// the name exists.
    ///
    /// If files have owners, only the owner may access it, and users to whom its folder grants
    /// access.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Like [`create_new`](FileSystem::create_new), but always for the owner alone.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create_new(path)
    }

    /// The entry that a name leads to. Symbolic links are followed. [`io::ErrorKind::NotFound`] if
    /// there is none.
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// True if another process has a file open, or a file in a folder. Processes that this one may
    /// not inspect are not seen.
    fn is_open_elsewhere(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(false)
    }

    /// Owner, group and permissions of a file or folder; `None` if files have none.
    fn attributes(&self, path: &Path) -> io::Result<Option<Attributes>> {
        let _ = path;
        Ok(None)
    }

    /// Sets permissions and, if this process may, owner and group. Returns false if it may not set
    /// them. Then the file's own group gets only the rights of others.
    fn set_attributes(&self, path: &Path, attributes: Attributes) -> io::Result<bool> {
        let _ = (path, attributes);
        Ok(true)
    }

    /// Sets all twelve mode bits of a folder, on systems where folders have a mode.
    fn set_folder_mode(&self, dir: &Path, mode: u32) -> io::Result<()> {
        let _ = (dir, mode);
        Ok(())
    }

    /// Bytes that this process can still store in the file system of a folder; `None` if unknown.
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let _ = dir;
        Ok(None)
    }

    /// Renames the file or folder `from` to `to`, atomically. Returns
    /// [`io::ErrorKind::AlreadyExists`] if `to` exists. Durable after [`FileSystem::sync_dir`].
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Durable after [`FileSystem::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Creates a folder and missing parents, for their owner alone. Durable on return.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Creates a folder in an existing one, with the access rights that the existing folder grants.
    /// Durable on return.
    fn create_folder_within(&self, dir: &Path) -> io::Result<()> {
        self.create_dir_all(dir)
    }

    /// Creates one folder, for its owner alone. Returns [`io::ErrorKind::AlreadyExists`] if the
    /// name is taken. Durable after [`FileSystem::sync_dir`] of its parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file, or a folder with everything in it. Symbolic links are removed, never
    /// followed. Durable after [`FileSystem::sync_dir`] of its parent.
    fn remove_all(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    /// Makes the current names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes everything below a folder durable: names, bytes and metadata.
    fn sync_below(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// True if the name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes the exclusive lock of `path`, a file that is created as needed and stays. Returns
    /// `None` if another holder, in this process or another, has the lock. The lock ends at the
    /// latest with its holder's process.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}
