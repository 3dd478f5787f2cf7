//! Files, extents, blocks: how a file is cut up.
//!
//! A file of blocks is cut at each mebibyte: its blocks stay where they are. Of a file without blocks, text or an archive, all
//! moves when something is put in; it is cut where its content says, so that what has only moved is cut as before.

use crate::{Error, Result};
use pitr_format::FileId;

/// Bytes of an extent, the unit in which files are stored whole; the most of one in a file without blocks.
pub const EXTENT_BYTES: u64 = 1 << 20;
/// Smallest block, bytes.
pub const BLOCK_BYTES_MIN: u32 = 512;
/// Largest block, bytes.
pub const BLOCK_BYTES_MAX: u32 = 64 << 10;
/// Extents that one node of the tree covers.
pub(crate) const NODE_EXTENTS: u64 = 4096;
/// Extents that one overlay leaf covers.
pub(crate) const GROUP_EXTENTS: u64 = 256;
/// Overlay leaves of a node.
pub(crate) const NODE_GROUPS: u64 = NODE_EXTENTS / GROUP_EXTENTS;
/// Longest name of a file, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 4096;
/// Longest file, bytes: sums of lengths and positions stay far from the end of their range.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 56;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileShape {
    /// The file.
    pub file: FileId,
    /// Its path within the source: relative, without `..`.
    pub name: String,
    /// Its length, bytes.
    pub len: u64,
    /// Bytes of its blocks: a power of two from 512 to 65536; 0 for a file without blocks.
    pub block_bytes: u32,
}

impl FileShape {
    /// What keeps a snapshot from holding such a file.
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

    pub(crate) fn has_blocks(&self) -> bool {
        self.block_bytes != 0
    }

    /// A file without blocks counts as one of large ones: nothing lies over its extents.
    pub(crate) fn geometry(&self) -> Geometry {
        let block_bytes = if self.has_blocks() { self.block_bytes } else { BLOCK_BYTES_MAX };
        Geometry { block_bytes: u64::from(block_bytes) }
    }
}

/// FAILURES 31: no name leads out of the folder that a snapshot is restored into.
fn is_inner_path(name: &str) -> bool {
    let inner = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
    name.len() <= NAME_BYTES_MAX && name.split('/').all(inner)
}

/// Sums over blocks of one size.
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

    /// Blocks that hold `bytes`.
    pub(crate) fn blocks(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block_bytes)
    }
}

/// Extents of a file of blocks of this length.
pub(crate) fn extents(len: u64) -> u64 {
    len.div_ceil(EXTENT_BYTES)
}

/// Nodes of a file of blocks of this length.
pub(crate) fn nodes(len: u64) -> u64 {
    extents(len).div_ceil(NODE_EXTENTS)
}

/// Extents of a node in a file of this length.
pub(crate) fn extents_of_node(len: u64, node: u64) -> u64 {
    extents(len).saturating_sub(node * NODE_EXTENTS).min(NODE_EXTENTS)
}

/// Bytes of an extent in a file of this length.
pub(crate) fn extent_len(len: u64, extent: u64) -> usize {
    len.saturating_sub(extent * EXTENT_BYTES).min(EXTENT_BYTES) as usize // at most 1 MiB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        // FAILURES 31
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\0"] {
            assert!(!is_inner_path(bad), "{bad}");
        }
        assert!(is_inner_path("app.db") && is_inner_path("a/b..c/.d"));
    }

    #[test]
    fn files_are_cut_up() {
        let m = EXTENT_BYTES;
        assert_eq!((extents(0), extents(1), extents(m), extents(m + 1)), (0, 1, 1, 2));
        assert_eq!((nodes(0), nodes(4096 * m), nodes(4096 * m + 1)), (0, 1, 2));
        assert_eq!((extents_of_node(5000 * m, 0), extents_of_node(5000 * m, 1)), (4096, 904));
        assert_eq!((extent_len(m + 5, 0), extent_len(m + 5, 1), extent_len(m + 5, 2)), (m as usize, 5, 0));
    }
}
