//! The traits: what pitr asks of a file and of a file system.

use crate::Attributes;
use crate::view::{View, bounded};
use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An exclusive lock, held until it is dropped.
pub type Lock = Box<dyn Send + Sync>;

/// An open file. It has no cursor: every call names its offset, and several threads may use it at once.
pub trait File: Send + Sync + Debug {
    /// Reads bytes at `offset` into `buf` and returns how many; 0 only at the end of the file or for an empty
    /// `buf`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`; the file grows as needed, with zeros in between. After an error any
    /// part may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what was written before this call, and the length needed to read it back.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`File::sync_data`], with all metadata.
    fn sync_all(&self) -> io::Result<()>;

    /// Length, bytes.
    fn len(&self) -> io::Result<u64>;

    /// True if it holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to `len` bytes, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The first `len` bytes, mapped where the file system can; [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
    /// Only for bytes that nobody changes or cuts off while the view lives: see [`View`].
    fn view(&self, len: u64) -> io::Result<View> {
        let mut bytes = vec![0; bounded(len, self.len()?)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(View::from(bytes))
    }

    /// Reads until `buf` is full or the file ends; returns the bytes read.
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

    /// As [`read_up_to_at`](File::read_up_to_at), for what is read once and by nobody else soon: where the system can, and the
    /// bytes are not in its cache anyway, they don't go through it. Aligned requests of a megabyte profit most ([`Buffer`]).
    ///
    /// [`Buffer`]: crate::Buffer
    fn read_once_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_up_to_at(buf, offset)
    }

    /// As [`write_all_at`](File::write_all_at), for what nobody reads soon: where the system can, whole blocks of it don't go through
    /// its cache.
    fn write_once_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(buf, offset)
    }

    /// Fills `buf` from `offset`; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_up_to_at(buf, offset)? == buf.len() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before the bytes asked for"))
        }
    }
}

/// A file system.
pub trait FileSystem: Send + Sync + Debug {
    /// Opens a regular file that exists. Anything else at the path, such as a named pipe, is an error; the call never blocks.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file for reading and writing; [`io::ErrorKind::AlreadyExists`] if the name is taken. Where files have
    /// owners, nobody else may read or write it, except those whom its folder lets in.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// As [`create_new`](FileSystem::create_new), for the owner alone whatever the folder is.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.create_new(path)
    }

    /// Owner, group and permissions of a file or folder; `None` where files have none.
    fn attributes(&self, path: &Path) -> io::Result<Option<Attributes>> {
        let _ = path;
        Ok(None)
    }

    /// Gives a file permissions and, where this process may, owner and group. False if it may not: then the file's own group
    /// gets no more than everybody does.
    fn set_attributes(&self, path: &Path, attributes: Attributes) -> io::Result<bool> {
        let _ = (path, attributes);
        Ok(true)
    }

    /// Bytes that this process can still store in the file system of a folder; `None` where that is not known.
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let _ = dir;
        Ok(None)
    }

    /// Gives the file or folder `from` the name `to`, atomically; [`io::ErrorKind::AlreadyExists`] if that name is
    /// taken. Durable after [`FileSystem::sync_dir`].
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Durable after [`FileSystem::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Creates a folder and the folders above it as needed, for their owner alone; durable on return.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Creates one folder, for its owner alone; [`io::ErrorKind::AlreadyExists`] if the name is taken. Durable after
    /// [`FileSystem::sync_dir`] of its parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file, or a folder with everything in it. Symbolic links are removed, never followed. Durable after
    /// [`FileSystem::sync_dir`] of its parent.
    fn remove_all(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    /// Makes the names in a folder durable, as they are now.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes everything below a folder durable: names, bytes and metadata.
    fn sync_below(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// True if something bears this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes the exclusive lock that goes with `path`, a file that is created as needed and stays. `None` if
    /// someone else, in this process or another, holds it. It ends with its holder's process at the latest.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}
