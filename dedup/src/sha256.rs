//! SHA-256 of pieces, sixteen or four at a time.
//!
//! In one message each round waits for the one before; messages that have nothing to do with each other need not wait for each
//! other (the method is that of Gueron and Krasnov, *Simultaneous Hashing of Multiple Messages*, 2012; the function
//! FIPS 180-4's). With AVX-512 sixteen messages have a word each in every register, and one instruction is a step of all. With
//! the instructions for SHA-256, which give a round every four cycles or so and could give one every other, four messages
//! keep these busy. Where a processor has neither, and for what is left over, `sha2` hashes; the hashes are the same.

#[cfg(target_arch = "x86_64")]
mod fips;
#[cfg(target_arch = "x86_64")]
mod four;
#[cfg(target_arch = "x86_64")]
mod sixteen;

use crate::PIECE_BYTES;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;

type Hash = [u8; HASH_BYTES];
type Piece = [u8; PIECE_BYTES];

/// Hands out each piece of `bytes` with its hash, in order; the last one may be shorter.
pub(crate) fn each_piece(bytes: &[u8], mut take: impl FnMut(&[u8], Hash)) {
    let (pieces, last) = bytes.as_chunks::<PIECE_BYTES>();
    let others = each_of_many(pieces, |pieces, hashes| {
        pieces.iter().zip(hashes).for_each(|(piece, hash)| take(piece, *hash));
    });
    for piece in others.iter().map(|piece| &piece[..]).chain([last]).filter(|piece| !piece.is_empty()) {
        take(piece, of(piece));
    }
}

/// The hash of these bytes.
pub(crate) fn of(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Hashes pieces several at a time, as far as the processor can and there are enough of them, and returns the others.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "functions for some processors")]
fn each_of_many(mut pieces: &[Piece], mut take: impl FnMut(&[Piece], &[Hash])) -> &[Piece] {
    if sixteen::is_there() {
        while let Some((some, rest)) = pieces.split_first_chunk() {
            // SAFETY: this processor has what the function was compiled for.
            take(some, &unsafe { sixteen::of_sixteen(some) });
            pieces = rest;
        }
    }
    if four::is_there() {
        while let Some((some, rest)) = pieces.split_first_chunk() {
            // SAFETY: as above.
            take(some, &unsafe { four::of_four(some) });
            pieces = rest;
        }
    }
    pieces
}

#[cfg(not(target_arch = "x86_64"))]
fn each_of_many(pieces: &[Piece], _: impl FnMut(&[Piece], &[Hash])) -> &[Piece] {
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever hashes, the hashes are SHA-256.
        #[test]
        fn each_piece_has_its_hash(len in 0..40 * PIECE_BYTES, seed in any::<u64>()) {
            let mut state = seed;
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 56) as u8
            })
            .take(len)
            .collect();
            let mut found = Vec::new();
            each_piece(&bytes, |piece, hash| found.push((piece.to_vec(), hash)));
            let wanted: Vec<_> =
                bytes.chunks(PIECE_BYTES).map(|piece| (piece.to_vec(), Sha256::digest(piece).into())).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
