//! The bits of one file while writers set them.
//!
//! # Layout
//! A page is a slice of 128 atomic words. The first 8 pages hang at the file itself, the others in a tree of
//! two levels of 1024; each part is made with the first mark that needs it and never moves. So a writer that
//! finds its page takes no lock, and one that doesn't waits at most for another that is making it.
//!
//! # Invariants
//! - A bit is only ever set, the cut only ever falls. A mark is a load, and a `fetch_or` only if the bit is
//!   not set.
//! - What has no place, behind the tree's reach or beyond the epoch's share of memory, lowers the cut.

use crate::file_set::{FileSet, NO_CUT};
use crate::slot::{Budget, Node, Slot, empty_node};
use crate::{BlockSize, PAGE_BLOCKS, PAGE_COST};
use bit_vec::BitVec;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const WORDS: usize = (PAGE_BLOCKS / 64) as usize;
const NEAR_PAGES: usize = 8;
const FAN: usize = 1024;
/// What a node of the tree takes, bytes.
const NODE_COST: u64 = (FAN * size_of::<Slot<Page>>()) as u64;

type Leaf = Node<Page, FAN>;
type Root = Node<Leaf, FAN>;

/// 8192 bits.
#[derive(Debug)]
pub(crate) struct Page([AtomicU64; WORDS]);

impl Page {
    fn new() -> Box<Self> {
        Box::new(Page([const { AtomicU64::new(0) }; WORDS]))
    }

    /// Sets a bit: that of this number, modulo 8192.
    #[inline]
    pub(crate) fn set(&self, bit: u64) {
        let (word, mask) = (&self.0[(bit / 64) as usize % WORDS], 1 << (bit % 64));
        if word.load(Relaxed) & mask == 0 {
            word.fetch_or(mask, Relaxed);
        }
    }

    fn to_bits(&self) -> BitVec {
        let mut bytes = [0; WORDS * 8];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&self.0) {
            // A BitVec counts the bits of a byte from the high end, and keeps them from the low one.
            *place = word.load(Relaxed).to_le_bytes().map(u8::reverse_bits);
        }
        BitVec::from_bytes(&bytes)
    }
}

/// The changes of one file in the live epoch.
#[derive(Debug)]
pub(crate) struct LiveFile {
    size: OnceLock<BlockSize>,
    changed_from: AtomicU64,
    near: [Slot<Page>; NEAR_PAGES],
    far: Slot<Root>,
    budget: Arc<Budget>,
}

impl LiveFile {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        LiveFile {
            size: OnceLock::new(),
            changed_from: AtomicU64::new(NO_CUT),
            near: [const { OnceLock::new() }; NEAR_PAGES],
            far: OnceLock::new(),
            budget,
        }
    }

    /// Learns the block size. A file whose block size changed has changed all over.
    pub(crate) fn set_size(&self, size: BlockSize) {
        if *self.size.get_or_init(|| size) != size {
            self.cut(0);
        }
    }

    /// Everything from this byte on changed.
    pub(crate) fn cut(&self, byte: u64) {
        if self.changed_from.load(Relaxed) > byte {
            self.changed_from.fetch_min(byte, Relaxed);
        }
    }

    /// A block changed. Returns its page, unless the cut stands for it.
    #[inline]
    pub(crate) fn mark(&self, block: u64) -> Option<&Page> {
        let Some(page) = self.page(block / PAGE_BLOCKS) else { return self.mark_in_new_page(block) };
        page.set(block);
        Some(page)
    }

    #[inline]
    fn page(&self, page: u64) -> Option<&Page> {
        let slot = match self.near.get(page as usize) {
            Some(near) => near,
            None => {
                let leaf = self.far.get()?.get((page / FAN as u64) as usize)?.get()?;
                &leaf[page as usize % FAN]
            }
        };
        slot.get().map(Box::as_ref)
    }

    #[cold]
    fn mark_in_new_page(&self, block: u64) -> Option<&Page> {
        // The size was told before the first mark. Without it only everything can be meant.
        let start = self.size.get().map_or(0, |size| size.start_of(block));
        if start >= self.changed_from.load(Relaxed) {
            return None;
        }
        let page = self.make_page(block / PAGE_BLOCKS);
        match page {
            Some(page) => page.set(block),
            None => self.cut(start),
        }
        page
    }

    fn make_page(&self, page: u64) -> Option<&Page> {
        let budget = &self.budget;
        let slot = match self.near.get(page as usize) {
            Some(near) => near,
            None => {
                let in_root = usize::try_from(page / FAN as u64).ok().filter(|at| *at < FAN)?;
                let root = budget.fill(&self.far, NODE_COST, empty_node)?;
                &budget.fill(&root[in_root], NODE_COST, empty_node)?[page as usize % FAN]
            }
        };
        budget.fill(slot, PAGE_COST, Page::new)
    }

    /// Its changes. What others mark meanwhile may be in it or not.
    pub(crate) fn to_set(&self) -> FileSet {
        let near = self.near.iter().enumerate();
        let leaves = self.far.get().into_iter().flat_map(|root| root.iter().enumerate());
        let far = leaves.filter_map(|(at, leaf)| Some((at, leaf.get()?)));
        let far =
            far.flat_map(|(at, leaf)| leaf.iter().enumerate().map(move |(n, slot)| (at * FAN + n, slot)));
        let made = near.chain(far).filter_map(|(number, slot)| Some((number as u64, slot.get()?.to_bits())));
        let pages: BTreeMap<u64, BitVec> = made.filter(|(_, bits)| bits.any()).collect();
        let mut set = FileSet { size: self.size.get().copied(), changed_from: NO_CUT, pages };
        set.cut(self.changed_from.load(Relaxed));
        set
    }
}

#[cfg(test)]
mod tests;
