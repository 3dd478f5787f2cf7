//! A file of the machine as a source.

use crate::{BlockSource, BoxError, FileShape};
use pitr_format::FileId;
use pitr_vfs::{Access, File, FileSystem, check_regular};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file that nothing writes to during the snapshot. It becomes file [`FileId::FIRST`], in blocks
/// of 4 KiB.
///
/// Not for a database that this process has open: closing a second handle of the file may drop the
/// process's locks.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<dyn File>,
    shape: FileShape,
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// [`pitr_vfs::NotAFile`] for anything but a regular file; those of opening it.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        // FAILURES 59: opening a named pipe would wait for its writer.
        check_regular(path)?;
        let file = fs.open(path, Access::Read)?;
        let shape = FileShape { file: FileId::FIRST, name, len: file.len()?, block_bytes: 4096 };
        Ok(FileSource { file, shape })
    }

    /// Sets the size of the blocks, bytes: a power of two from 512 to 65536.
    #[must_use]
    pub fn block_bytes(mut self, block_bytes: u32) -> Self {
        self.shape.block_bytes = block_bytes;
        self
    }
}

impl BlockSource for FileSource {
    fn files(&self) -> Vec<FileShape> {
        vec![self.shape.clone()]
    }

    fn read_at(&self, _file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        Ok(self.file.read_exact_at(buf, offset)?)
    }
}
