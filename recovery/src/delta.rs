//! Changes since a snapshot, from the archived log: connects the archive's merge with the
//! snapshot's increment.
//!
//! A log with logical records gives no delta: [`Merged::new`] refuses it. An increment from its
//! images alone would lack the changes of those records (FAILURES 52).

use crate::error::{Error, Result};
use pitr_archive::{Image, Merged};
use pitr_format::FileId;
use pitr_snapshot::{Delta, FileShape, Manifest};

/// The changes since a snapshot, from a merge of the log after it.
#[derive(Debug)]
pub struct LogDelta {
    merged: Merged,
    before: Vec<FileShape>,
    after: Vec<FileShape>,
}

impl LogDelta {
    /// The delta from `parent` to the end of `merged`, which must begin at the parent's `redo_from`
    /// and end at or after its `consistent_at`.
    ///
    /// # Errors
    /// [`Error::OtherShape`] if the log touches a file that the parent doesn't have, or in blocks
    /// of another size: then only a full snapshot is possible.
    pub fn new(merged: Merged, parent: &Manifest) -> Result<Self> {
        let before: Vec<FileShape> = parent.files.iter().map(|entry| entry.shape.clone()).collect();
        for (file, change) in merged.files() {
            let known = before.iter().find(|shape| shape.file == *file);
            let fits = known.is_some_and(|shape| change.block_bytes.is_none_or(|b| b == shape.block_bytes));
            if !fits {
                return Err(Error::OtherShape { file: *file });
            }
        }
        let grown = |shape: &FileShape| {
            let change = merged.files().get(&shape.file);
            FileShape { len: change.map_or(shape.len, |c| c.len_after(shape.len)), ..shape.clone() }
        };
        let after = before.iter().map(grown).collect();
        Ok(LogDelta { merged, before, after })
    }

    /// The merge.
    #[must_use]
    pub fn merged(&self) -> &Merged {
        &self.merged
    }
}

impl Delta for LogDelta {
    fn files(&self) -> Vec<FileShape> {
        self.after.clone()
    }

    fn zeroed_from(&self, file: FileId) -> u64 {
        let len = |shapes: &[FileShape]| shapes.iter().find(|shape| shape.file == file).map_or(0, |s| s.len);
        let cut = self.merged.files().get(&file).map_or(u64::MAX, |change| change.min_len);
        cut.min(len(&self.before)).min(len(&self.after))
    }

    fn for_each_image(
        &mut self,
        sink: &mut dyn FnMut(FileId, u64, &[u8]) -> pitr_snapshot::Result<()>,
    ) -> pitr_snapshot::Result<()> {
        let done = self
            .merged
            .for_each(|image: Image<'_>| sink(image.file, image.block, image.data).map_err(Failed::Snapshot));
        done.map_err(|failed| match failed {
            Failed::Archive(error) => pitr_snapshot::Error::Delta(Box::new(error)),
            Failed::Snapshot(error) => error,
        })
    }
}

/// The side that failed.
enum Failed {
    Archive(pitr_archive::Error),
    Snapshot(pitr_snapshot::Error),
}

impl From<pitr_archive::Error> for Failed {
    fn from(error: pitr_archive::Error) -> Self {
        Failed::Archive(error)
    }
}
