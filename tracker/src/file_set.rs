//! The changes of one file: a page of bits for each 8192 blocks of which some changed, and a cut,
//! from which on everything changed.

use crate::{BlockSize, PAGE_BLOCKS};
use bit_vec::BitVec;
use std::collections::BTreeMap;

/// The cut of a file that has none.
pub(crate) const NO_CUT: u64 = u64::MAX;

/// The changes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSet {
    /// The block size, or `None` while only lengths are known.
    pub(crate) size: Option<BlockSize>,
    /// Everything from this byte on changed; [`NO_CUT`] if there is no cut.
    pub(crate) changed_from: u64,
    /// Bits of the changed blocks, by page number. No page is empty. Bits after the cut are
    /// redundant.
    pub(crate) pages: BTreeMap<u64, BitVec>,
}

impl FileSet {
    pub(crate) fn new() -> Self {
        FileSet { size: None, changed_from: NO_CUT, pages: BTreeMap::new() }
    }

    /// Sets the block size. Returns the number of pages that were dropped.
    ///
    /// If the block size changed, the whole file counts as changed, because old and new block
    /// numbers are not comparable.
    pub(crate) fn set_size(&mut self, size: BlockSize) -> usize {
        if *self.size.get_or_insert(size) == size { 0 } else { self.cut(0) }
    }

    /// Marks everything from this byte on as changed. Returns the number of pages that were
    /// dropped.
    pub(crate) fn cut(&mut self, byte: u64) -> usize {
        self.changed_from = self.changed_from.min(byte);
        let Some(size) = self.size else { return 0 };
        let first_after = size.block_of(self.changed_from).div_ceil(PAGE_BLOCKS);
        self.pages.split_off(&first_after).len()
    }

    /// The block at which the cut begins: it and all later blocks changed.
    pub(crate) fn cut_block(&self, size: BlockSize) -> u64 {
        if self.size.is_some_and(|own| own != size) { 0 } else { size.block_of(self.changed_from) }
    }

    pub(crate) fn contains(&self, size: BlockSize, block: u64) -> bool {
        let in_page = |page: &BitVec| page.get((block % PAGE_BLOCKS) as usize) == Some(true);
        block >= self.cut_block(size) || self.pages.get(&(block / PAGE_BLOCKS)).is_some_and(in_page)
    }

    /// The marked blocks, ascending. Some may be after the cut.
    pub(crate) fn marked(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().flat_map(|(page, bits)| ones(bits).map(move |bit| page * PAGE_BLOCKS + bit))
    }
}

/// A page without marks.
pub(crate) fn empty_page() -> BitVec {
    BitVec::from_elem(PAGE_BLOCKS as usize, false)
}

/// Indexes of the set bits, ascending.
pub(crate) fn ones(bits: &BitVec) -> impl Iterator<Item = u64> + '_ {
    bits.blocks().enumerate().flat_map(|(at, word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros())?;
            left &= left - 1;
            Some(at as u64 * u64::from(u32::BITS) + u64::from(bit))
        })
    })
}
