//! The changes of one file by a part of the log.

use crate::cuts::Cuts;
use crate::image::BlockImage;
use std::{error, fmt};

/// The committed images of a file have more than one size, so it is undefined how they overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixedBlockSizes;

impl fmt::Display for MixedBlockSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file has block images of more than one size")
    }
}

impl error::Error for MixedBlockSizes {}

/// The changes of one file by a part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileChange {
    /// Size of the file's images, bytes; `None` if it has none.
    pub block_bytes: Option<u32>,
    /// The shortest length that was set, bytes. The earlier state has no content at or after it.
    /// [`u64::MAX`] if no length was set.
    pub min_len: u64,
    /// The last length that was set, bytes.
    pub set_len: Option<u64>,
    /// End of the last surviving image, as an offset in the file, bytes.
    pub images_end: u64,
}

/// No image and no set-length.
impl Default for FileChange {
    fn default() -> Self {
        FileChange { block_bytes: None, min_len: u64::MAX, set_len: None, images_end: 0 }
    }
}

impl FileChange {
    /// Length of the file after the change, bytes, if it was `before` bytes long.
    #[must_use]
    pub fn len_after(&self, before: u64) -> u64 {
        self.set_len.unwrap_or(before).max(self.images_end)
    }

    /// States the size of an image that counts, bytes. Images that are cut off count too.
    ///
    /// # Errors
    /// [`MixedBlockSizes`] if an earlier call stated another size.
    #[inline]
    pub fn set_block_bytes(&mut self, block_bytes: u32) -> Result<(), MixedBlockSizes> {
        match *self.block_bytes.get_or_insert(block_bytes) == block_bytes {
            true => Ok(()),
            false => Err(MixedBlockSizes),
        }
    }

    /// Adds a surviving image, of which the first `kept` bytes count.
    #[inline]
    pub fn add_image(&mut self, image: BlockImage, kept: u32) {
        if kept > 0 {
            self.images_end = self.images_end.max(image.start().saturating_add(kept.into()));
        }
    }

    /// Takes over the lengths of the file.
    pub fn set_lengths(&mut self, cuts: &Cuts) {
        self.min_len = cuts.shortest();
        self.set_len = cuts.last();
    }
}
