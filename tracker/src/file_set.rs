//! What changed in one file: a page of bits for each 8192 blocks of which some changed, and a point from
//! which on everything did.

use crate::{BlockSize, PAGE_BLOCKS};
use bit_vec::BitVec;
use std::collections::BTreeMap;

/// What stands in place of a length when no point is known from which on everything changed.
pub(crate) const NO_CUT: u64 = u64::MAX;

/// The changes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSet {
    /// Its block size; `None` as long as only lengths were seen.
    pub(crate) size: Option<BlockSize>,
    /// Everything from this byte on changed; [`NO_CUT`] for none.
    pub(crate) changed_from: u64,
    /// By number of the page: which of its blocks changed. None is empty; bits behind the cut say nothing new.
    pub(crate) pages: BTreeMap<u64, BitVec>,
}

impl FileSet {
    pub(crate) fn new() -> Self {
        FileSet { size: None, changed_from: NO_CUT, pages: BTreeMap::new() }
    }

    /// Learns the block size; returns the number of pages that are not needed any more. A file whose block
    /// size changed has changed all over: numbers of blocks before and after can't be compared.
    pub(crate) fn set_size(&mut self, size: BlockSize) -> usize {
        if *self.size.get_or_insert(size) == size { 0 } else { self.cut(0) }
    }

    /// Everything from this byte on changed; returns the number of pages that are not needed any more.
    pub(crate) fn cut(&mut self, byte: u64) -> usize {
        self.changed_from = self.changed_from.min(byte);
        let Some(size) = self.size else { return 0 };
        let first_behind = size.block_of(self.changed_from).div_ceil(PAGE_BLOCKS);
        self.pages.split_off(&first_behind).len()
    }

    /// The first block of which everything from there on changed.
    pub(crate) fn cut_block(&self, size: BlockSize) -> u64 {
        if self.size.is_some_and(|own| own != size) { 0 } else { size.block_of(self.changed_from) }
    }

    pub(crate) fn contains(&self, size: BlockSize, block: u64) -> bool {
        let in_page = |page: &BitVec| page.get((block % PAGE_BLOCKS) as usize) == Some(true);
        block >= self.cut_block(size) || self.pages.get(&(block / PAGE_BLOCKS)).is_some_and(in_page)
    }

    /// The blocks of its pages, ascending. Some may lie behind the cut.
    pub(crate) fn marked(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().flat_map(|(page, bits)| ones(bits).map(move |bit| page * PAGE_BLOCKS + bit))
    }
}

/// A page without a mark.
pub(crate) fn empty_page() -> BitVec {
    BitVec::from_elem(PAGE_BLOCKS as usize, false)
}

/// Places of the bits that are set, ascending.
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
