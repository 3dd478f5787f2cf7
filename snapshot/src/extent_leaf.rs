//! The chunk ids of a node's extents, in order.
//!
//! `'E' u8, version u8 (1), extents varint`, then 32 bytes for each: a chunk id, or zeros for an extent of zeros. A
//! chunk shorter than its extent is followed by zeros, a longer one is cut.

use pitr_dedup::ChunkId;
use pitr_format::DecodeError;
use pitr_format::bytes::{Put, Reader};

const TAG: u8 = b'E';
/// Version of both kinds of leaves.
pub(crate) const LEAF_VERSION: u8 = 1;

pub(crate) fn encode(ids: &[ChunkId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + ids.len() * ChunkId::BYTES);
    out.put_u8(TAG);
    out.put_u8(LEAF_VERSION);
    out.put_varint(ids.len() as u64);
    ids.iter().for_each(|id| out.put(id.as_bytes()));
    out
}

/// Reads a leaf that must be of `extents` extents.
pub(crate) fn decode(bytes: &[u8], extents: u64) -> Result<Vec<ChunkId>, DecodeError> {
    let mut reader = Reader::new(bytes);
    read_tag(&mut reader, TAG, "extent leaf")?;
    let count = reader.count(ChunkId::BYTES, "extents of a leaf")?;
    if count as u64 != extents {
        return Err(DecodeError::Range { what: "extents of a leaf", value: count as u64 });
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(ChunkId::from_bytes(reader.array("chunk of an extent")?));
    }
    reader.finish("extent leaf")?;
    Ok(ids)
}

pub(crate) fn read_tag(reader: &mut Reader<'_>, tag: u8, what: &'static str) -> Result<(), DecodeError> {
    let found = reader.u8(what)?;
    if found != tag {
        return Err(DecodeError::Magic { what, found: u64::from(found) });
    }
    match reader.u8(what)? {
        LEAF_VERSION => Ok(()),
        version => {
            Err(DecodeError::Version { what, found: u32::from(version), known: u32::from(LEAF_VERSION) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaves_come_back(ids: Vec<[u8; 32]>) {
            let ids: Vec<_> = ids.into_iter().map(ChunkId::from_bytes).collect();
            prop_assert_eq!(&decode(&encode(&ids), ids.len() as u64).unwrap(), &ids);
            prop_assert!(decode(&encode(&ids), ids.len() as u64 + 1).is_err());
        }

        #[test]
        fn any_bytes_are_an_error_or_a_value(mut bytes: Vec<u8>, extents in 0..9u64) {
            let _ = decode(&bytes, extents);
            bytes.splice(0..0, [TAG, LEAF_VERSION]);
            let _ = decode(&bytes, extents);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        // docs/format/manifest.md; a change of this is a change of the format.
        let mut bytes = vec![b'E', 1, 2];
        bytes.extend([0; 32]);
        bytes.extend([7; 32]);
        assert_eq!(encode(&[ChunkId::ZERO, ChunkId::from_bytes([7; 32])]), bytes);
    }
}
