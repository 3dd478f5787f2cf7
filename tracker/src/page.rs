//! Bits that many threads set concurrently and never clear.

use crate::PAGE_BLOCKS;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use bit_vec::BitVec;

/// Words in a page of a set.
pub(crate) const SET_WORDS: usize = (PAGE_BLOCKS / 64) as usize;
/// Number of bits that are looked up before the first of them is set: as many as a core has
/// outstanding loads.
const GROUP: usize = 32;

/// One bit for each of 64 times `WORDS` blocks.
#[derive(Debug)]
pub(crate) struct Page<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Page<WORDS> {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Page(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// The word that holds this bit. Bit numbers are taken modulo the page.
    #[inline]
    pub(crate) fn word(&self, bit: u64) -> &AtomicU64 {
        &self.0[(bit / 64) as usize % WORDS]
    }

    /// The bits, split into pages of a set.
    pub(crate) fn to_bits(&self) -> impl Iterator<Item = BitVec> + '_ {
        self.0.chunks(SET_WORDS).map(|words| {
            let mut bytes = [0; SET_WORDS * 8];
            for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                // A BitVec numbers the bits of a byte from the high end, but stores them from the
                // low end.
                *place = word.load(Relaxed).to_le_bytes().map(u8::reverse_bits);
            }
            BitVec::from_bytes(&bytes)
        })
    }
}

/// A bit that was found not set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unset<'p> {
    word: &'p AtomicU64,
    mask: u64,
}

impl<'p> Unset<'p> {
    /// The bit with this number, modulo 64, unless it is already set. Then only a load is needed.
    #[inline]
    pub(crate) fn in_word(word: &'p AtomicU64, bit: u64) -> Option<Self> {
        let mask = 1 << (bit % 64);
        (word.load(Relaxed) & mask == 0).then_some(Unset { word, mask })
    }

    #[inline]
    pub(crate) fn set(self) {
        self.word.fetch_or(self.mask, Relaxed);
    }
}

/// Sets the bit with this number, modulo 64.
#[inline]
pub(crate) fn set(word: &AtomicU64, bit: u64) {
    if let Some(bit) = Unset::in_word(word, bit) {
        bit.set();
    }
}

/// Sets all bits that the iterator returns.
///
/// An atomic update waits for its word, and the next update waits for both, while loads of many
/// words overlap. So each group is looked up completely before its first bit is set. This pays off
/// if the words are in memory rather than in a cache.
#[inline]
pub(crate) fn set_all<'p>(mut bits: impl Iterator<Item = Unset<'p>>) {
    loop {
        let mut group = [None; GROUP];
        group.iter_mut().zip(&mut bits).for_each(|(place, bit)| *place = Some(bit));
        group.iter().flatten().copied().for_each(Unset::set);
        if group.last().is_some_and(Option::is_none) {
            return;
        }
    }
}
