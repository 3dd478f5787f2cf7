//! The chunk ids of a node's extents, in order.
//!
//! Layout: `'E' u8, version u8 (1), extents varint`, then 32 bytes per extent: a chunk id, or zeros
//! for an extent of zeros. A chunk shorter than its extent is padded with zeros, a longer one is
//! truncated.
//!
//! Layout for a file without blocks: `'C' u8, version u8 (1), extents varint`, then for each extent
//! its chunk id, or zeros, and its length as a varint, which equals the length of its chunk.

use crate::shape::EXTENT_BYTES;
use pitr_dedup::ChunkId;
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};

const TAG: u8 = b'E';
const TAG_OF_CUT: u8 = b'C';
/// Version of both kinds of leaves.
pub(crate) const LEAF_VERSION: u8 = 1;

/// An extent of a file without blocks: its chunk and its length.
pub(crate) type CutExtent = (ChunkId, u32);

pub(crate) fn encode(ids: &[ChunkId]) -> Vec<u8> {
    let mut out = head(TAG, ids.len());
    ids.iter().for_each(|id| out.put(id.as_bytes()));
    out
}

/// Encodes the leaf of a file without blocks.
pub(crate) fn encode_cut(extents: &[CutExtent]) -> Vec<u8> {
    let mut out = head(TAG_OF_CUT, extents.len());
    for (id, len) in extents {
        out.put(id.as_bytes());
        out.put_varint(u64::from(*len));
    }
    out
}

fn head(tag: u8, extents: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + extents * (ChunkId::BYTES + 3));
    out.put_u8(tag);
    out.put_u8(LEAF_VERSION);
    out.put_varint(extents as u64);
    out
}

/// Decodes a leaf, which must have `extents` extents.
pub(crate) fn decode(bytes: &[u8], extents: u64) -> Result<Vec<ChunkId>, DecodeError> {
    let read_id = |reader: &mut Reader<'_>| Ok(ChunkId::from_bytes(reader.array("chunk of an extent")?));
    decode_each(bytes, TAG, extents, read_id)
}

/// Decodes the leaf of a file without blocks. It must have `extents` extents with `len` bytes in
/// total.
pub(crate) fn decode_cut(bytes: &[u8], extents: u64, len: u64) -> Result<Vec<CutExtent>, DecodeError> {
    let found = decode_each(bytes, TAG_OF_CUT, extents, |reader| {
        let id = ChunkId::from_bytes(reader.array("chunk of an extent")?);
        let len = reader.varint("length of an extent")?;
        match (1..=EXTENT_BYTES).contains(&len) {
            true => Ok((id, len as u32)), // at most 1 MiB
            false => Err(DecodeError::Range { what: "length of an extent", value: len }),
        }
    })?;
    match found.iter().map(|(_, len)| u64::from(*len)).sum::<u64>() {
        sum if sum == len => Ok(found),
        sum => Err(DecodeError::Range { what: "length of a leaf's extents", value: sum }),
    }
}

fn decode_each<T>(
    bytes: &[u8],
    tag: u8,
    extents: u64,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(bytes);
    read_tag(&mut reader, tag, "extent leaf")?;
    let count = reader.count(ChunkId::BYTES, "extents of a leaf")?;
    if count as u64 != extents {
        return Err(DecodeError::Range { what: "extents of a leaf", value: count as u64 });
    }
    let found = (0..count).map(|_| read(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish("extent leaf")?;
    Ok(found)
}

pub(crate) fn read_tag(reader: &mut Reader<'_>, tag: u8, what: &'static str) -> Result<(), DecodeError> {
    let found = reader.u8(what)?;
    if found != tag {
        return Err(DecodeError::Magic { what, found: u64::from(found) });
    }
    reader.check_version_u8(LEAF_VERSION, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaves_round_trip(ids: Vec<[u8; 32]>) {
            let ids: Vec<_> = ids.into_iter().map(ChunkId::from_bytes).collect();
            prop_assert_eq!(&decode(&encode(&ids), ids.len() as u64).unwrap(), &ids);
            prop_assert!(decode(&encode(&ids), ids.len() as u64 + 1).is_err());
        }

        #[test]
        fn leaves_of_files_without_blocks_round_trip(extents in prop::collection::vec((any::<[u8; 32]>(), 1..=EXTENT_BYTES as u32), 0..99)) {
            let extents: Vec<_> = extents.into_iter().map(|(id, len)| (ChunkId::from_bytes(id), len)).collect();
            let (count, len) = (extents.len() as u64, extents.iter().map(|(_, len)| u64::from(*len)).sum());
            let bytes = encode_cut(&extents);
            prop_assert_eq!(&decode_cut(&bytes, count, len).unwrap(), &extents);
            prop_assert!(decode_cut(&bytes, count + 1, len).is_err());
            prop_assert!(decode_cut(&bytes, count, len + 1).is_err());
            prop_assert!(decode(&bytes, count).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, extents in 0..9u64) {
            let _ = decode(&bytes, extents);
            for tag in [TAG, TAG_OF_CUT] {
                bytes.splice(0..0, [tag, LEAF_VERSION]);
                let _ = (decode(&bytes, extents), decode_cut(&bytes, extents, 100));
            }
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/manifest.md. A change here is a change of the format.
        let mut bytes = vec![b'E', 1, 2];
        bytes.extend([0; 32]);
        bytes.extend([7; 32]);
        assert_eq!(encode(&[ChunkId::ZERO, ChunkId::from_bytes([7; 32])]), bytes);
        let mut bytes = vec![b'C', 1, 2];
        bytes.extend([0; 32]);
        bytes.extend([0x80, 0x80, 0x40]);
        bytes.extend([7; 32]);
        bytes.push(5);
        assert_eq!(encode_cut(&[(ChunkId::ZERO, 1 << 20), (ChunkId::from_bytes([7; 32]), 5)]), bytes);
    }

    #[test]
    fn extents_without_blocks_have_bounded_lengths() {
        for len in [0, EXTENT_BYTES as u32 + 1] {
            let bytes = encode_cut(&[(ChunkId::ZERO, len)]);
            assert!(decode_cut(&bytes, 1, u64::from(len)).is_err());
        }
    }
}
