//! The sources of a snapshot's bytes.

use crate::{BoxError, FileShape, Result};
use pitr_format::FileId;
use pitr_tracker::ChangeSet;

/// Files to read whole, from any thread. They must not change during the read, unless their log
/// covers the changes (`redo_from`).
pub trait BlockSource: Sync {
    /// The files and their lengths. The file with the highest number is read after all others, if
    /// it has blocks.
    fn files(&self) -> Vec<FileShape>;

    /// Fills `buf` from `offset` of a file. The range is within the length that
    /// [`files`](Self::files) returned.
    ///
    /// # Errors
    /// Any error that prevents the read.
    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError>;

    /// The blocks of a file that may differ from the parent snapshot, if they are known.
    ///
    /// The file may differ only in the blocks of the set and in its growth. Everything else is
    /// taken from the parent and not read. A file without blocks is read if any of it may differ.
    /// `None` if the changes are unknown; then the whole file is compared.
    ///
    /// The set must be complete: a difference outside the set is lost.
    fn changes(&self, _file: FileId) -> Option<&ChangeSet> {
        None
    }
}

/// Receives the image of a block: file, number of the block, bytes.
pub type ImageSink<'a> = &'a mut dyn FnMut(FileId, u64, &[u8]) -> Result<()>;

/// The changes since a parent.
pub trait Delta {
    /// All current files, including unchanged ones. A file that is missing here was deleted.
    fn files(&self) -> Vec<FileShape>;

    /// The shortest length of the file since the parent, bytes, including its length then and now.
    /// Nothing of the parent remains at or after it, although the file may have grown over it
    /// again.
    fn zeroed_from(&self, file: FileId) -> u64;

    /// Passes the newest image of every changed block to `sink`, each block at most once, in any
    /// order. Order by file and block gives the smallest snapshots. An image has the file's block
    /// size. The last image of a file may end at the file's end. Images after the end are ignored.
    ///
    /// # Errors
    /// The errors of `sink`; [`Error::Delta`](crate::Error::Delta) if the images cannot be read.
    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()>;
}

/// True if all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}
