//! Generated rows: words of a fixed vocabulary, and random digits. zstd 3 compresses them 2.0 to
//! 2.5 : 1, and no two rows are alike.

use crate::moments::Rng;

const WORDS: usize = 4096;
/// Seven of ten pieces are words.
const TENTHS_OF_WORDS: u64 = 7;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// The letters by their frequency in English text, roughly.
const LETTERS: &[u8] =
    b"eeeeeeeeeeeettttttttaaaaaaaaooooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddllllcccuuummwwffggyyppbbvkjxqz";

/// A generator. The same seed gives the same rows.
#[derive(Debug)]
pub(crate) struct Rows {
    words: Vec<Vec<u8>>,
    rng: Rng,
}

impl Rows {
    pub(crate) fn new(seed: u64) -> Rows {
        // The vocabulary is the same for all seeds.
        let mut rng = Rng(1);
        let mut letter = || LETTERS[rng.below(LETTERS.len() as u64) as usize];
        let mut word = |nth: usize| {
            let mut word: Vec<u8> = (0..3 + nth % 8).map(|_| letter()).collect();
            word.push(b' ');
            word
        };
        Rows { words: (0..WORDS).map(&mut word).collect(), rng: Rng(seed) }
    }

    /// Fills `row` with new content, in ASCII.
    pub(crate) fn fill(&mut self, row: &mut [u8]) {
        let mut rest = row;
        while !rest.is_empty() {
            let dice = self.rng.bits();
            let digits: [u8; 8];
            let piece = if dice % 10 < TENTHS_OF_WORDS {
                // The smaller of two draws: some words are more frequent than others.
                let of = |bits: u64| bits as usize % WORDS;
                self.words[of(dice >> 8).min(of(dice >> 32))].as_slice()
            } else {
                digits = std::array::from_fn(|at| DIGITS[(dice >> (8 + 4 * at)) as usize & 15]);
                &digits
            };
            let len = piece.len().min(rest.len());
            let (head, tail) = rest.split_at_mut(len);
            head.copy_from_slice(&piece[..len]);
            rest = tail;
        }
    }

    /// From 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// Number of rows of a transaction: 1 to 64, more often few than many.
    pub(crate) fn transaction_rows(&mut self) -> u64 {
        let most = 1 + self.below(64);
        1 + self.below(most)
    }

    /// True for one of ten transactions: it adds rows. The others change some.
    pub(crate) fn is_growth(&mut self) -> bool {
        self.below(10) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(seed: u64, row_bytes: usize, bytes: usize) -> Vec<u8> {
        let (mut rows, mut data) = (Rows::new(seed), vec![0; bytes]);
        data.chunks_mut(row_bytes).for_each(|row| rows.fill(row));
        data
    }

    #[test]
    fn rows_compress_as_they_should_and_are_all_different() {
        for row_bytes in [100, 700, 4000] {
            let data = data(1, row_bytes, 4 << 20);
            let frames = data.chunks(1 << 20).map(|frame| zstd::bulk::compress(frame, 3).unwrap().len());
            let ratio = data.len() as f64 / frames.sum::<usize>() as f64;
            assert!((2.0..2.5).contains(&ratio), "{ratio} : 1 with rows of {row_bytes} bytes");
            let all = data.chunks(row_bytes).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(all.len(), data.len().div_ceil(row_bytes));
            assert!(data.is_ascii());
        }
    }

    #[test]
    fn a_seed_gives_the_same_rows_again() {
        assert_eq!(data(3, 50, 10_000), data(3, 50, 10_000));
        assert_ne!(data(3, 50, 10_000), data(4, 50, 10_000));
    }

    #[test]
    fn transactions_have_1_to_64_rows() {
        let mut rows = Rows::new(9);
        let sizes: Vec<u64> = (0..10_000).map(|_| rows.transaction_rows()).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&1), Some(&64)));
    }
}
