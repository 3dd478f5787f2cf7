//! A file of the machine as a source.

use crate::{BlockSource, BoxError, FileShape};
use pitr_format::FileId;
use pitr_vfs::{Access, File, FileSystem, OsFs, check_regular};
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
    /// Opens a file of this machine.
    ///
    /// # Errors
    /// [`pitr_vfs::NotAFile`] for anything but a regular file; those of opening it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_on(&OsFs, path.as_ref())
    }

    /// Like [`open`](Self::open), on a file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(fs: &dyn FileSystem, path: &Path) -> io::Result<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SnapshotMeta, SnapshotReader, write_full};
    use pitr_dedup::ChunkStore;
    use pitr_format::{SourceName, Timestamp};
    use pitr_objects::Objects;

    #[test]
    fn a_file_is_snapshotted_whole_and_a_second_time_by_its_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
        let (mut bytes, mut parent) = (vec![1; 3 * 4096 + 5], None);
        for (number, changed) in [(1, bytes.len() as u64), (2, 1024)] {
            std::fs::write(&path, &bytes).unwrap();
            let source = FileSource::open(&path).unwrap().block_bytes(1024);
            let name = SourceName::new("app").unwrap();
            let meta = SnapshotMeta::new(name, "test", number, Timestamp::from_micros(1));
            let taken = write_full(&store, &source, meta, parent.as_ref()).unwrap();
            let taken = taken.publish(&store).unwrap();
            assert_eq!(taken.snapshot.sizes.changed, changed);
            assert_eq!(taken.files[0].shape.name, "app.db");
            let mut read = vec![0; bytes.len()];
            let reader = SnapshotReader::open(store.clone(), taken.clone());
            reader.read_at(FileId::FIRST, 0, &mut read).unwrap();
            assert!(read == bytes);
            bytes[5000] = 7;
            parent = Some(taken);
        }
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        // FAILURES 59
        let refused = FileSource::open("/dev/zero").unwrap_err();
        assert!(refused.get_ref().is_some_and(|inner| inner.is::<pitr_vfs::NotAFile>()), "{refused}");
        assert!(FileSource::open("/not/there").is_err());
    }
}
