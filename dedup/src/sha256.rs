//! SHA-256 of pieces, sixteen or four at a time.
//!
//! Within one message each round waits for the previous round. Independent messages do not wait for
//! each other (Gueron and Krasnov, *Simultaneous Hashing of Multiple Messages*, 2012; the function
//! is that of FIPS 180-4). With AVX-512, every register has one word of each of sixteen messages,
//! and one instruction advances all. The instructions for SHA-256 have a latency of about four
//! cycles and could start one every two, so four messages keep them busy. On other processors, and
//! for the remaining pieces, `sha2` computes the same hashes.

#[cfg(target_arch = "x86_64")]
mod fips;
#[cfg(target_arch = "x86_64")]
mod four;
#[cfg(target_arch = "x86_64")]
mod sixteen;

use crate::PIECE_BYTES;
use sha2::{Digest, Sha256};

/// Size of a hash, bytes.
pub(crate) const HASH_BYTES: usize = 32;

type Hash = [u8; HASH_BYTES];
type Piece = [u8; PIECE_BYTES];

/// Passes each piece of `bytes` with its hash to `take`, in order. The last one may be shorter.
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

/// Hashes several pieces at a time if the processor can, and returns the remaining pieces.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "functions for some processors")]
fn each_of_many(mut pieces: &[Piece], mut take: impl FnMut(&[Piece], &[Hash])) -> &[Piece] {
    if sixteen::is_there() {
        while let Some((some, rest)) = pieces.split_first_chunk() {
            // SAFETY: this processor has the instructions of the function.
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
        /// Every implementation computes SHA-256.
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
