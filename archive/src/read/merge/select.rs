//! Which images count: the first pass of a merge, over footers alone, newest object first. Pure.
//!
//! The rules are those of [`pitr_redo`]; this pass applies them newest object first. It keeps one
//! bit for each block, which is set once the block's newest image is found. Logical records count
//! under the same rules. A merge can't restore them, so it only reports them.

use super::blocks::BlockSet;
use crate::error::Error;
use crate::history::Piece;
use crate::stored::{CommitEntry, Footer, ImageEntry, LogicalEntry};
use bit_vec::BitVec;
use pitr_format::{FileId, Lsn, TxId};
use pitr_redo::{BlockImage, CommitSpan, Cuts, FileChange, MixedBlockSizes, is_within};
use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};

/// The changes of one file by the objects so far.
#[derive(Debug, Default)]
pub(super) struct MergedFile {
    pub(super) change: FileChange,
    /// The blocks that have a surviving image.
    pub(super) blocks: BlockSet,
    cuts: Cuts,
}

impl MergedFile {
    /// Number of bytes of the image at `lsn` that count. `None` if a newer image replaces the
    /// image, or if it is cut off. Images of a block come newest first.
    fn keep(&mut self, lsn: Lsn, image: BlockImage) -> Result<Option<u32>, MixedBlockSizes> {
        self.change.set_block_bytes(image.block_bytes)?;
        let kept = image.kept(self.cuts.shortest_after(lsn));
        if kept == 0 || !self.blocks.insert(image.block) {
            return Ok(None);
        }
        self.change.add_image(image, kept);
        Ok(Some(kept))
    }
}

/// A surviving image that starts in an earlier object than the one that indexes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) lsn: Lsn,
    pub(super) end: Lsn,
    pub(super) file: FileId,
    pub(super) block: u64,
}

/// A committed transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) span: CommitSpan,
    /// Number of images and bytes that the transaction logged, as its commit states, minus those
    /// found so far.
    blocks: u64,
    bytes: u64,
}

impl From<&CommitEntry> for Window {
    fn from(commit: &CommitEntry) -> Self {
        let CommitEntry { tx, lsn, first_lsn, blocks, bytes, .. } = *commit;
        Window { span: CommitSpan { tx, first: first_lsn, commit: lsn }, blocks, bytes }
    }
}

impl Window {
    /// An image of the transaction was found.
    fn found(&mut self, block_bytes: u32) {
        self.blocks = self.blocks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(block_bytes.into());
    }

    /// True if the transaction logged more bytes than the images found: the other bytes are logical
    /// records.
    fn has_more_than_images(&self) -> bool {
        self.blocks == 0 && self.bytes > 0
    }
}

/// The state of the pass.
#[derive(Debug)]
pub(super) struct Selection {
    after: Lsn,
    upto: Lsn,
    files: BTreeMap<FileId, MergedFile>,
    /// Commits whose transactions started before the objects so far.
    pending: Vec<Window>,
    pub(super) crossings: Vec<Crossing>,
    /// Images that a set-length cuts, with the number of bytes left.
    pub(super) clipped: HashMap<Lsn, u32>,
    pub(super) seen: u64,
    pub(super) survivors: u64,
    /// The first logical record that counts, from a footer.
    pub(super) logical: Option<LogicalEntry>,
    /// Transactions that logged more than images, although no footer lists a logical record. Their
    /// objects were written before footers listed logical records.
    pub(super) suspects: Vec<Window>,
}

impl Selection {
    /// Images from `after` on, of commits up to `upto`.
    pub(super) fn new(after: Lsn, upto: Lsn) -> Self {
        Selection {
            after,
            upto,
            files: BTreeMap::new(),
            pending: Vec::new(),
            crossings: Vec::new(),
            clipped: HashMap::new(),
            seen: 0,
            survivors: 0,
            logical: None,
            suspects: Vec::new(),
        }
    }

    /// The changes of each file by the range.
    pub(super) fn into_files(mut self) -> BTreeMap<FileId, MergedFile> {
        self.files.values_mut().for_each(|file| file.change.set_lengths(&file.cuts));
        self.files
    }

    /// Takes the next older object; returns one bit for each of its images in the footer's order,
    /// or `None` if no image of it survives.
    pub(super) fn add(&mut self, piece: &Piece, footer: &Footer) -> Result<Option<BitVec>, Error> {
        let upto = self.upto.min(piece.to);
        let commits = footer.commits.iter().filter(|commit| is_within(Bound::Included(upto), commit.lsn));
        self.pending.extend(commits.map(Window::from));
        let by_tx = ByTx::new(&self.pending);
        let range = self.after..upto;
        self.add_logical(&by_tx, &range, footer);
        self.add_lengths(&by_tx, &range, footer);
        let bits = self.add_images(&by_tx, &range, piece, footer)?;
        let whole = self.pending.extract_if(.., |window| window.span.first >= footer.from);
        self.suspects.extend(whole.filter(Window::has_more_than_images));
        Ok(bits)
    }

    fn add_logical(&mut self, by_tx: &ByTx, range: &Range<Lsn>, footer: &Footer) {
        let counts = |entry: &&LogicalEntry| {
            range.contains(&entry.lsn) && by_tx.window(&self.pending, entry.tx, entry.lsn).is_some()
        };
        self.logical = footer.logical.iter().find(counts).copied().or(self.logical);
    }

    fn add_lengths(&mut self, by_tx: &ByTx, range: &Range<Lsn>, footer: &Footer) {
        let mut older: BTreeMap<FileId, Cuts> = BTreeMap::new();
        for entry in footer.set_lengths.iter().filter(|entry| range.contains(&entry.lsn)) {
            if by_tx.window(&self.pending, entry.tx, entry.lsn).is_some() {
                older.entry(entry.file).or_default().set_length(entry.lsn, entry.len);
            }
        }
        for (file, mut cuts) in older {
            let own = &mut self.files.entry(file).or_default().cuts;
            own.keep_for_older();
            cuts.join(own);
            *own = cuts;
        }
    }

    fn add_images(
        &mut self,
        by_tx: &ByTx,
        range: &Range<Lsn>,
        piece: &Piece,
        footer: &Footer,
    ) -> Result<Option<BitVec>, Error> {
        let mut bits = BitVec::from_elem(footer.image_count(), false);
        let (mut base, mut any) = (0, false);
        for images in &footer.files {
            let (file, block_bytes) = (images.file, images.block_bytes);
            let merged = self.files.entry(file).or_default();
            for (no, image) in images.images.iter().enumerate().rev() {
                let Some(own) = by_tx.window(&self.pending, image.tx, image.lsn) else { continue };
                self.pending[own].found(block_bytes);
                if !range.contains(&image.lsn) {
                    continue;
                }
                self.seen += 1;
                let kept = merged.keep(image.lsn, BlockImage { block: image.block, block_bytes });
                let mixed = |MixedBlockSizes| Error::BlockSize { object: piece.name, file };
                let Some(kept) = kept.map_err(mixed)? else { continue };
                bits.set(base + no, true);
                any = true;
                self.survivors += 1;
                if kept < block_bytes {
                    self.clipped.insert(image.lsn, kept);
                }
                if image.lsn < footer.from {
                    self.crossings.push(crossing(footer, file, image, piece)?);
                }
            }
            base += images.images.len();
        }
        Ok(any.then_some(bits))
    }
}

/// Finds the commit that covers a record.
struct ByTx(HashMap<TxId, Vec<usize>>);

impl ByTx {
    fn new(windows: &[Window]) -> Self {
        let mut by_tx: HashMap<TxId, Vec<usize>> = HashMap::new();
        for (no, window) in windows.iter().enumerate() {
            by_tx.entry(window.span.tx).or_default().push(no);
        }
        ByTx(by_tx)
    }

    /// Number of the window that covers the record of `tx` at `lsn`.
    fn window(&self, windows: &[Window], tx: TxId, lsn: Lsn) -> Option<usize> {
        let numbers = self.0.get(&tx)?;
        numbers.iter().copied().find(|no| windows[*no].span.covers(tx, lsn))
    }
}

fn crossing(footer: &Footer, file: FileId, image: &ImageEntry, piece: &Piece) -> Result<Crossing, Error> {
    let span = footer.spans.iter().find(|span| span.lsn == image.lsn);
    let span = span.ok_or(Error::Index { object: piece.name, lsn: image.lsn })?;
    Ok(Crossing { lsn: image.lsn, end: span.end, file, block: image.block })
}
