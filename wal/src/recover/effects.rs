//! The changes of files by a part of the log: the newest image of each block, and the cuts.
//!
//! Everything is kept by position, so parts can be joined in any order. The rules are those of
//! [`pitr_redo`].

use crate::{Error, Result};
use pitr_format::{FileId, Lsn};
use pitr_redo::{BlockImage, Cuts, FileChange, MixedBlockSizes};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// The changes of files by one transaction, or by all that committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    files: BTreeMap<FileId, FileEffects>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileEffects {
    /// LSN of the newest image of each block, by the size of the images.
    images: BTreeMap<u32, HashMap<u64, Lsn>>,
    cuts: Cuts,
}

impl FileEffects {
    fn image(&mut self, lsn: Lsn, image: BlockImage) {
        let of_size = self.images.entry(image.block_bytes).or_default();
        let newest = of_size.entry(image.block).or_insert(lsn);
        *newest = lsn.max(*newest);
    }

    fn discard_before(&mut self, from: Lsn) {
        self.images.retain(|_, blocks| {
            blocks.retain(|_, lsn| *lsn >= from);
            !blocks.is_empty()
        });
        self.cuts.discard_before(from);
    }

    fn is_empty(&self) -> bool {
        self.images.is_empty() && self.cuts.is_empty()
    }

    fn join(&mut self, other: FileEffects) {
        for (block_bytes, blocks) in other.images {
            for (block, lsn) in blocks {
                self.image(lsn, BlockImage { block, block_bytes });
            }
        }
        self.cuts.join(&other.cuts);
    }

    /// Number of bytes of the image at `lsn` that are left.
    fn kept(&self, lsn: Lsn, image: BlockImage) -> u32 {
        image.kept(self.cuts.shortest_after(lsn))
    }

    fn change(&self) -> Result<FileChange, MixedBlockSizes> {
        let mut change = FileChange::default();
        change.set_lengths(&self.cuts);
        for (&block_bytes, blocks) in &self.images {
            change.set_block_bytes(block_bytes)?;
            for (&block, &lsn) in blocks {
                let image = BlockImage { block, block_bytes };
                change.add_image(image, self.kept(lsn, image));
            }
        }
        Ok(change)
    }
}

impl Effects {
    pub(crate) fn image(&mut self, lsn: Lsn, file: FileId, image: BlockImage) {
        self.files.entry(file).or_default().image(lsn, image);
    }

    pub(crate) fn set_length(&mut self, lsn: Lsn, file: FileId, len: u64) {
        self.files.entry(file).or_default().cuts.set_length(lsn, len);
    }

    /// Adds the changes in `other` at and after `from`.
    pub(crate) fn join(&mut self, other: Effects, from: Lsn) {
        for (file, mut effects) in other.files {
            effects.discard_before(from);
            if effects.is_empty() {
                continue;
            }
            match self.files.entry(file) {
                Entry::Vacant(new) => drop(new.insert(effects)),
                Entry::Occupied(own) => own.into_mut().join(effects),
            }
        }
    }

    /// LSN of the newest image of a block, and the number of its bytes that are left. `None` if
    /// there is no image, or it is cut off completely.
    pub(crate) fn newest(&self, file: FileId, block: u64) -> Option<(Lsn, u32)> {
        let effects = self.files.get(&file)?;
        let (&block_bytes, blocks) = effects.images.first_key_value()?;
        let lsn = *blocks.get(&block)?;
        let kept = effects.kept(lsn, BlockImage { block, block_bytes });
        Some((lsn, kept)).filter(|(_, kept)| *kept > 0)
    }

    /// The changes of each file.
    pub(crate) fn changes(&self) -> Result<BTreeMap<FileId, FileChange>> {
        let change = |(file, effects): (&FileId, &FileEffects)| match effects.change() {
            Ok(change) => Ok((*file, change)),
            Err(MixedBlockSizes) => Err(Error::BlockSize { file: *file }),
        };
        self.files.iter().map(change).collect()
    }
}
