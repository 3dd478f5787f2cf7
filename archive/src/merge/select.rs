//! Which images count: the first pass of a merge, over footers alone, newest object first. Pure.
//!
//! # Rules
//! - An image belongs to the commit of its transaction that began at or before it and was logged behind it. Without
//!   one at or before the end of the range it leaves no trace. A number that was used again after an abort is told
//!   apart by where the commit says that its transaction began.
//! - Of the images of a block the newest wins. Blocks are owned until commit, so position decides.
//! - A set-length cuts off what lies behind it then: an older image of a block behind it is gone for good, even if the
//!   file grows again, and of a block across it only the part in front stays (FAILURES 45).
//! - Logical records count as images do. None is put anywhere here: that there is one is found.
//! - An image that ends behind the end of its file lengthens the file, as a write does.

use super::blocks::BlockSet;
use crate::error::Error;
use crate::footer::{CommitEntry, FileImages, Footer, ImageEntry, LogicalEntry, SetLengthEntry};
use crate::lineage::Piece;
use bit_vec::BitVec;
use pitr_format::{FileId, Lsn, TxId};
use std::collections::{BTreeMap, HashMap};

/// What the range does to one file.
#[derive(Debug, Clone, Default)]
pub struct FileChange {
    /// Size of its images, bytes; `None` if it has none.
    pub block_bytes: Option<u32>,
    /// Its shortest length in between, bytes: at and behind it nothing of the state before the range is left.
    /// [`u64::MAX`] if it was never cut.
    pub min_len: u64,
    /// The last length that was set, bytes.
    pub set_len: Option<u64>,
    /// Just behind the last byte of its surviving images.
    pub images_end: u64,
    /// The blocks that have a surviving image.
    pub blocks: BlockSet,
}

impl FileChange {
    fn untouched() -> Self {
        FileChange { min_len: u64::MAX, ..FileChange::default() }
    }

    /// The file's length after the range if it was `before` bytes long.
    #[must_use]
    pub fn len_after(&self, before: u64) -> u64 {
        self.set_len.unwrap_or(before).max(self.images_end)
    }
}

/// A surviving image that does not begin in the object that indexes it, or of which only a part counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) lsn: Lsn,
    pub(super) end: Lsn,
    pub(super) file: FileId,
    pub(super) block: u64,
}

/// From the first record of a transaction to its commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) tx: TxId,
    pub(super) first: Lsn,
    pub(super) commit: Lsn,
    /// Images and bytes that it logged, as its commit says, less the images found so far.
    blocks: u64,
    bytes: u64,
}

impl From<&CommitEntry> for Window {
    fn from(commit: &CommitEntry) -> Self {
        let CommitEntry { tx, lsn, first_lsn, blocks, bytes, .. } = *commit;
        Window { tx, first: first_lsn, commit: lsn, blocks, bytes }
    }
}

impl Window {
    /// True if the images found don't make up what it logged: the rest are logical records.
    fn has_more_than_images(&self) -> bool {
        self.blocks == 0 && self.bytes > 0
    }
}

/// The state of the pass.
#[derive(Debug)]
pub(super) struct Selection {
    after: Lsn,
    upto: Lsn,
    files: BTreeMap<FileId, FileChange>,
    /// Commits whose transactions began before the objects seen so far.
    pending: Vec<Window>,
    pub(super) crossings: Vec<Crossing>,
    /// Of these images only the first bytes count.
    pub(super) clipped: HashMap<Lsn, u32>,
    pub(super) seen: u64,
    pub(super) survivors: u64,
    /// The first logical record that counts, as a footer says.
    pub(super) logical: Option<LogicalEntry>,
    /// Transactions that logged more than images, while no footer says of what partition: their objects were made before footers
    /// told of logical records.
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

    pub(super) fn files(self) -> BTreeMap<FileId, FileChange> {
        self.files
    }

    /// Takes the next older object; returns one bit for each of its images in the footer's order, or `None` if no
    /// image of it survives.
    pub(super) fn add(&mut self, piece: &Piece, footer: &Footer) -> Result<Option<BitVec>, Error> {
        let upto = self.upto.min(piece.to);
        let commits = footer.commits.iter().filter(|commit| commit.lsn <= upto);
        self.pending.extend(commits.map(Window::from));
        let mut by_tx: HashMap<TxId, Vec<usize>> = HashMap::new();
        for (no, window) in self.pending.iter().enumerate() {
            by_tx.entry(window.tx).or_default().push(no);
        }
        let (after, pending) = (self.after, &mut self.pending);
        let window = |pending: &[Window], tx: TxId, lsn: Lsn| {
            let numbers = by_tx.get(&tx).map_or(&[][..], Vec::as_slice);
            numbers.iter().copied().find(|no| pending[*no].first <= lsn && lsn < pending[*no].commit)
        };
        let within = |lsn: Lsn| after <= lsn && lsn < upto;
        let counts = |pending: &[Window], tx, lsn| within(lsn) && window(pending, tx, lsn).is_some();
        let logical = footer.logical.iter().find(|entry| counts(pending, entry.tx, entry.lsn));
        self.logical = logical.copied().or(self.logical);
        let lengths: Vec<SetLengthEntry> =
            footer.set_lengths.iter().filter(|e| counts(pending, e.tx, e.lsn)).copied().collect();

        let mut bits = BitVec::from_elem(footer.image_count(), false);
        let (mut base, mut any) = (0, false);
        for images in &footer.files {
            let cuts = Cuts::new(&lengths, images.file, self.files.get(&images.file));
            let change = self.files.entry(images.file).or_insert_with(FileChange::untouched);
            for (no, image) in images.images.iter().enumerate().rev() {
                let Some(own) = window(pending, image.tx, image.lsn) else { continue };
                pending[own].blocks = pending[own].blocks.saturating_sub(1);
                pending[own].bytes = pending[own].bytes.saturating_sub(images.block_bytes.into());
                if !within(image.lsn) {
                    continue;
                }
                self.seen += 1;
                let Some(valid) = keep(change, images, image, &cuts, piece)? else { continue };
                bits.set(base + no, true);
                any = true;
                self.survivors += 1;
                if valid < images.block_bytes {
                    self.clipped.insert(image.lsn, valid);
                }
                if image.lsn < footer.from {
                    self.crossings.push(crossing(footer, images.file, image, piece)?);
                }
            }
            base += images.images.len();
        }
        for entry in lengths.iter().rev() {
            let change = self.files.entry(entry.file).or_insert_with(FileChange::untouched);
            change.set_len.get_or_insert(entry.len);
            change.min_len = change.min_len.min(entry.len);
        }
        let whole = self.pending.extract_if(.., |window| window.first >= footer.from);
        self.suspects.extend(whole.filter(Window::has_more_than_images));
        Ok(any.then_some(bits))
    }
}

/// How many bytes of the image survive; `None` if a newer one won or it was cut off.
fn keep(
    change: &mut FileChange,
    images: &FileImages,
    image: &ImageEntry,
    cuts: &Cuts,
    piece: &Piece,
) -> Result<Option<u32>, Error> {
    if *change.block_bytes.get_or_insert(images.block_bytes) != images.block_bytes {
        return Err(Error::BlockSize { object: piece.name, file: images.file });
    }
    let block_bytes = u64::from(images.block_bytes);
    let start = image.block.saturating_mul(block_bytes);
    let valid = cuts.after(image.lsn).saturating_sub(start).min(block_bytes);
    if valid == 0 || !change.blocks.insert(image.block) {
        return Ok(None);
    }
    change.images_end = change.images_end.max(start.saturating_add(valid));
    Ok(Some(valid as u32))
}

fn crossing(footer: &Footer, file: FileId, image: &ImageEntry, piece: &Piece) -> Result<Crossing, Error> {
    let span = footer.spans.iter().find(|span| span.lsn == image.lsn);
    let span = span.ok_or(Error::Index { object: piece.name, lsn: image.lsn })?;
    Ok(Crossing { lsn: image.lsn, end: span.end, file, block: image.block })
}

/// Where a file was cut, seen from any position within one object.
struct Cuts {
    /// Position of a set-length, and the shortest length from there to the end of the range; ascending.
    steps: Vec<(Lsn, u64)>,
    behind: u64,
}

impl Cuts {
    fn new(lengths: &[SetLengthEntry], file: FileId, newer: Option<&FileChange>) -> Self {
        let behind = newer.map_or(u64::MAX, |change| change.min_len);
        let mut shortest = behind;
        let mut steps: Vec<(Lsn, u64)> = Vec::new();
        for entry in lengths.iter().rev().filter(|entry| entry.file == file) {
            shortest = shortest.min(entry.len);
            steps.push((entry.lsn, shortest));
        }
        steps.reverse();
        Cuts { steps, behind }
    }

    /// The shortest length that was set behind `lsn`, bytes.
    fn after(&self, lsn: Lsn) -> u64 {
        let next = self.steps.partition_point(|(at, _)| *at < lsn);
        self.steps.get(next).map_or(self.behind, |(_, shortest)| *shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_counts_for_what_came_before_it_only() {
        // FAILURES 45
        let at = |lsn, len| SetLengthEntry { lsn: Lsn::new(lsn), file: FileId::FIRST, len, tx: TxId::FIRST };
        let newer = FileChange { min_len: 70, ..FileChange::default() };
        let cuts = Cuts::new(&[at(10, 50), at(20, 90), at(30, 60)], FileId::FIRST, Some(&newer));
        for (lsn, shortest) in [(5, 50), (15, 60), (25, 60), (35, 70)] {
            assert_eq!(cuts.after(Lsn::new(lsn)), shortest, "{lsn}");
        }
    }
}
