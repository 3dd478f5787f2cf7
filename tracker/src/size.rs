//! Block sizes.

use crate::{Error, Result};
use pitr_format::record::BLOCK_BYTES_MAX;

/// Block size of a file: 1 byte to 1 MiB, as the log allows. Each file may have its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u32);

impl BlockSize {
    /// 4 KiB.
    pub const DEFAULT: BlockSize = BlockSize(4096);

    /// Creates a block size, if `bytes` is allowed.
    ///
    /// # Errors
    /// [`Error::BlockSize`] for 0 and for more than 1 MiB.
    pub fn new(bytes: u32) -> Result<Self> {
        if (1..=BLOCK_BYTES_MAX).contains(&bytes) {
            Ok(BlockSize(bytes))
        } else {
            Err(Error::BlockSize { bytes })
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Offset of a block, bytes. Saturates at the end of the range.
    pub(crate) fn start_of(self, block: u64) -> u64 {
        block.saturating_mul(self.0.into())
    }

    /// The block that contains this byte.
    pub(crate) fn block_of(self, byte: u64) -> u64 {
        byte / u64::from(self.0)
    }

    /// Number of blocks in a file of this length, including a partial last block.
    pub(crate) fn blocks_in(self, len: u64) -> u64 {
        len.div_ceil(self.0.into())
    }
}
