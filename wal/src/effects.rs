//! What images and set-lengths leave of each file: the newest image of each block, and how much of it.
//!
//! # Rules
//! The same as where the archive merges footers, told by positions alone, so that parts can be joined in any order:
//! - Of the images of a block the one at the highest position wins. Blocks are owned until commit.
//! - A set-length cuts off what lies behind it then: of an older image only what is in front of the shortest later length
//!   stays, also if the file grows again (FAILURES 45).
//! - An image that ends behind the end of its file lengthens the file, as a write does.
//! - All committed images of a file have one size.

use crate::{Error, Result};
use pitr_format::{FileId, Lsn};
use std::collections::{BTreeMap, HashMap};

/// What a part of the log does to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileChange {
    /// Size of its images, bytes; `None` if it has none.
    pub block_bytes: Option<u32>,
    /// The shortest length that was set, bytes: of the state before nothing is left at or behind it. [`u64::MAX`] if it
    /// was never cut.
    pub min_len: u64,
    /// The last length that was set, bytes.
    pub set_len: Option<u64>,
    /// Just behind the last byte of its surviving images.
    pub images_end: u64,
}

/// What the records of a transaction, or of all that committed, do to files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    files: BTreeMap<FileId, FileEffects>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileEffects {
    /// Position of the newest image of each block, by the size of the images.
    images: BTreeMap<u32, HashMap<u64, Lsn>>,
    /// Lengths that were set, as far as they matter: from each on, every later one is longer.
    cuts: BTreeMap<Lsn, u64>,
}

impl FileEffects {
    fn image(&mut self, lsn: Lsn, block: u64, size: u32) {
        let newest = self.images.entry(size).or_default().entry(block).or_insert(lsn);
        *newest = lsn.max(*newest);
    }

    fn cut(&mut self, lsn: Lsn, len: u64) {
        if self.cuts.range(lsn..).next().is_some_and(|(_, later)| *later <= len) {
            return;
        }
        while let Some((&earlier, &other)) = self.cuts.range(..lsn).next_back()
            && other >= len
        {
            self.cuts.remove(&earlier);
        }
        self.cuts.insert(lsn, len);
    }

    /// Bytes of an image at `lsn` that are left.
    fn left(&self, lsn: Lsn, block: u64, size: u32) -> u32 {
        let shortest = self.cuts.range(lsn..).next().map_or(u64::MAX, |(_, len)| *len);
        let left = shortest.saturating_sub(block.saturating_mul(size.into()));
        u32::try_from(left).unwrap_or(u32::MAX).min(size)
    }

    fn change(&self) -> FileChange {
        let surviving = self.images.iter().flat_map(|(size, blocks)| {
            blocks.iter().map(|(block, lsn)| (*block, *size, self.left(*lsn, *block, *size)))
        });
        let ends = surviving
            .filter(|(.., left)| *left > 0)
            .map(|(block, size, left)| block.saturating_mul(size.into()).saturating_add(left.into()));
        FileChange {
            block_bytes: self.images.keys().next().copied(),
            min_len: self.cuts.values().next().copied().unwrap_or(u64::MAX),
            set_len: self.cuts.values().next_back().copied(),
            images_end: ends.max().unwrap_or(0),
        }
    }
}

impl Effects {
    pub(crate) fn image(&mut self, lsn: Lsn, file: FileId, block: u64, size: u32) {
        self.files.entry(file).or_default().image(lsn, block, size);
    }

    pub(crate) fn set_length(&mut self, lsn: Lsn, file: FileId, len: u64) {
        self.files.entry(file).or_default().cut(lsn, len);
    }

    /// Takes over what `other` did at or behind `from`.
    pub(crate) fn join(&mut self, other: Effects, from: Lsn) {
        for (file, effects) in other.files {
            for (size, blocks) in effects.images {
                for (block, lsn) in blocks.into_iter().filter(|(_, lsn)| *lsn >= from) {
                    self.image(lsn, file, block, size);
                }
            }
            effects.cuts.range(from..).for_each(|(lsn, len)| self.set_length(*lsn, file, *len));
        }
    }

    /// Where the image stands that is left of a block, and how many bytes of it.
    pub(crate) fn newest(&self, file: FileId, block: u64) -> Option<(Lsn, u32)> {
        let effects = self.files.get(&file)?;
        let (size, blocks) = effects.images.first_key_value()?;
        let lsn = *blocks.get(&block)?;
        Some((lsn, effects.left(lsn, block, *size))).filter(|(_, left)| *left > 0)
    }

    /// What is done to each file.
    pub(crate) fn changes(&self) -> Result<BTreeMap<FileId, FileChange>> {
        let change = |(file, effects): (&FileId, &FileEffects)| match effects.images.len() {
            0 | 1 => Ok((*file, effects.change())),
            _ => Err(Error::BlockSize { file: *file }),
        };
        self.files.iter().map(change).collect()
    }
}
