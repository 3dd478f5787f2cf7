//! Reading objects of a folder, past the page cache: a pack is read once.

use super::{Folder, STORE};
use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetRange, Result};
use pitr_vfs::{Access, Buffer, Buffers, File, FileSystem, Loan, NotAFile};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads begin and end at multiples of this, which direct requests need.
const ALIGNMENT: u64 = Buffer::ALIGNMENT as u64;

/// An object that was opened to be read.
pub(super) struct Opened {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Length of the object, bytes.
    pub(super) len: u64,
}

/// The requested bytes of a buffer.
struct Part {
    loan: Loan,
    range: Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.loan[self.range.clone()]
    }
}

impl Folder {
    pub(super) fn open(&self, object: &ObjectPath) -> Result<Opened> {
        let path = self.path(object);
        let opened = open_object(&*self.fs, &path).and_then(|file| Ok((file.len()?, file)));
        let (len, file) = opened.map_err(|source| self.error(object, source))?;
        Ok(Opened { file, path, len })
    }

    /// The length of an object, bytes.
    pub(super) fn size(&self, object: &ObjectPath) -> Result<u64> {
        let size = || {
            let found = self.fs.metadata(&self.path(object)).map_err(absent)?;
            match found.other {
                None => Ok(found.len),
                Some(NotAFile::Folder) => Err(io::ErrorKind::NotFound.into()),
                Some(found) => Err(found.into()),
            }
        };
        size().map_err(|source| self.error(object, source))
    }
}

impl Opened {
    /// The bytes of the object in `range`.
    pub(super) fn range(&self, range: Option<&GetRange>) -> Result<Range<u64>> {
        let range = range.map_or(Ok(0..self.len), |range| range.as_range(self.len));
        range.map_err(|source| Error::Generic { store: STORE, source: source.into() })
    }

    /// Reads a range into a reused buffer. Returns fewer bytes if the object became shorter.
    pub(super) fn read(&self, buffers: &Buffers, range: Range<u64>) -> Result<Bytes> {
        let start = range.start / ALIGNMENT * ALIGNMENT;
        let mut loan = buffers.lend((range.end.next_multiple_of(ALIGNMENT) - start) as usize);
        let read = self.file.read_once_at(&mut loan, start).map_err(|source| {
            let (kind, source) = (source.kind(), format!("{}: {source}", self.path.display()));
            Error::Generic { store: STORE, source: io::Error::new(kind, source).into() }
        })?;
        let (from, to) = ((range.start - start) as usize, (range.end - start) as usize);
        let range = from.min(read)..to.min(read);
        Ok(Bytes::from_owner(Part { loan, range }))
    }
}

/// Opens an object. Never blocks (FAILURES 59). A folder is not an object.
pub(super) fn open_object(fs: &dyn FileSystem, path: &Path) -> io::Result<Arc<dyn File>> {
    match fs.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(io::ErrorKind::NotFound.into()),
        other => other.map_err(absent),
    }
}

/// A path below a file does not exist.
fn absent(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotADirectory => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}
