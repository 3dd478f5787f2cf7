//! Sixteen messages with AVX-512.

use super::fips::{BLOCK_BYTES, FIRST, K, PADDING};
use super::{HASH_BYTES, Hash, Piece};
use crate::PIECE_BYTES;
use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm512_add_epi32, _mm512_extracti32x4_epi32, _mm512_ror_epi32,
    _mm512_set_epi64, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

const LANES: usize = 16;

/// A word of each message.
type Words = __m512i;

/// True if the processor has the instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn of_sixteen(pieces: &[Piece; LANES]) -> [Hash; LANES] {
    let mut state = [_mm512_setzero_si512(); 8];
    for (words, first) in state.iter_mut().zip(FIRST) {
        *words = _mm512_set1_epi32(first.cast_signed());
    }
    for nth in 0..PIECE_BYTES / BLOCK_BYTES {
        let mut blocks = [_mm512_setzero_si512(); LANES];
        for (block, piece) in blocks.iter_mut().zip(pieces) {
            *block = load(&piece.as_chunks().0[nth]);
        }
        add(&mut state, transposed(blocks));
    }
    let mut padding = [_mm512_setzero_si512(); LANES];
    for (words, bytes) in padding.iter_mut().zip(PADDING.as_chunks().0) {
        *words = _mm512_set1_epi32(i32::from_be_bytes(*bytes));
    }
    add(&mut state, padding);
    hashes(&state)
}

/// The words of a block, which are big-endian.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(block: &[u8; BLOCK_BYTES]) -> Words {
    let (eights, _) = block.as_chunks();
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|nth| i64::from_le_bytes(eights[nth]));
    let [low, high] = [0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b];
    let reversed = _mm512_set_epi64(high, low, high, low, high, low, high, low);
    _mm512_shuffle_epi8(_mm512_set_epi64(h, g, f, e, d, c, b, a), reversed)
}

/// Transposes: before, each register has a block of one message; after, each has a word of every
/// message.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(blocks: [Words; LANES]) -> [Words; LANES] {
    let (mut pairs, mut fours, mut words) = (blocks, blocks, blocks);
    for n in (0..LANES).step_by(2) {
        pairs[n] = _mm512_unpacklo_epi32(blocks[n], blocks[n + 1]);
        pairs[n + 1] = _mm512_unpackhi_epi32(blocks[n], blocks[n + 1]);
    }
    // Now each quarter of a register has one word of four messages.
    for n in (0..LANES).step_by(4) {
        for half in 0..2 {
            let [left, right] = [pairs[n + half], pairs[n + 2 + half]];
            fours[n + 2 * half] = _mm512_unpacklo_epi64(left, right);
            fours[n + 2 * half + 1] = _mm512_unpackhi_epi64(left, right);
        }
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for n in 0..4 {
        let [a, b, c, d] = [fours[n], fours[4 + n], fours[8 + n], fours[12 + n]];
        let [left, right] = [_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d)];
        words[n] = _mm512_shuffle_i32x4::<EVEN>(left, right);
        words[8 + n] = _mm512_shuffle_i32x4::<ODD>(left, right);
        let [left, right] = [_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d)];
        words[4 + n] = _mm512_shuffle_i32x4::<EVEN>(left, right);
        words[12 + n] = _mm512_shuffle_i32x4::<ODD>(left, right);
    }
    words
}

/// Adds a block of each message (6.2.2).
#[target_feature(enable = "avx512f,avx512bw")]
fn add(state: &mut [Words; 8], mut words: [Words; 16]) {
    let before = *state;
    macro_rules! sixteen_rounds {
        ($further:literal, $k:expr, $($nth:literal)*) => {
            $(round::<$nth, $further>(state, &mut words, $k[$nth]);)*
        };
    }
    let (k, _) = K.as_flattened().as_chunks::<16>();
    sixteen_rounds!(false, k[0], 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    for k in &k[1..] {
        sixteen_rounds!(true, k, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for (words, before) in state.iter_mut().zip(before) {
        *words = _mm512_add_epi32(*words, before);
    }
}

/// The `NTH` of sixteen rounds. `FURTHER` rounds compute their words from the previous sixteen.
/// Const parameters keep the indexed words in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn round<const NTH: usize, const FURTHER: bool>(state: &mut [Words; 8], words: &mut [Words; 16], k: u32) {
    if FURTHER {
        let [second, tenth, fifteenth] = [1, 9, 14].map(|more| words[(NTH + more) % 16]);
        let small0 = xor(
            _mm512_ror_epi32::<7>(second),
            _mm512_ror_epi32::<18>(second),
            _mm512_srli_epi32::<3>(second),
        );
        let small1 = xor(
            _mm512_ror_epi32::<17>(fifteenth),
            _mm512_ror_epi32::<19>(fifteenth),
            _mm512_srli_epi32::<10>(fifteenth),
        );
        let sum = _mm512_add_epi32(words[NTH], tenth);
        words[NTH] = _mm512_add_epi32(_mm512_add_epi32(sum, small0), small1);
    }
    // The registers keep their words, and the words change their roles.
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|word| (8 - NTH % 8 + word) % 8);
    let large1 = xor(
        _mm512_ror_epi32::<6>(state[e]),
        _mm512_ror_epi32::<11>(state[e]),
        _mm512_ror_epi32::<25>(state[e]),
    );
    let large0 = xor(
        _mm512_ror_epi32::<2>(state[a]),
        _mm512_ror_epi32::<13>(state[a]),
        _mm512_ror_epi32::<22>(state[a]),
    );
    let choice = _mm512_ternarylogic_epi32::<0xca>(state[e], state[f], state[g]);
    let majority = _mm512_ternarylogic_epi32::<0xe8>(state[a], state[b], state[c]);
    let word = _mm512_add_epi32(words[NTH], _mm512_set1_epi32(k.cast_signed()));
    let first = _mm512_add_epi32(_mm512_add_epi32(state[h], word), _mm512_add_epi32(large1, choice));
    state[d] = _mm512_add_epi32(state[d], first);
    state[h] = _mm512_add_epi32(first, _mm512_add_epi32(large0, majority));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: Words, b: Words, c: Words) -> Words {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

/// The hash of each message.
#[target_feature(enable = "avx512f")]
fn hashes(state: &[Words; 8]) -> [Hash; LANES] {
    let mut hashes = [[0; HASH_BYTES]; LANES];
    let (fours, _) = hashes.as_chunks_mut::<4>();
    for (nth, words) in state.iter().enumerate() {
        let quarters = [
            _mm512_extracti32x4_epi32::<0>(*words),
            _mm512_extracti32x4_epi32::<1>(*words),
            _mm512_extracti32x4_epi32::<2>(*words),
            _mm512_extracti32x4_epi32::<3>(*words),
        ];
        for (four, quarter) in fours.iter_mut().zip(quarters) {
            let words = [
                _mm_extract_epi32::<0>(quarter),
                _mm_extract_epi32::<1>(quarter),
                _mm_extract_epi32::<2>(quarter),
                _mm_extract_epi32::<3>(quarter),
            ];
            for (hash, word) in four.iter_mut().zip(words) {
                hash.as_chunks_mut().0[nth] = word.to_be_bytes();
            }
        }
    }
    hashes
}
