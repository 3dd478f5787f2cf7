//! SHA-256 of pieces, four at a time.
//!
//! A processor's instructions for SHA-256 give a round every four cycles or so when each waits for the one before, as in one
//! message it must, and could give one every other. Four messages that have nothing to do with each other keep them busy: the
//! method is that of Gueron and Krasnov, *Simultaneous Hashing of Multiple Messages* (2012), the function FIPS 180-4's. Where
//! the processor has no such instructions, and for what is left over, `sha2` hashes; the hashes are the same.

use crate::PIECE_BYTES;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;

type Hash = [u8; HASH_BYTES];
type Piece = [u8; PIECE_BYTES];

/// Hands out each piece of `bytes` with its hash, in order; the last one may be shorter.
pub(crate) fn each_piece(bytes: &[u8], mut take: impl FnMut(&[u8], Hash)) {
    let (pieces, last) = bytes.as_chunks::<PIECE_BYTES>();
    let (fours, others) = pieces.as_chunks::<4>();
    for four in fours {
        for (piece, hash) in four.iter().zip(of_four(four)) {
            take(piece, hash);
        }
    }
    for piece in others.iter().map(|piece| &piece[..]).chain([last]).filter(|piece| !piece.is_empty()) {
        take(piece, of(piece));
    }
}

/// The hash of these bytes.
pub(crate) fn of(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn of_four(pieces: &[Piece; 4]) -> [Hash; 4] {
    #[cfg(target_arch = "x86_64")]
    if x86::is_there() {
        #[expect(unsafe_code, reason = "a function for some processors")]
        // SAFETY: this processor has what the function was compiled for.
        return unsafe { x86::of_four(pieces) };
    }
    pieces.each_ref().map(|piece| of(piece))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{HASH_BYTES, Hash, Piece};
    use crate::PIECE_BYTES;
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };
    use std::array::from_fn;

    const BLOCK_BYTES: usize = 64;

    /// Cube roots' fractions of the first 64 primes (FIPS 180-4, 4.2.2), by groups of four rounds.
    const K: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// The words of a hash before the first block (5.3.3), in the order in which the instructions take them.
    const ABEF: [u32; 4] = [0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667];
    const CDGH: [u32; 4] = [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372];

    /// What follows a piece: the end of the message, and its length in bits (5.1.1).
    const PADDING: [u8; BLOCK_BYTES] = {
        let (mut block, bits) = ([0; BLOCK_BYTES], (PIECE_BYTES as u64 * 8).to_be_bytes());
        block[0] = 0x80;
        let mut at = 0;
        while at < bits.len() {
            block[BLOCK_BYTES - bits.len() + at] = bits[at];
            at += 1;
        }
        block
    };

    /// Whether the processor has the instructions.
    ///
    /// The functions here are compiled without AVX although each processor with these instructions has it. With AVX the
    /// compiler may copy an array by registers of 32 bytes, and the instructions for SHA-256 have encodings only that keep
    /// the upper halves of those: while anything is in there an Intel processor takes a hundred times as long for each.
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1")
    }

    #[target_feature(enable = "sha,sse4.1")]
    pub(super) fn of_four(pieces: &[Piece; 4]) -> [Hash; 4] {
        let mut states = [State { abef: words(ABEF), cdgh: words(CDGH) }; 4];
        let blocks = pieces.each_ref().map(|piece| piece.as_chunks::<BLOCK_BYTES>().0);
        for nth in 0..PIECE_BYTES / BLOCK_BYTES {
            add(&mut states, blocks.map(|blocks| &blocks[nth]));
        }
        add(&mut states, [&PADDING; 4]);
        from_fn(|lane| states[lane].hash())
    }

    #[derive(Clone, Copy)]
    struct State {
        abef: __m128i,
        cdgh: __m128i,
    }

    impl State {
        #[target_feature(enable = "sha,sse4.1")]
        fn hash(self) -> Hash {
            let State { abef, cdgh } = self;
            let words = [
                _mm_extract_epi32::<3>(abef),
                _mm_extract_epi32::<2>(abef),
                _mm_extract_epi32::<3>(cdgh),
                _mm_extract_epi32::<2>(cdgh),
                _mm_extract_epi32::<1>(abef),
                _mm_extract_epi32::<0>(abef),
                _mm_extract_epi32::<1>(cdgh),
                _mm_extract_epi32::<0>(cdgh),
            ];
            let mut hash = [0; HASH_BYTES];
            for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = word.to_be_bytes();
            }
            hash
        }
    }

    #[target_feature(enable = "sha,sse4.1")]
    fn words([a, b, c, d]: [u32; 4]) -> __m128i {
        _mm_set_epi32(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
    }

    /// Four words of a block, which are big-endian.
    #[target_feature(enable = "sha,sse4.1")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let [low, high] = [0, 8].map(|at| i64::from_le_bytes(from_fn(|nth| bytes[at + nth])));
        let reversed = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm_shuffle_epi8(_mm_set_epi64x(high, low), reversed)
    }

    /// A block of each message (6.2.2): what one message's round waits for, another's does meanwhile.
    #[target_feature(enable = "sha,sse4.1")]
    fn add(states: &mut [State; 4], blocks: [&[u8; BLOCK_BYTES]; 4]) {
        let before = *states;
        // Of each message the sixteen words that the next rounds need.
        let mut ahead: [[__m128i; 4]; 4] = blocks.map(|block| {
            let (parts, _) = block.as_chunks::<16>();
            from_fn(|nth| load(&parts[nth]))
        });
        macro_rules! four_rounds {
            ($($nth:literal)*) => { $(four_rounds::<$nth>(states, &mut ahead);)* };
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for (state, before) in states.iter_mut().zip(before) {
            state.abef = _mm_add_epi32(state.abef, before.abef);
            state.cdgh = _mm_add_epi32(state.cdgh, before.cdgh);
        }
    }

    /// The `NTH` four rounds of each message. A parameter, and not a loop's number: what is indexed by it is then in registers.
    #[inline]
    #[target_feature(enable = "sha,sse4.1")]
    fn four_rounds<const NTH: usize>(states: &mut [State; 4], ahead: &mut [[__m128i; 4]; 4]) {
        let k = words(K[NTH]);
        for (state, ahead) in states.iter_mut().zip(ahead) {
            let [now, next, third, last] = [0, 1, 2, 3].map(|more| ahead[(NTH + more) % 4]);
            let sum = _mm_add_epi32(now, k);
            state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, sum);
            state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, _mm_shuffle_epi32::<0x0e>(sum));
            if NTH < 12 {
                let made = _mm_add_epi32(_mm_sha256msg1_epu32(now, next), _mm_alignr_epi8::<4>(last, third));
                ahead[NTH % 4] = _mm_sha256msg2_epu32(made, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever hashes, the hashes are SHA-256.
        #[test]
        fn each_piece_has_its_hash(len in 0..12 * PIECE_BYTES, seed in any::<u64>()) {
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
