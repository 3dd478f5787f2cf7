//! The part of a block image that set-lengths leave.

/// The place of a block image in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockImage {
    /// Number of the block.
    pub block: u64,
    /// Size of the image, bytes.
    pub block_bytes: u32,
}

impl BlockImage {
    /// Offset of the image's first byte in the file, bytes. Saturates.
    #[inline]
    #[must_use]
    pub fn start(&self) -> u64 {
        self.block.saturating_mul(self.block_bytes.into())
    }

    /// Number of bytes of the image that count. The others read as zeros. `shortest_later` is the
    /// shortest length that was set after the image was logged, bytes: see
    /// [`Cuts::shortest_after`](crate::Cuts::shortest_after).
    #[inline]
    #[must_use]
    pub fn kept(&self, shortest_later: u64) -> u32 {
        let kept = shortest_later.saturating_sub(self.start());
        u32::try_from(kept).unwrap_or(u32::MAX).min(self.block_bytes)
    }

    /// Overwrites all but the first `kept` bytes of the image's content with zeros.
    pub fn clip(data: &mut [u8], kept: u32) {
        data.get_mut(kept as usize..).unwrap_or_default().fill(0);
    }
}
