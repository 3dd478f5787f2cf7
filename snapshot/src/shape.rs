//! Files, extents, blocks: how a file is divided.
//!
//! A file with blocks is divided at each MiB, because its blocks keep their positions. In a file
//! without blocks, such as text or an archive, an insertion moves everything after it. Such a file
//! is cut by its content, so that moved content is cut as before.

use crate::{Error, Result};
use pitr_format::FileId;

/// Size of an extent, the unit in which files are stored whole, bytes. In a file without blocks it
/// is the maximum.
pub const EXTENT_BYTES: u64 = 1 << 20;
/// Smallest block, bytes.
pub const BLOCK_BYTES_MIN: u32 = 512;
/// Largest block, bytes.
pub const BLOCK_BYTES_MAX: u32 = 64 << 10;
/// Number of extents per node of the tree.
pub(crate) const NODE_EXTENTS: u64 = 4096;
/// Number of extents per overlay leaf.
pub(crate) const GROUP_EXTENTS: u64 = 256;
/// Maximum number of overlay leaves per node.
pub(crate) const NODE_GROUPS: u64 = NODE_EXTENTS / GROUP_EXTENTS;
/// Longest name of a file, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 4096;
/// Maximum length of a file, bytes. Sums of lengths and positions cannot overflow.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 56;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileShape {
    /// Number of the file.
    pub file: FileId,
    /// Path within the source: relative, without `..`.
    pub name: String,
    /// Length, bytes.
    pub len: u64,
    /// Block size, bytes: a power of two from 512 to 65536, or 0 for a file without blocks.
    pub block_bytes: u32,
}

impl FileShape {
    /// The reason why a snapshot cannot hold this file, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let block = self.block_bytes;
        let fits = block.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block);
        if self.has_blocks() && !fits {
            Some("its block size is neither 0 nor a power of two from 512 to 65536")
        } else if self.len > FILE_BYTES_MAX {
            Some("it is longer than 2^56 bytes")
        } else if !is_inner_path(&self.name) {
            Some("its name is not a relative path without `.` and `..`")
        } else {
            None
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |what| Err(Error::Shape { file: self.file, what }))
    }

    /// False for a file that is cut by its content.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        self.block_bytes != 0
    }

    /// Blocks per extent and group. For a file without blocks the largest block size applies; it
    /// has no overlay.
    pub(crate) fn geometry(&self) -> Geometry {
        let block_bytes = if self.has_blocks() { self.block_bytes } else { BLOCK_BYTES_MAX };
        Geometry { block_bytes: u64::from(block_bytes) }
    }
}

/// FAILURES 31: no name leads out of the folder into which a snapshot is restored.
fn is_inner_path(name: &str) -> bool {
    let inner = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
    name.len() <= NAME_BYTES_MAX && name.split('/').all(inner)
}

/// Block counts for one block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block_bytes: u64,
}

impl Geometry {
    pub(crate) fn blocks_per_extent(self) -> u64 {
        EXTENT_BYTES / self.block_bytes
    }

    pub(crate) fn blocks_per_group(self) -> u64 {
        self.blocks_per_extent() * GROUP_EXTENTS
    }

    /// Number of blocks that hold `bytes`.
    pub(crate) fn blocks(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block_bytes)
    }
}

/// Number of extents of a file with blocks of this length.
pub(crate) fn extents(len: u64) -> u64 {
    len.div_ceil(EXTENT_BYTES)
}

/// Number of nodes of a file with blocks of this length.
pub(crate) fn nodes(len: u64) -> u64 {
    extents(len).div_ceil(NODE_EXTENTS)
}

/// Number of extents of a node in a file of this length.
pub(crate) fn extents_of_node(len: u64, node: u64) -> u64 {
    extents(len).saturating_sub(node * NODE_EXTENTS).min(NODE_EXTENTS)
}

/// Length of an extent in a file of this length, bytes.
pub(crate) fn extent_len(len: u64, extent: u64) -> usize {
    len.saturating_sub(extent * EXTENT_BYTES).min(EXTENT_BYTES) as usize // at most 1 MiB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        // FAILURES 31
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\0"] {
            assert!(!is_inner_path(bad), "{bad}");
        }
        assert!(is_inner_path("app.db") && is_inner_path("a/b..c/.d"));
    }

    #[test]
    fn files_are_divided_into_extents_and_nodes() {
        let m = EXTENT_BYTES;
        assert_eq!((extents(0), extents(1), extents(m), extents(m + 1)), (0, 1, 1, 2));
        assert_eq!((nodes(0), nodes(4096 * m), nodes(4096 * m + 1)), (0, 1, 2));
        assert_eq!((extents_of_node(5000 * m, 0), extents_of_node(5000 * m, 1)), (4096, 904));
        assert_eq!((extent_len(m + 5, 0), extent_len(m + 5, 1), extent_len(m + 5, 2)), (m as usize, 5, 0));
    }
}
