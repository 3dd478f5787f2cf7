//! What a record of the log changes: one meaning for live epochs and for sets made from the log.

use crate::BlockSize;
use pitr_format::FileId;
use pitr_format::record::Record;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A block of a file whose blocks have this size.
    Block(FileId, BlockSize, u64),
    /// A file from this byte on.
    From(FileId, u64),
    /// Everything, or nobody knows what.
    Everything,
    /// No block.
    Nothing,
}

impl Effect {
    /// A gap changes everything: what was done in it was not seen. An image of a size that no block has changes all of
    /// its file.
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
