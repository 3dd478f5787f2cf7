//! The delta that a tracker recorded. Only the changed blocks of the source are read.

use crate::scattered::each_block;
use crate::{BlockSource, Delta, Error, FileShape, ImageSink, Result};
use pitr_format::FileId;
use pitr_tracker::{BlockSize, ChangeSet};
use pitr_vfs::Spawn;

/// The changes since a parent, as recorded by a tracker.
///
/// The set must contain every block that was written since the parent's `redo_from`, and may
/// contain more. The time depends on the number of changed blocks, not on the length of the files.
#[derive(Debug)]
pub struct Tracked<'a, S: ?Sized> {
    source: &'a S,
    changes: &'a ChangeSet,
    spawn: Spawn,
}

impl<'a, S: BlockSource + ?Sized> Tracked<'a, S> {
    /// Creates the delta of these changes. The source must not change during the read.
    #[must_use]
    pub fn new(source: &'a S, changes: &'a ChangeSet) -> Self {
        Tracked { source, changes, spawn: Spawn::Threads }
    }

    /// Reads in the calling thread only, if `spawn` says so.
    #[must_use]
    pub fn with_spawn(self, spawn: Spawn) -> Self {
        Tracked { spawn, ..self }
    }
}

impl<S: BlockSource + ?Sized> Delta for Tracked<'_, S> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn zeroed_from(&self, file: FileId) -> u64 {
        self.changes.changed_from(file).unwrap_or(u64::MAX)
    }

    fn for_each_image(&mut self, sink: ImageSink<'_>) -> Result<()> {
        let shapes = self.source.files();
        let sizes: Vec<BlockSize> = shapes.iter().map(block_size).collect::<Result<_>>()?;
        let blocks = shapes.iter().zip(sizes).flat_map(|(shape, size)| {
            self.changes.blocks(shape.file, size, shape.len).map(move |block| (shape, block))
        });
        each_block(self.spawn, self.source, blocks, |shape, block, image| sink(shape.file, block, image))
    }
}

/// The file's block size as a tracker type.
pub(crate) fn block_size(shape: &FileShape) -> Result<BlockSize> {
    shape.check()?;
    let what = "its block size is not supported by the tracker";
    BlockSize::new(shape.block_bytes).map_err(|_| Error::Shape { file: shape.file, what })
}
