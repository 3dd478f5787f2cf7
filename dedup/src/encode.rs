//! Encoding a chunk and looking at the result before anyone relies on it.

use crate::{ChunkId, Error, Result};
use pitr_codec::{Codec, CodecError, EncodedFrame, decode_frame, encode_frame};

/// The chunk as a frame that is known to decode into the bytes of `id`.
pub(crate) fn encode(id: ChunkId, raw: &[u8], codec: Codec) -> Result<EncodedFrame> {
    encode_by(id, raw, |raw| encode_frame(codec, raw))
}

/// Hashing what was decoded finds what comparing with `raw` can't: `raw` itself changed in memory since it was named.
fn encode_by(
    id: ChunkId,
    raw: &[u8],
    encoder: impl FnOnce(&[u8]) -> Result<EncodedFrame, CodecError>,
) -> Result<EncodedFrame> {
    let frame = encoder(raw).map_err(Error::Pack)?;
    match decode_frame(frame.bytes(), raw.len()) {
        Ok(decoded) if ChunkId::of(&decoded) == id => Ok(frame),
        _ => Err(Error::EncodedWrongly { id }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_errs_is_caught() {
        // FAILURES 30
        let raw = vec![5; 10_000];
        let id = ChunkId::of(&raw);
        assert!(encode(id, &raw, Codec::default()).is_ok());
        let mut flipped = raw.clone();
        flipped[777] ^= 1;
        for wrong in [&flipped, &raw[1..], &[]] {
            let result = encode_by(id, &raw, |_| encode_frame(Codec::default(), wrong));
            assert!(matches!(result, Err(Error::EncodedWrongly { id: named }) if named == id));
        }
    }

    #[test]
    fn memory_that_changes_under_a_chunk_is_caught() {
        // FAILURES 30
        let mut raw = vec![5; 10_000];
        let id = ChunkId::of(&raw);
        raw[9_999] ^= 0x80;
        assert!(matches!(encode(id, &raw, Codec::None), Err(Error::EncodedWrongly { .. })));
    }
}
