//! The container of every object in a repository, and its frames.

use crate::input::Input;
use crate::seal;
use pitr_codec::{
    Access, Codec, FRAME_HEADER_BYTES, ObjectBuilder, ObjectIndex, ObjectKind, decode_frame_into,
    encode_frame,
};
use pitr_format::OwnerToken;

/// Largest content that a frame may have here, bytes.
const FRAME_BYTES: usize = 1 << 20;
const FRAME_CRC: usize = 12;

/// Tests an arbitrary frame, or a valid object that is damaged afterwards.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8() & 1 == 0 {
        frame(input.rest());
    } else {
        object(&mut input);
    }
}

fn frame(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= FRAME_HEADER_BYTES {
        let stored = (bytes.len() - FRAME_HEADER_BYTES) as u32;
        bytes[8..FRAME_CRC].copy_from_slice(&stored.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..FRAME_CRC]);
        crc.update(&bytes[FRAME_HEADER_BYTES..]);
        seal::put(&mut bytes, FRAME_CRC, crc.finalize());
    }
    // FAILURES 31: a frame may state any length.
    let mut raw = Vec::new();
    if decode_frame_into(&mut raw, &bytes, FRAME_BYTES, None).is_ok() {
        assert!(raw.len() <= FRAME_BYTES);
    }
}

fn object(input: &mut Input<'_>) {
    let codecs = [Codec::None, Codec::Zstd { level: 1 }, Codec::Lz4, Codec::Snappy, Codec::Gzip { level: 1 }];
    let codec = codecs[usize::from(input.u8()) % codecs.len()];
    let mut frames: Vec<&[u8]> = Vec::new();
    for _ in 0..input.u8() % 4 {
        let len = usize::from(input.u8());
        frames.push(input.take(len));
    }
    let mut builder = ObjectBuilder::new(ObjectKind::Pack, OwnerToken([3; 16]), codec);
    for raw in &frames {
        builder.push(&encode_frame(codec, raw).expect("the frame is small")).expect("the frame is small");
    }
    let whole = builder.finish(input.take(9)).expect("the object is small");
    let mut changed = whole.clone();
    while !input.is_empty() {
        let at = usize::from(input.u16()) % changed.len();
        match input.u8() {
            0 => changed.truncate(at.max(1)),
            flips => changed[at] ^= flips,
        }
    }
    let Ok(index) = ObjectIndex::from_whole(&changed, ObjectKind::Pack, Access::default()) else { return };
    if index.check_frames(&changed).is_ok() {
        assert!(changed == whole, "a change that no digest detected");
        for (no, raw) in frames.iter().enumerate() {
            assert_eq!(index.decode_frame(&changed, no).as_deref().ok(), Some(*raw));
        }
    }
}
