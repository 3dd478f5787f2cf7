//! The bits of one file while writers set them.
//!
//! # Layout
//! The first 8 pages of 8192 blocks hang at the file itself: a small file takes little. Behind them a page has 32768
//! blocks. The places of the first 1024 of these, 137 GB of 4 KiB blocks, stand in one table of 16 KiB, which stays in the
//! nearest cache while marks scatter over its pages; a tree of such tables goes on from there. Each part is made
//! with the first mark that needs it and never moves. So a writer that finds its page takes no lock, and one that
//! doesn't waits at most for another that is making it.
//!
//! # Invariants
//! - A bit is only ever set, the cut only ever falls. A mark is a load, and a `fetch_or` only if the bit is
//!   not set.
//! - What has no place, behind the tree's reach or beyond the epoch's share of memory, lowers the cut.

use crate::file_set::{FileSet, NO_CUT};
use crate::page::{Page, SET_WORDS, Unset};
use crate::slot::{Budget, Node, Slot, empty_node};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::{BlockSize, PAGE_BLOCKS, PAGE_COST};
use bit_vec::BitVec;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

const NEAR_PAGES: usize = 8;
const NEAR_BLOCKS: u64 = NEAR_PAGES as u64 * PAGE_BLOCKS;
/// Pages of a set that a far page holds.
const FAR_PAGES: u64 = 4;
const FAR_BLOCKS: u64 = FAR_PAGES * PAGE_BLOCKS;
const TABLE_FAN: usize = 1024;
const TABLE_BLOCKS: u64 = TABLE_FAN as u64 * FAR_BLOCKS;
const ROOT_FAN: usize = 256;
/// What the nodes of the tree take, bytes.
const TABLE_COST: u64 = size_of::<Table>() as u64;
const ROOT_COST: u64 = size_of::<Root>() as u64;
/// What a far page takes: room for all the pages of a set that it may become.
const FAR_COST: u64 = FAR_PAGES * PAGE_COST;

type NearPage = Page<SET_WORDS>;
type FarPage = Page<{ SET_WORDS * FAR_PAGES as usize }>;
/// Where far pages are found.
pub(crate) type Table = Node<FarPage, TABLE_FAN>;
type Root = Node<Table, ROOT_FAN>;

/// The word of a block's bit in the first table, if it was made there: never for a block of a near page.
#[inline]
pub(crate) fn word_in(table: &Table, block: u64) -> Option<&AtomicU64> {
    Some(table.get(usize::try_from(block / FAR_BLOCKS).ok()?)?.get()?.word(block))
}

/// The changes of one file in the live epoch.
#[derive(Debug)]
pub(crate) struct LiveFile {
    size: OnceLock<BlockSize>,
    changed_from: AtomicU64,
    near: [Slot<NearPage>; NEAR_PAGES],
    middle: Slot<Table>,
    far: Slot<Root>,
    budget: Arc<Budget>,
}

impl LiveFile {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        LiveFile {
            size: OnceLock::new(),
            changed_from: AtomicU64::new(NO_CUT),
            near: [const { OnceLock::new() }; NEAR_PAGES],
            middle: OnceLock::new(),
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

    /// A block changed.
    #[inline]
    pub(crate) fn mark(&self, block: u64) {
        if let Some(bit) = self.unset(block) {
            bit.set();
        }
    }

    /// The block's bit, if it is not set yet and the cut does not stand for it.
    #[inline]
    pub(crate) fn unset(&self, block: u64) -> Option<Unset<'_>> {
        let word = match self.word(block) {
            Some(word) => word,
            None => self.new_word(block)?,
        };
        Unset::in_word(word, block)
    }

    /// The table of the first far pages, if there is one of them.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.middle.get().map(Box::as_ref)
    }

    #[inline]
    fn word(&self, block: u64) -> Option<&AtomicU64> {
        if block < NEAR_BLOCKS {
            return Some(self.near[(block / PAGE_BLOCKS) as usize].get()?.word(block));
        }
        if block < TABLE_BLOCKS {
            return word_in(self.middle.get()?, block);
        }
        let page = usize::try_from(block / FAR_BLOCKS).ok()?;
        let table = self.far.get()?.get(page / TABLE_FAN)?.get()?;
        Some(table[page % TABLE_FAN].get()?.word(block))
    }

    #[cold]
    fn new_word(&self, block: u64) -> Option<&AtomicU64> {
        // The size was told before the first mark. Without it only everything can be meant.
        let start = self.size.get().map_or(0, |size| size.start_of(block));
        if start >= self.changed_from.load(Relaxed) {
            return None;
        }
        let word = self.make_word(block);
        if word.is_none() {
            self.cut(start);
        }
        word
    }

    fn make_word(&self, block: u64) -> Option<&AtomicU64> {
        let budget = &self.budget;
        if block < NEAR_BLOCKS {
            let slot = &self.near[(block / PAGE_BLOCKS) as usize];
            return Some(budget.fill(slot, PAGE_COST, Page::new)?.word(block));
        }
        let page = usize::try_from(block / FAR_BLOCKS).ok()?;
        let table = if page < TABLE_FAN {
            &self.middle
        } else {
            let in_root = Some(page / TABLE_FAN).filter(|at| *at < ROOT_FAN)?;
            &budget.fill(&self.far, ROOT_COST, empty_node)?[in_root]
        };
        let table = budget.fill(table, TABLE_COST, empty_node)?;
        Some(budget.fill(&table[page % TABLE_FAN], FAR_COST, Page::new)?.word(block))
    }

    /// Its changes. What others mark meanwhile may be in it or not.
    pub(crate) fn to_set(&self) -> FileSet {
        let near = self.near.iter().zip(0u64..).filter_map(|(slot, at)| Some((slot.get()?, at)));
        let near = near.flat_map(|(page, at)| page.to_bits().zip(at..));
        let tables = self.far.get().into_iter().flat_map(|root| root.iter().zip(0u64..));
        let tables = std::iter::once((&self.middle, 0)).chain(tables);
        let tables = tables.filter_map(|(table, at)| Some((table.get()?, at * TABLE_FAN as u64)));
        let far = tables.flat_map(|(table, first)| table.iter().zip(first..));
        let far = far.filter_map(|(slot, at)| Some((slot.get()?, at * FAR_PAGES)));
        let far = far.flat_map(|(page, first)| page.to_bits().zip(first..));
        let made = near.chain(far).filter(|(bits, _)| bits.any());
        let pages: BTreeMap<u64, BitVec> = made.map(|(bits, number)| (number, bits)).collect();
        let mut set = FileSet { size: self.size.get().copied(), changed_from: NO_CUT, pages };
        set.cut(self.changed_from.load(Relaxed));
        set
    }
}

#[cfg(test)]
mod tests;
