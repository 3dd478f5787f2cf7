//! Compares bytes with a snapshot by the sums of 4 KiB pieces, without reading the snapshot's
//! content.
//!
//! A sum is valid for a piece of exactly its length. A piece without a sum counts as one that may
//! differ. This happens if the file was cut within the piece and grew again, or if blocks smaller
//! than a piece overlay it.

use crate::assemble::Parts;
use crate::overlay::Place;
use crate::source::is_zero;
use crate::{Error, Result};
use pitr_dedup::{ChunkId, ChunkStore, ChunkSums, PIECE_BYTES, PieceSum, Pieces};
use std::collections::HashMap;

/// The content of a piece in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Zeros,
    /// A piece with this sum. Its length is at most that of a whole piece.
    Sum(PieceSum),
    /// A whole piece with this sum. The file may end within it.
    Padded(PieceSum),
    Unknown,
}

impl Expected {
    fn is(self, now: &[u8], sum: PieceSum) -> bool {
        match self {
            Expected::Zeros => is_zero(now),
            Expected::Padded(expected) if now.len() < PIECE_BYTES => {
                let mut whole = [0; PIECE_BYTES];
                whole[..now.len()].copy_from_slice(now);
                expected == PieceSum::of(&whole)
            }
            Expected::Sum(expected) | Expected::Padded(expected) => expected == sum,
            Expected::Unknown => false,
        }
    }
}

/// An extent of a snapshot, and the sources of the sums of its parts.
pub(crate) struct Before<'a> {
    pub(crate) store: &'a ChunkStore,
    pub(crate) sums: &'a ChunkSums,
    pub(crate) base: ChunkId,
    pub(crate) parts: Parts<'a>,
}

impl Before<'_> {
    /// For each piece of `now`: true if it may differ from the extent, which continues with zeros
    /// after its end.
    pub(crate) fn differing(&self, now: &[u8]) -> Result<Vec<bool>> {
        let pieces = Pieces::of(now);
        let is_plain = self.parts.blocks.is_empty() && now.len() == self.parts.len;
        if is_plain && self.store.ids().of_pieces(&pieces) == self.base {
            return Ok(vec![false; pieces.sums().len()]);
        }
        let each = now.chunks(PIECE_BYTES).zip(pieces.sums()).zip(self.expected(now.len())?);
        Ok(each.map(|((now, sum), expected)| !expected.is(now, sum)).collect())
    }

    /// The expected content of each piece of `len` bytes.
    fn expected(&self, len: usize) -> Result<Vec<Expected>> {
        let over = self.over()?;
        let (base, held) = match self.base {
            ChunkId::ZERO => (None, 0),
            id => (Some(self.sums.of(&id)?), self.store.raw_len(&id)? as usize),
        };
        let before = self.parts.len;
        let length = |all: usize, start: usize| all.saturating_sub(start).min(PIECE_BYTES);
        let piece = |piece: usize| {
            let start = piece * PIECE_BYTES;
            let now = length(len, start);
            match (over.get(&piece), base.as_ref().and_then(|sums| sums.get(piece))) {
                _ if start >= before => Expected::Zeros,
                _ if length(before, start) != now => Expected::Unknown,
                (Some(expected), _) => *expected,
                (None, _) if start >= held => Expected::Zeros,
                (None, Some(sum)) => Expected::Sum(*sum), // a shorter piece has another sum
                _ => Expected::Unknown,
            }
        };
        Ok((0..len.div_ceil(PIECE_BYTES)).map(piece).collect())
    }

    /// The pieces that overlay blocks cover.
    fn over(&self) -> Result<HashMap<usize, Expected>> {
        let mut over = HashMap::new();
        let block_bytes = self.parts.geometry.block_bytes as usize; // at most 64 KiB
        let mut current = None;
        for entry in self.parts.blocks {
            let first =
                (u64::from(entry.block) - self.parts.first_block) as usize * block_bytes / PIECE_BYTES;
            let pieces = block_bytes / PIECE_BYTES;
            match entry.place {
                _ if pieces == 0 => _ = over.insert(first, Expected::Unknown),
                Place::Zero => over.extend((first..first + pieces).map(|piece| (piece, Expected::Zeros))),
                Place::Slot { chunk, slot } => {
                    // An entry's index is within its table.
                    let id = &self.parts.chunks[chunk as usize];
                    let sums = match &current {
                        Some((number, sums)) if *number == chunk => sums,
                        _ => &current.insert((chunk, self.sums.of(id)?)).1,
                    };
                    let from = slot as usize * pieces;
                    let what = "it ends before the referenced block";
                    let sums = sums.get(from..from + pieces).ok_or(Error::Misused { id: *id, what })?;
                    over.extend((first..).zip(sums).map(|(piece, sum)| (piece, Expected::Padded(*sum))));
                }
            }
        }
        Ok(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::OverlayBlock;
    use crate::shape::Geometry;
    use pitr_codec::Codec;
    use pitr_objects::Objects;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Few distinct contents, so that pieces are often equal.
    fn piece(content: u8, len: usize) -> Vec<u8> {
        (0..len).map(|at| if content == 0 { 0 } else { content.wrapping_add((at % 7) as u8) }).collect()
    }

    fn bytes_of(contents: &[u8], len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = contents.iter().flat_map(|content| piece(*content, PIECE_BYTES)).collect();
        bytes.resize(len, 9);
        bytes
    }

    proptest! {
        /// Compares with the assembled extent. No difference may be missed, whatever was cut, grown
        /// or overlaid. An equal piece may be reported as different only for a known reason.
        #[test]
        fn every_difference_is_found(
            log in 9..=16u32,
            base in prop::collection::vec(0..4u8, 0..20), base_len in 0..=20 * PIECE_BYTES,
            over in prop::collection::btree_map(0..24u32, prop::option::of(0..8u32), 0..12),
            held in prop::collection::vec(0..4u8, 128),
            before in 1..=20 * PIECE_BYTES,
            now in prop::collection::vec(0..4u8, 0..20), now_len in 1..=20 * PIECE_BYTES,
            from_before in prop::collection::vec(any::<bool>(), 20),
        ) {
            let geometry = Geometry { block_bytes: 1 << log };
            let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
            let writer = store.writer(Codec::None);
            let base_bytes = bytes_of(&base, base_len);
            let base = if base.is_empty() { ChunkId::ZERO } else { writer.put(&base_bytes).unwrap() };
            let held = bytes_of(&held, 8 << log);
            let chunk = writer.put(&held).unwrap();
            writer.finish().unwrap();
            let blocks: Vec<OverlayBlock> = over
                .into_iter()
                .map(|(block, slot)| OverlayBlock {
                    block,
                    place: slot.map_or(Place::Zero, |slot| Place::Slot { chunk: 0, slot }),
                })
                .collect();
            let chunks = [chunk];
            let parts = || Parts { geometry, len: before, first_block: 0, blocks: &blocks, chunks: &chunks };

            let mut had = if base == ChunkId::ZERO { Vec::new() } else { base_bytes };
            had.resize(before, 0);
            parts().assemble(&mut had, |_| Ok(Arc::new(held.clone()))).unwrap();
            let cut = had.len();
            had.resize(now_len.max(cut), 0);
            let mut now = bytes_of(&now, now_len);
            for (at, piece) in now.chunks_mut(PIECE_BYTES).enumerate().filter(|(at, _)| from_before[*at]) {
                piece.copy_from_slice(&had[at * PIECE_BYTES..at * PIECE_BYTES + piece.len()]);
            }

            let found = Before { store: &store, sums: &store.sums(), base, parts: parts() }.differing(&now).unwrap();
            prop_assert_eq!(found.len(), now_len.div_ceil(PIECE_BYTES));
            for (at, piece) in now.chunks(PIECE_BYTES).enumerate() {
                let start = at * PIECE_BYTES;
                let same = *piece == had[start..start + piece.len()];
                prop_assert!(found[at] || same, "the difference of piece {} is missed", at);
                let whole = piece.len() == PIECE_BYTES && start + PIECE_BYTES <= before.min(base_len) && log >= 12;
                prop_assert!(!(found[at] && same && whole), "piece {} is equal but reported", at);
            }
        }
    }

    /// The pieces that may differ from an extent of `len` bytes: its chunk, with a 4 KiB block over
    /// its second piece.
    fn found(base: &[u8], over: Option<&[u8]>, len: usize, now: &[u8]) -> Vec<bool> {
        let store = ChunkStore::open(Objects::memory().unwrap()).unwrap();
        let writer = store.writer(Codec::None);
        let base = writer.put(base).unwrap();
        let chunks = [writer.put(over.unwrap_or_default()).unwrap()];
        writer.finish().unwrap();
        let blocks: Vec<OverlayBlock> = over
            .map(|_| OverlayBlock { block: 1, place: Place::Slot { chunk: 0, slot: 0 } })
            .into_iter()
            .collect();
        let geometry = Geometry { block_bytes: 4096 };
        let parts = Parts { geometry, len, first_block: 0, blocks: &blocks, chunks: &chunks };
        Before { store: &store, sums: &store.sums(), base, parts }.differing(now).unwrap()
    }

    #[test]
    fn truncated_bytes_count_as_zeros_although_the_chunk_holds_them() {
        // FAILURES 45: the file grew again, to exactly the bytes that were truncated.
        let chunk = bytes_of(&[1, 2, 3], 3 * PIECE_BYTES);
        assert_eq!(found(&chunk, None, PIECE_BYTES + 100, &chunk), [false, true, true]);
        assert_eq!(found(&chunk, None, 2 * PIECE_BYTES, &chunk), [false, false, true]);
        assert_eq!(found(&chunk, None, chunk.len(), &chunk), [false; 3]);
    }

    #[test]
    fn growth_differs_only_where_it_is_not_zero() {
        let chunk = bytes_of(&[1, 2], 2 * PIECE_BYTES);
        let grown = [&chunk[..], &piece(0, PIECE_BYTES), &piece(3, 10)].concat();
        assert_eq!(found(&chunk, None, chunk.len(), &grown), [false, false, false, true]);
    }

    #[test]
    fn a_partial_last_block_is_compared_with_zero_padding() {
        let (chunk, over) =
            (bytes_of(&[1], PIECE_BYTES), [piece(2, 100), piece(0, PIECE_BYTES - 100)].concat());
        let now = [&chunk[..], &over[..100]].concat();
        assert_eq!(found(&chunk, Some(&over), now.len(), &now), [false, false]);
        let other = [&chunk[..], &piece(3, 100)].concat();
        assert_eq!(found(&chunk, Some(&over), other.len(), &other), [false, true]);
    }
}
