//! The overlay leaf: blocks that overlay the extents of a group.
//!
//! Layout: `'O' u8, version u8 (1), entries varint, chunks varint`, the ids of the chunks, then two
//! columns:
//! - for each entry, the number of blocks between it and the previous entry (varint). Blocks are
//!   counted from the group's first block;
//! - for each entry, its place minus (the previous entry's place + 1), as a zigzag varint. Place 0
//!   is a block of zeros. Place `1 + chunk x slots + slot` is a block within a chunk, with `slots`
//!   = 1 MiB / block size.
//!
//! Chunks are in the order in which entries first refer to them, so that an overlay has exactly one
//! encoding. Blocks that were packed in order take a byte per column, before compression.

use crate::extent_leaf::{LEAF_VERSION, read_tag};
use crate::shape::Geometry;
use pitr_dedup::ChunkId;
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};
use std::collections::HashMap;

const TAG: u8 = b'O';

/// Where a block of an overlay is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A block of zeros.
    Zero,
    /// A block within a chunk.
    Slot {
        /// Index of the chunk in the table.
        chunk: u32,
        /// Index of the block in the chunk.
        slot: u32,
    },
}

/// A block of an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverlayBlock {
    /// The block, counted from the first block of the group.
    pub(crate) block: u32,
    pub(crate) place: Place,
}

/// The blocks that overlay the extents of a group, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Overlay {
    pub(crate) chunks: Vec<ChunkId>,
    pub(crate) blocks: Vec<OverlayBlock>,
}

impl Overlay {
    /// The entries of the blocks from `first` (inclusive) to `end` (exclusive).
    pub(crate) fn range(&self, first: u64, end: u64) -> &[OverlayBlock] {
        let at = |block: u64| self.blocks.partition_point(|entry| u64::from(entry.block) < block);
        &self.blocks[at(first)..at(end)]
    }

    /// Encodes the leaf. Chunks without entries are left out.
    pub(crate) fn encode(&self, geometry: Geometry) -> Vec<u8> {
        let slots = geometry.blocks_per_extent();
        let mut table = Vec::new();
        let mut numbers = HashMap::new();
        let mut gaps = Vec::with_capacity(self.blocks.len());
        let mut places = Vec::with_capacity(self.blocks.len());
        let (mut next_block, mut next_place) = (0, 0);
        for entry in &self.blocks {
            gaps.put_varint(u64::from(entry.block) - next_block);
            next_block = u64::from(entry.block) + 1;
            let place = match entry.place {
                Place::Zero => 0,
                Place::Slot { chunk, slot } => {
                    let id = self.chunks[chunk as usize]; // an entry's index is within its table
                    let number = *numbers.entry(id).or_insert_with(|| {
                        table.push(id);
                        table.len() as u64 - 1
                    });
                    1 + number * slots + u64::from(slot)
                }
            } as i64; // far below 2^63: a group has at most 2^19 blocks
            places.put_varint(zigzag(place - next_place));
            next_place = place + 1;
        }
        let mut out = Vec::with_capacity(table.len() * ChunkId::BYTES + gaps.len() + places.len() + 16);
        out.put_u8(TAG);
        out.put_u8(LEAF_VERSION);
        out.put_varint(self.blocks.len() as u64);
        out.put_varint(table.len() as u64);
        table.iter().for_each(|id| out.put(id.as_bytes()));
        out.put(&gaps);
        out.put(&places);
        out
    }

    /// Decodes a leaf of a file with this block size.
    pub(crate) fn decode(bytes: &[u8], geometry: Geometry) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        read_tag(&mut reader, TAG, "overlay leaf")?;
        let entries = reader.count(2, "entries of an overlay")?;
        let count = reader.count(ChunkId::BYTES, "chunks of an overlay")?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(ChunkId::from_bytes(reader.array("chunk of an overlay")?));
        }
        let mut blocks = Vec::with_capacity(entries);
        let mut next = 0u64;
        for _ in 0..entries {
            let gap = reader.varint("block of an overlay")?;
            let block = next.saturating_add(gap);
            if block >= geometry.blocks_per_group() {
                return Err(DecodeError::Range { what: "block of an overlay", value: block });
            }
            next = block + 1;
            blocks.push(OverlayBlock { block: block as u32, place: Place::Zero });
        }
        let mut next = 0i64;
        for entry in &mut blocks {
            let place = next.saturating_add(unzigzag(reader.varint("place of a block")?));
            entry.place = place_at(place, geometry, count)?;
            next = place.saturating_add(1);
        }
        reader.finish("overlay leaf")?;
        Ok(Overlay { chunks, blocks })
    }
}

fn place_at(place: i64, geometry: Geometry, chunks: usize) -> Result<Place, DecodeError> {
    let slots = geometry.blocks_per_extent();
    let wrong = DecodeError::Range { what: "place of a block", value: place as u64 };
    let Ok(place) = u64::try_from(place) else { return Err(wrong) };
    let Some(at) = place.checked_sub(1) else { return Ok(Place::Zero) };
    if at / slots >= chunks as u64 {
        return Err(wrong);
    }
    // A table has at most 2^17 chunks.
    Ok(Place::Slot { chunk: (at / slots) as u32, slot: (at % slots) as u32 })
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn overlays() -> impl Strategy<Value = (Geometry, Overlay)> {
        (9..=16u32, 1..5usize).prop_flat_map(|(log, chunks)| {
            let geometry = Geometry { block_bytes: 1 << log };
            let place = prop_oneof![
                1 => Just(Place::Zero),
                4 => (0..chunks as u32, 0..geometry.blocks_per_extent() as u32)
                    .prop_map(|(chunk, slot)| Place::Slot { chunk, slot }),
            ];
            let blocks = prop::collection::btree_map(0..geometry.blocks_per_group() as u32, place, 0..60);
            blocks.prop_map(move |blocks: BTreeMap<_, _>| {
                let ids = (0..chunks).map(|n| ChunkId::of(&[n as u8])).collect();
                let blocks = blocks.into_iter().map(|(block, place)| OverlayBlock { block, place }).collect();
                (geometry, Overlay { chunks: ids, blocks })
            })
        })
    }

    fn named(overlay: &Overlay) -> Vec<(u32, Option<(ChunkId, u32)>)> {
        let place = |place| match place {
            Place::Zero => None,
            Place::Slot { chunk, slot } => Some((overlay.chunks[chunk as usize], slot)),
        };
        overlay.blocks.iter().map(|entry| (entry.block, place(entry.place))).collect()
    }

    proptest! {
        #[test]
        fn overlays_round_trip((geometry, overlay) in overlays()) {
            let bytes = overlay.encode(geometry);
            let again = Overlay::decode(&bytes, geometry).unwrap();
            prop_assert_eq!(named(&again), named(&overlay));
            prop_assert_eq!(again.encode(geometry), bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, log in 9..=16u32) {
            let geometry = Geometry { block_bytes: 1 << log };
            bytes.splice(0..0, [TAG, LEAF_VERSION]);
            if let Ok(overlay) = Overlay::decode(&bytes, geometry) {
                prop_assert_eq!(named(&Overlay::decode(&overlay.encode(geometry), geometry).unwrap()), named(&overlay));
            }
        }

        #[test]
        fn zigzags_round_trip(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn blocks_in_order_take_two_bytes_before_compression() {
        let geometry = Geometry { block_bytes: 4096 };
        let blocks = (0..3000u32)
            .map(|n| OverlayBlock { block: n * 20, place: Place::Slot { chunk: n / 256, slot: n % 256 } })
            .collect();
        let chunks = (0..12).map(|n| ChunkId::of(&[n])).collect();
        let bytes = Overlay { chunks, blocks }.encode(geometry);
        assert!(bytes.len() < 3000 * 2 + 12 * 32 + 16, "{}", bytes.len());
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/manifest.md. A change here is a change of the format.
        let geometry = Geometry { block_bytes: 4096 };
        let at = |block, chunk, slot| OverlayBlock { block, place: Place::Slot { chunk, slot } };
        let zero = OverlayBlock { block: 9, place: Place::Zero };
        let chunks = vec![ChunkId::from_bytes([1; 32]), ChunkId::from_bytes([2; 32])];
        let overlay = Overlay { chunks, blocks: vec![at(3, 1, 0), at(4, 1, 1), zero, at(300, 0, 2)] };
        let mut bytes = vec![b'O', 1, 4, 2];
        bytes.extend([2; 32]);
        bytes.extend([1; 32]);
        bytes.extend([3, 0, 4, 0xa2, 0x02]); // blocks 3, 4, 9, 300
        bytes.extend([2, 0, 5, 0x84, 0x04]); // places 1, 2, 0, 259
        assert_eq!(overlay.encode(geometry), bytes);
    }
}
