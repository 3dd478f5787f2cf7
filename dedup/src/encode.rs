//! Encoding a chunk and looking at the result before anyone relies on it.

use crate::{ChunkId, Error, Result};
use pitr_codec::{Codec, CodecError, EncodedFrame, encode_frame};

/// A chunk's name, and a checksum taken with it: cheaper than hashing once more, it tells later whether the bytes are
/// still those that were named.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) id: ChunkId,
    crc: u32,
}

impl Name {
    pub(crate) fn of(raw: &[u8]) -> Self {
        Name { id: ChunkId::of(raw), crc: crc32fast::hash(raw) }
    }
}

/// The chunk as a frame that is known to decode into the bytes that were named.
pub(crate) fn encode(name: Name, raw: &[u8], codec: Codec) -> Result<EncodedFrame> {
    encode_by(name, raw, |raw| encode_frame(codec, raw))
}

fn encode_by(
    name: Name,
    raw: &[u8],
    encoder: impl FnOnce(&[u8]) -> Result<EncodedFrame, CodecError>,
) -> Result<EncodedFrame> {
    let frame = encoder(raw).map_err(Error::Pack)?;
    if frame.verify(raw).is_ok() && crc32fast::hash(raw) == name.crc {
        Ok(frame)
    } else {
        Err(Error::EncodedWrongly { id: name.id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_errs_is_caught() {
        // FAILURES 30
        let raw = vec![5; 10_000];
        let name = Name::of(&raw);
        assert!(encode(name, &raw, Codec::default()).is_ok());
        let mut flipped = raw.clone();
        flipped[777] ^= 1;
        for wrong in [&flipped, &raw[1..], &[]] {
            let result = encode_by(name, &raw, |_| encode_frame(Codec::default(), wrong));
            assert!(matches!(result, Err(Error::EncodedWrongly { id }) if id == name.id));
        }
    }

    #[test]
    fn memory_that_changes_under_a_chunk_is_caught() {
        // FAILURES 30
        let mut raw = vec![5; 10_000];
        let name = Name::of(&raw);
        raw[9_999] ^= 0x80;
        assert!(matches!(encode(name, &raw, Codec::None), Err(Error::EncodedWrongly { .. })));
    }
}
