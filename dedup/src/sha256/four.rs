//! Four messages with the instructions for SHA-256.

use super::fips::{BLOCK_BYTES, FIRST, K, PADDING};
use super::{HASH_BYTES, Hash, Piece};
use crate::PIECE_BYTES;
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};
use std::array::from_fn;

/// The initial words, in the order of the instructions.
const ABEF: [u32; 4] = [FIRST[5], FIRST[4], FIRST[1], FIRST[0]];
const CDGH: [u32; 4] = [FIRST[7], FIRST[6], FIRST[3], FIRST[2]];

/// True if the processor has the instructions.
///
/// These functions are compiled without AVX, although each processor with these instructions has
/// it. With AVX the compiler may copy an array through registers of 32 bytes. The instructions for
/// SHA-256 preserve the upper halves of these registers. While an upper half is in use, an Intel
/// processor takes a hundred times as long for each instruction.
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

/// Four words of a block, which are big-endian. Without closures: the compiler may not inline one,
/// and hashing a chunk then takes twice as long.
#[inline]
#[target_feature(enable = "sha,sse4.1")]
fn load(bytes: &[u8; 16]) -> __m128i {
    let (halves, _) = bytes.as_chunks();
    let (low, high) = (i64::from_le_bytes(halves[0]), i64::from_le_bytes(halves[1]));
    let reversed = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    _mm_shuffle_epi8(_mm_set_epi64x(high, low), reversed)
}

/// Adds a block to each of the four hashes (6.2.2). While a round of one message waits, rounds of
/// the others run.
#[target_feature(enable = "sha,sse4.1")]
fn add(states: &mut [State; 4], blocks: [&[u8; BLOCK_BYTES]; 4]) {
    let before = *states;
    // The sixteen words of each message that the next rounds need.
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

/// The `NTH` four rounds of each message. A const parameter keeps the indexed words in registers.
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
