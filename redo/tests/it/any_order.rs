//! The traversal of local recovery: parts of the log, each read on its own, joined in any order.

use crate::log::{BLOCK_BYTES, Files, Logged, What, content};
use pitr_format::{FileId, Lsn};
use pitr_redo::{BlockImage, Cuts, FileChange, Winners};
use std::collections::BTreeMap;

/// The changes of files by a part of the log.
#[derive(Debug, Default)]
pub(crate) struct Part {
    files: BTreeMap<FileId, (BTreeMap<u64, Lsn>, Cuts)>,
}

impl Part {
    pub(crate) fn of(part: &[Logged], winners: &Winners) -> Part {
        let mut files: BTreeMap<FileId, (BTreeMap<u64, Lsn>, Cuts)> = BTreeMap::new();
        for logged in part.iter().filter(|logged| winners.counts(logged.tx, logged.lsn)) {
            match logged.what {
                What::Image { file, block } => {
                    _ = files.entry(file).or_default().0.insert(block, logged.lsn);
                }
                What::SetLength { file, len } => {
                    files.entry(file).or_default().1.set_length(logged.lsn, len);
                }
                What::Commit { .. } | What::Abort => {}
            }
        }
        Part { files }
    }

    pub(crate) fn join(mut self, other: Part) -> Part {
        for (file, (images, cuts)) in other.files {
            let own = self.files.entry(file).or_default();
            for (block, lsn) in images {
                let newest = own.0.entry(block).or_insert(lsn);
                *newest = lsn.max(*newest);
            }
            own.1.join(&cuts);
        }
        self
    }

    /// The files after this part of the log.
    pub(crate) fn over(&self, base: &Files) -> Files {
        let mut files = base.clone();
        for (file, (images, cuts)) in &self.files {
            let mut change = FileChange::default();
            change.set_lengths(cuts);
            let mut kept = Vec::new();
            for (&block, &lsn) in images {
                let image = BlockImage { block, block_bytes: BLOCK_BYTES };
                change.set_block_bytes(BLOCK_BYTES).unwrap();
                let left = image.kept(cuts.shortest_after(lsn));
                change.add_image(image, left);
                kept.push((lsn, image, left));
            }
            let before = files.remove(file).unwrap_or_default();
            files.insert(*file, lay_over(&before, &change, &kept));
        }
        crate::log::without_empty(files)
    }
}

/// Writes the remaining bytes of the images over those of the base.
pub(crate) fn lay_over(before: &[u8], change: &FileChange, images: &[(Lsn, BlockImage, u32)]) -> Vec<u8> {
    let len = change.len_after(before.len() as u64) as usize;
    let left = before.len().min(len).min(usize::try_from(change.min_len).unwrap_or(usize::MAX));
    let mut after = before[..left].to_vec();
    after.resize(len, 0);
    for (lsn, image, kept) in images {
        let mut bytes = content(*lsn);
        BlockImage::clip(&mut bytes, *kept);
        let start = (image.start() as usize).min(len);
        let end = (start + bytes.len()).min(len);
        after[start..end].copy_from_slice(&bytes[..end - start]);
    }
    after
}
