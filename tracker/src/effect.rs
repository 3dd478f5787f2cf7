//! The changes that a record of the log makes. Live epochs and the extractor share this definition.

use crate::BlockSize;
use pitr_format::FileId;
use pitr_format::record::Record;

/// The changes that one record makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// One block of a file with this block size.
    Block(FileId, BlockSize, u64),
    /// Every block of a file from this byte on.
    From(FileId, u64),
    /// Every block of every file, or it is unknown which.
    Everything,
    /// No block.
    Nothing,
}

impl Effect {
    /// The effect of a record.
    ///
    /// A gap changes everything, because the changes in it were not captured. An image with an
    /// invalid block size changes its whole file.
    #[inline]
    pub(crate) fn of(record: &Record<'_>) -> Effect {
        match record {
            Record::Image { file, block, data } => match BlockSize::new(data.len() as u32) {
                Ok(size) => Effect::Block(*file, size, *block),
                Err(_) => Effect::From(*file, 0),
            },
            Record::SetLength { file, len } => Effect::From(*file, *len),
            Record::Gap { .. } => Effect::Everything,
            _ => Effect::Nothing,
        }
    }
}
