//! The bits of one file while writers set them.
//!
//! # Layout
//! The file itself holds the first 8 pages of 8192 blocks, so that a small file takes little
//! memory. Later pages have 32768 blocks. One table of 16 KiB refers to the first 1024 of these,
//! which cover 137 GB of 4 KiB blocks. It stays in the nearest cache while marks scatter over its
//! pages. A tree of such tables covers the rest. Each part is allocated by the first mark that
//! needs it and never moves. A writer that finds its page takes no lock. A writer that does not
//! find it waits at most for another one that is allocating it.
//!
//! # Invariants
//! - Bits are only set, and the cut only decreases. A mark is a load, plus a `fetch_or` if the bit
//!   is not set.
//! - A block beyond the reach of the tree or beyond the epoch's memory limit lowers the cut
//!   instead.

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
/// Number of a set's pages in a far page.
const FAR_PAGES: u64 = 4;
const FAR_BLOCKS: u64 = FAR_PAGES * PAGE_BLOCKS;
const TABLE_FAN: usize = 1024;
const TABLE_BLOCKS: u64 = TABLE_FAN as u64 * FAR_BLOCKS;
const ROOT_FAN: usize = 256;
/// Size of the tree's nodes, bytes.
const TABLE_COST: u64 = size_of::<Table>() as u64;
const ROOT_COST: u64 = size_of::<Root>() as u64;
/// Memory of a far page, bytes: enough for all the set pages that it may become.
const FAR_COST: u64 = FAR_PAGES * PAGE_COST;

type NearPage = Page<SET_WORDS>;
type FarPage = Page<{ SET_WORDS * FAR_PAGES as usize }>;
/// A table that refers to far pages.
pub(crate) type Table = Node<FarPage, TABLE_FAN>;
type Root = Node<Table, ROOT_FAN>;

/// The word with a block's bit in the first table, if its page exists. Never a block of a near
/// page.
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

    /// Sets the block size. If it changed, the whole file counts as changed.
    pub(crate) fn set_size(&self, size: BlockSize) {
        if *self.size.get_or_init(|| size) != size {
            self.cut(0);
        }
    }

    /// Marks everything from this byte on as changed.
    pub(crate) fn cut(&self, byte: u64) {
        if self.changed_from.load(Relaxed) > byte {
            self.changed_from.fetch_min(byte, Relaxed);
        }
    }

    /// Marks a block as changed.
    #[inline]
    pub(crate) fn mark(&self, block: u64) {
        if let Some(bit) = self.unset(block) {
            bit.set();
        }
    }

    /// The block's bit, unless it is already set or covered by the cut.
    #[inline]
    pub(crate) fn unset(&self, block: u64) -> Option<Unset<'_>> {
        let word = match self.word(block) {
            Some(word) => word,
            None => self.new_word(block)?,
        };
        Unset::in_word(word, block)
    }

    /// The table of the first far pages, if it exists.
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
        // The size is set before the first mark. Without it, mark everything.
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

    /// The changes of the file. Concurrent marks may or may not be included.
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
