//! A set of block numbers: one bit each, in pages, so that a sparse set stays small.

use bit_vec::BitVec;
use std::collections::BTreeMap;

const PAGE_BITS: u64 = 1 << 15;

/// A set of block numbers.
#[derive(Debug, Clone, Default)]
pub struct BlockSet {
    pages: BTreeMap<u64, BitVec>,
    len: u64,
}

impl BlockSet {
    /// Adds a block; true if it was not in the set.
    pub fn insert(&mut self, block: u64) -> bool {
        let page = self
            .pages
            .entry(block / PAGE_BITS)
            .or_insert_with(|| BitVec::from_elem(PAGE_BITS as usize, false));
        let bit = (block % PAGE_BITS) as usize;
        let new = page.get(bit) == Some(false);
        page.set(bit, true);
        self.len += u64::from(new);
        new
    }

    /// True if the block is in the set.
    #[must_use]
    pub fn contains(&self, block: u64) -> bool {
        let page = self.pages.get(&(block / PAGE_BITS));
        page.is_some_and(|page| page.get((block % PAGE_BITS) as usize) == Some(true))
    }

    /// Number of blocks in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The blocks in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().flat_map(|(page, bits)| {
            let set = bits.iter().enumerate().filter(|(_, set)| *set);
            set.map(move |(bit, _)| page * PAGE_BITS + bit as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(blocks in prop::collection::vec(prop_oneof![0u64..200_000, any::<u64>()], 0..60), probe in 0u64..200_000) {
            let mut set = BlockSet::default();
            let mut model = std::collections::BTreeSet::new();
            for block in blocks {
                prop_assert_eq!(set.insert(block), model.insert(block));
            }
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!(set.iter().eq(model));
        }
    }
}
