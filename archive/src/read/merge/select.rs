//! Which images count: the first pass of a merge, over footers alone, newest object first. Pure.
//!
//! The rules are those of [`pitr_redo`]; this pass applies them newest object first. It keeps one
//! bit for each block, which is set once the block's newest image is found. Logical records count
//! under the same rules. All of them are needed, so the pass finds the parts of objects that may
//! have them.

use super::blocks::BlockSet;
use crate::error::Error;
use crate::history::Piece;
use crate::stored::{CommitEntry, Footer, ImageEntry, LogicalEntry};
use bit_vec::BitVec;
use pitr_format::record::RecordKind;
use pitr_format::{FileId, Lsn, PartitionId, TxId};
use pitr_redo::{BlockImage, CommitSpan, Cuts, FileChange, MixedBlockSizes, is_within};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// True if a footer lists a logical record of the transaction that counts.
    pub(super) is_logical: bool,
    /// True if an object of the transaction lists no logical records. Older objects never list
    /// them.
    is_unlisted: bool,
}

impl From<&CommitEntry> for Window {
    fn from(commit: &CommitEntry) -> Self {
        let CommitEntry { tx, lsn, first_lsn, blocks, bytes, .. } = *commit;
        let span = CommitSpan { tx, first: first_lsn, commit: lsn };
        Window { span, blocks, bytes, is_logical: false, is_unlisted: false }
    }
}

impl Window {
    /// An image of the transaction was found.
    fn found(&mut self, block_bytes: u32) {
        self.blocks = self.blocks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(block_bytes.into());
    }

    /// True if footers may not list all logical records of the transaction: it logged more bytes
    /// than the images found, and one of its objects lists no logical records.
    fn is_suspect(&self) -> bool {
        self.is_unlisted && self.blocks == 0 && self.bytes > 0
    }
}

/// The parts of an object that count.
#[derive(Debug)]
pub(super) struct Selected {
    /// One bit for each image in the footer's order; `None` if no image survives.
    pub(super) images: Option<BitVec>,
    /// The range of LSNs that has the logical records that count; `None` if there is none.
    pub(super) logical: Option<Range<Lsn>>,
}

/// The state of the pass.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) after: Lsn,
    pub(super) upto: Lsn,
    files: BTreeMap<FileId, MergedFile>,
    /// Commits whose transactions started before the objects so far.
    pending: Vec<Window>,
    pub(super) crossings: Vec<Crossing>,
    /// Images that a set-length cuts, with the number of bytes left.
    pub(super) clipped: HashMap<Lsn, u32>,
    pub(super) seen: u64,
    pub(super) survivors: u64,
    /// Number of transactions that count.
    pub(super) applied: u64,
    /// Transactions with records in the range that do not count: aborted, unfinished, or committed
    /// later.
    pub(super) skipped: HashSet<TxId>,
    /// The first logical record that counts of each partition, as far as footers list it.
    pub(super) partitions: BTreeMap<PartitionId, LogicalEntry>,
    /// Number of transactions with logical records that count.
    pub(super) logical_transactions: u64,
    /// Commits whose transactions started in an object before that of the commit.
    pub(super) long: Vec<CommitSpan>,
    /// Transactions that logged more than images, with objects that list no logical records: these
    /// may have been written before footers listed them.
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
            applied: 0,
            skipped: HashSet::new(),
            partitions: BTreeMap::new(),
            logical_transactions: 0,
            long: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// The changes of each file by the range.
    pub(super) fn into_files(mut self) -> BTreeMap<FileId, MergedFile> {
        self.files.values_mut().for_each(|file| file.change.set_lengths(&file.cuts));
        self.files
    }

    /// Takes the next older object.
    pub(super) fn add(&mut self, piece: &Piece, footer: &Footer) -> Result<Selected, Error> {
        let upto = self.upto.min(piece.to);
        let commits = footer.commits.iter().filter(|commit| is_within(Bound::Included(upto), commit.lsn));
        let began_earlier = |commit: &&CommitEntry| commit.first_lsn < footer.from;
        self.long.extend(commits.clone().filter(began_earlier).map(|commit| Window::from(commit).span));
        let known = self.pending.len();
        self.pending.extend(commits.map(Window::from));
        let counted = self.pending[known..].iter().filter(|window| window.span.commit > self.after);
        self.applied += counted.count() as u64;
        let by_tx = ByTx::new(&self.pending);
        let range = self.after..upto;
        let logical = self.add_logical(&by_tx, &range, footer);
        self.add_lengths(&by_tx, &range, footer);
        let images = self.add_images(&by_tx, &range, piece, footer)?;
        if footer.logical.is_empty() {
            self.pending.iter_mut().for_each(|window| window.is_unlisted = true);
        }
        let whole = self.pending.extract_if(.., |window| window.span.first >= footer.from);
        self.suspects.extend(whole.filter(Window::is_suspect));
        Ok(Selected { images, logical })
    }

    /// The range of LSNs that has the object's logical records that count.
    fn add_logical(&mut self, by_tx: &ByTx, range: &Range<Lsn>, footer: &Footer) -> Option<Range<Lsn>> {
        // The object that has the end of a record lists it, but the others of it are needed too.
        let cut = footer.cut.filter(|cut| cut.kind == RecordKind::Data as u8);
        let cut = cut.map(|cut| LogicalEntry { lsn: cut.lsn, tx: cut.tx, partition: cut.partition });
        let mut found: Option<Range<Lsn>> = None;
        for entry in cut.iter().chain(footer.logical.iter().rev()) {
            if !range.contains(&entry.lsn) {
                continue;
            }
            let Some(own) = by_tx.window(&self.pending, entry.tx, entry.lsn) else {
                self.skipped.insert(entry.tx);
                continue;
            };
            let own = &mut self.pending[own];
            if !own.is_logical {
                own.is_logical = true;
                self.logical_transactions += 1;
            }
            self.partitions.insert(entry.partition, *entry);
            // The entry is the last record: the others lie anywhere from the begin of the
            // transaction.
            let (from, to) = (own.span.first.max(self.after), own.span.commit);
            let all = found.unwrap_or(from..to);
            found = Some(all.start.min(from)..all.end.max(to));
        }
        found
    }

    fn add_lengths(&mut self, by_tx: &ByTx, range: &Range<Lsn>, footer: &Footer) {
        let mut older: BTreeMap<FileId, Cuts> = BTreeMap::new();
        for entry in footer.set_lengths.iter().filter(|entry| range.contains(&entry.lsn)) {
            match by_tx.window(&self.pending, entry.tx, entry.lsn) {
                Some(_) => older.entry(entry.file).or_default().set_length(entry.lsn, entry.len),
                None => drop(self.skipped.insert(entry.tx)),
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
            // A file whose images all belong to later commits is not touched.
            let mut merged = self.files.remove(&file);
            for (no, image) in images.images.iter().enumerate().rev() {
                let Some(own) = by_tx.window(&self.pending, image.tx, image.lsn) else {
                    if range.contains(&image.lsn) {
                        self.skipped.insert(image.tx);
                    }
                    continue;
                };
                self.pending[own].found(block_bytes);
                if !range.contains(&image.lsn) {
                    continue;
                }
                self.seen += 1;
                let merged = merged.get_or_insert_default();
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
            self.files.extend(merged.map(|merged| (file, merged)));
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
