//! Where a snapshot's bytes come from.

use crate::{BoxError, FileShape, Result};
use pitr_format::FileId;
use pitr_tracker::ChangeSet;

/// Files to be read whole, from any thread. They must not change while they are read, unless their log covers it
/// (`redo_from`).
pub trait BlockSource: Sync {
    /// The files and their lengths. The one of the highest number, if it has blocks, is read when all others were.
    fn files(&self) -> Vec<FileShape>;

    /// Fills `buf` from `offset` of a file, which lies within the length that [`files`](Self::files) told.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read.
    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError>;

    /// What of a file may differ from the snapshot that this one is compared with, where that is known: no more than its blocks in the
    /// set, and what it is longer by. Then the rest is taken from the snapshot and not read; a file without blocks is read if any of
    /// it may differ. `None` where nothing is known: then all is compared.
    ///
    /// Whoever answers vouches for it: what differs and is not in the set is lost.
    fn changes(&self, _file: FileId) -> Option<&ChangeSet> {
        None
    }
}

/// Takes the image of a block: file, number of the block, bytes.
pub type ImageSink<'a> = &'a mut dyn FnMut(FileId, u64, &[u8]) -> Result<()>;

/// What changed since a parent.
pub trait Delta {
    /// All files as they are now, also those that did not change. One that is missing here is gone.
    fn files(&self) -> Vec<FileShape>;

    /// The shortest length that the file had since the parent, bytes, its length then and now included: of what is at
    /// or behind it nothing of the parent is left, although the file may have grown over it again.
    fn zeroed_from(&self, file: FileId) -> u64;

    /// Hands out the newest image of every changed block, each block at most once, in any order; an order by file and
    /// block makes the smallest snapshots. An image has the file's block size; the last of a file may be cut at its
    /// end. Images behind the end are passed over.
    ///
    /// # Errors
    /// What `sink` returns; [`Error::Delta`](crate::Error::Delta) for what keeps the images from being read.
    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()>;
}

/// True if all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}
