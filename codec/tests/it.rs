//! The container as its users see it: round trips, damage, decompression bombs, versions.

#![allow(clippy::unwrap_used)] // test helpers fail by panicking

use pitr_codec::*;
use pitr_format::{DecodeError, OwnerToken};
use pitr_vfs::SystemRandom;
use proptest::prelude::*;

const OWNER: OwnerToken = OwnerToken([7; 16]);
const ZSTD: Codec = Codec::Zstd { level: 3 };

fn object(kind: ObjectKind, codec: Codec, frames: &[Vec<u8>], footer: &[u8]) -> Vec<u8> {
    object_for(Access::default(), kind, codec, frames, footer)
}

/// Builds an object that `access` can read.
fn object_for(
    access: Access<'_>,
    kind: ObjectKind,
    codec: Codec,
    frames: &[Vec<u8>],
    footer: &[u8],
) -> Vec<u8> {
    let mut builder = ObjectBuilder::new(kind, OWNER, codec);
    if let Some(keys) = access.keys {
        builder = builder.encrypted(keys.seal(kind, access.name, &SystemRandom).unwrap());
    }
    for (no, raw) in frames.iter().enumerate() {
        // Frames that are encoded in the object and frames that are encoded apart have the same
        // bytes.
        if no % 2 == 0 {
            assert_eq!(builder.append(codec, raw).unwrap().raw_len as usize, raw.len());
        } else {
            let frame = encode_frame(codec, raw).unwrap();
            frame.verify(raw).unwrap();
            assert_eq!(builder.push(&frame).unwrap(), no);
        }
    }
    builder.finish(footer).unwrap()
}

/// Decodes all frames and the footer, or returns the first error.
fn read_all(bytes: &[u8], kind: ObjectKind) -> Result<(Vec<Vec<u8>>, Vec<u8>), CodecError> {
    read_with(Access::default(), bytes, kind)
}

fn read_with(
    access: Access<'_>,
    bytes: &[u8],
    kind: ObjectKind,
) -> Result<(Vec<Vec<u8>>, Vec<u8>), CodecError> {
    let index = ObjectIndex::from_whole(bytes, kind, access)?;
    let frames = (0..index.frames.len()).map(|no| index.decode_frame(bytes, no)).collect::<Result<_, _>>()?;
    Ok((frames, index.footer))
}

fn from_whole(bytes: &[u8], kind: ObjectKind) -> Result<ObjectIndex, CodecError> {
    ObjectIndex::from_whole(bytes, kind, Access::default())
}

fn decode_frame(bytes: &[u8], most: usize) -> Result<Vec<u8>, CodecError> {
    let mut raw = vec![0xAA; 17]; // arbitrary content
    decode_frame_into(&mut raw, bytes, most, None).map(|()| raw)
}

fn read_ranged(bytes: &[u8], kind: ObjectKind, first: usize) -> Result<ObjectIndex, CodecError> {
    let access = Access::default();
    let len = bytes.len();
    let tail = |n: usize| &bytes[len - n.min(len)..];
    let head = &bytes[..HEADER_BYTES.min(len)];
    match ObjectIndex::from_tail(kind, len as u64, head, tail(first), access)? {
        FromTail::Ready(index) => Ok(index),
        FromTail::Needs(n) => match ObjectIndex::from_tail(kind, len as u64, head, tail(n as usize), access)?
        {
            FromTail::Ready(index) => Ok(index),
            FromTail::Needs(_) => panic!("asked twice for a longer tail"),
        },
    }
}

fn codecs() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(Codec::None),
        (1..6i32).prop_map(|level| Codec::Zstd { level }),
        Just(Codec::Lz4),
        Just(Codec::Snappy),
        (1..=9u32).prop_map(|level| Codec::Gzip { level }),
    ]
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..5000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec(bytes, 0..6)
}

proptest! {
    #[test]
    fn objects_round_trip(codec in codecs(), frames in frames(), footer: Vec<u8>, first in 64..400usize) {
        let bytes = object(ObjectKind::Pack, codec, &frames, &footer);
        let (frames2, footer2) = read_all(&bytes, ObjectKind::Pack).unwrap();
        prop_assert_eq!(&frames2, &frames);
        prop_assert_eq!(&footer2, &footer);
        let index = read_ranged(&bytes, ObjectKind::Pack, first).unwrap();
        prop_assert_eq!(&index, &from_whole(&bytes, ObjectKind::Pack).unwrap());
        prop_assert_eq!(index.header.owner, OWNER);
    }

    // FAILURES 29: one bit anywhere in an object.
    #[test]
    fn a_flipped_bit_is_detected(codec in codecs(), frames in frames(), footer: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = object(ObjectKind::Log, codec, &frames, &footer);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_all(&bytes, ObjectKind::Log).is_err(), "byte {} of {}", at, bytes.len());
        let ranged = read_ranged(&bytes, ObjectKind::Log, 100);
        prop_assert!(ranged.is_err() || ranged.unwrap().check_frames(&bytes).is_err());
    }

    #[test]
    fn a_truncated_or_extended_object_is_refused(frames in frames(), cut: prop::sample::Index, more in 1..100usize) {
        let bytes = object(ObjectKind::Log, ZSTD, &frames, b"footer");
        prop_assert!(read_all(&bytes[..cut.index(bytes.len())], ObjectKind::Log).is_err());
        let mut longer = bytes;
        longer.resize(longer.len() + more, 0);
        prop_assert!(read_all(&longer, ObjectKind::Log).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, most in 0..100_000usize) {
        let _ = read_all(&bytes, ObjectKind::Pack);
        let _ = read_ranged(&bytes, ObjectKind::Pack, 64);
        let _ = decode_frame(&bytes, most);
        let mut framed = vec![1, 0, 0, 0];
        framed.extend(&bytes);
        let _ = decode_frame(&framed, most);
    }
}

#[test]
fn frames_of_another_object_are_detected() {
    let one = object(ObjectKind::Pack, Codec::None, &[vec![1; 100]], b"a");
    let two = object(ObjectKind::Pack, Codec::None, &[vec![2; 100]], b"a");
    let mixed = [&one[..HEADER_BYTES + 116], &two[HEADER_BYTES + 116..]].concat();
    assert!(from_whole(&mixed, ObjectKind::Pack).is_ok());
    assert!(matches!(read_all(&mixed, ObjectKind::Pack), Err(CodecError::FrameDigest { offset: 64 })));
}

#[test]
fn a_decompression_bomb_is_refused() {
    // FAILURES 31: 64 MiB of zeros compress to a few KiB. The frame states less, or more than is
    // allowed.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let framed = |codec: u8, raw_len: u32, bomb: &[u8]| {
        let mut bytes = vec![codec, 0, 0, 0];
        bytes.extend(raw_len.to_le_bytes());
        bytes.extend((bomb.len() as u32).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        crc.update(bomb);
        bytes.extend(crc.finalize().to_le_bytes());
        bytes.extend(bomb);
        bytes
    };
    let frame = |raw_len: u32| framed(1, raw_len, &bomb);
    for codec in [Codec::Lz4, Codec::Snappy, Codec::Gzip { level: 9 }] {
        let whole = encode_frame(codec, &vec![0; 8 << 20]).unwrap();
        for raw_len in [0, 1, 1 << 20, (8 << 20) - 1, (8 << 20) + 1] {
            let bytes = framed(codec.id(), raw_len, &whole.bytes()[FRAME_HEADER_BYTES..]);
            let result = decode_frame(&bytes, FRAME_BYTES_MAX);
            assert!(matches!(result, Err(CodecError::Inflate { .. })), "{codec} {raw_len} {result:?}");
        }
    }
    let result = decode_frame(&frame(1 << 20), FRAME_BYTES_MAX);
    // The codec itself reports the error: it stopped at the bound.
    assert!(matches!(result, Err(CodecError::Inflate { raw_len: 0x10_0000, source: Some(_) })), "{result:?}");
    for raw_len in [64 << 20, u32::MAX] {
        let result = decode_frame(&frame(raw_len), usize::MAX);
        assert!(matches!(result, Err(CodecError::Malformed(DecodeError::Range { .. }))), "{result:?}");
    }
    // The caller's own bound also applies.
    let small = encode_frame(ZSTD, &[0; 10_000]).unwrap();
    assert!(decode_frame(small.bytes(), 9_999).is_err());
    assert!(decode_frame(small.bytes(), 10_000).is_ok());
}

proptest! {
    #[test]
    fn encrypted_objects_round_trip_only_with_their_name_and_keys(
        codec in codecs(), frames in frames(), footer: Vec<u8>, name in "[a-z]{1,9}", at: prop::sample::Index,
    ) {
        let (keys, others) = (Keys::generate([1; 16], &SystemRandom).unwrap(), Keys::generate([1; 16], &SystemRandom).unwrap());
        let access = Access { keys: Some(&keys), name: &name };
        let bytes = object_for(access, ObjectKind::Log, codec, &frames, &footer);
        prop_assert_eq!(read_with(access, &bytes, ObjectKind::Log).unwrap(), (frames, footer));
        // Another name, other keys, no keys.
        let (longer, as_long) = (name.clone() + "x", name.to_uppercase());
        let elsewhere = [longer.as_str(), &as_long, ""].map(|name| Access { name, ..access });
        for wrong in elsewhere.into_iter().chain([Access { keys: Some(&others), ..access }]) {
            let refused = ObjectIndex::from_whole(&bytes, ObjectKind::Log, wrong);
            prop_assert!(matches!(refused, Err(CodecError::NotAuthentic { .. })), "{:?}", refused);
        }
        prop_assert_eq!(from_whole(&bytes, ObjectKind::Log).unwrap_err().kind(), ErrorKind::Key);
        // Any changed byte.
        let mut damaged = bytes.clone();
        let at = at.index(bytes.len());
        damaged[at] ^= 0x40;
        prop_assert!(read_with(access, &damaged, ObjectKind::Log).is_err(), "byte {}", at);
    }
}

#[test]
fn an_encrypted_frame_is_bound_to_its_place() {
    let keys = Keys::generate([1; 16], &SystemRandom).unwrap();
    let access = Access { keys: Some(&keys), name: "here" };
    let same = vec![vec![5; 500]; 2];
    let bytes = object_for(access, ObjectKind::Pack, Codec::None, &same, &[5; 500]);
    let index = ObjectIndex::from_whole(&bytes, ObjectKind::Pack, access).unwrap();
    let stored =
        |no: usize| &bytes[index.frames[no].range().start as usize..index.frames[no].range().end as usize];
    assert_ne!(stored(0), stored(1), "equal frames have different ciphertexts");
    assert!(!bytes.windows(8).any(|bytes| bytes == [5; 8]), "no plaintext is stored");

    let cipher = keys.open(ObjectKind::Pack, "here", index.header.seal.unwrap()).unwrap();
    let mut raw = Vec::new();
    let mut decode = |frame: &[u8], number, last| {
        decode_frame_into(&mut raw, frame, 500, Some(Sealed { cipher: &cipher, number, last }))
    };
    assert!(decode(stored(0), 0, false).is_ok() && decode(stored(1), 1, false).is_ok());
    for (frame, number, last) in [(0, 1, false), (1, 0, false), (0, 0, true)] {
        let refused = decode(stored(frame), number, last);
        assert!(matches!(refused, Err(CodecError::NotAuthentic { frame }) if frame == number));
    }
    // The frame's header is authenticated: a changed codec with a valid checksum is refused.
    let mut other = stored(0).to_vec();
    other[0] = 1;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&other[..12]);
    crc.update(&other[16..]);
    other[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    assert!(matches!(decode(&other, 0, false), Err(CodecError::NotAuthentic { frame: 0 })));
    // An unencrypted frame in an encrypted object is refused, and vice versa.
    let clear = encode_frame(Codec::None, &[5; 500]).unwrap();
    assert!(matches!(decode(clear.bytes(), 0, false), Err(CodecError::NotAuthentic { .. })));
    assert!(matches!(decode_frame(stored(0), 500), Err(CodecError::NotAuthentic { .. })));
}

#[test]
fn unencrypted_objects_of_an_encrypted_repository_are_refused() {
    let keys = Keys::generate([1; 16], &SystemRandom).unwrap();
    let access = Access { keys: Some(&keys), name: "" };
    for kind in
        [ObjectKind::Pack, ObjectKind::Manifest, ObjectKind::Claim, ObjectKind::KeyRing, ObjectKind::Source]
    {
        let bytes = object(kind, Codec::None, &[], b"forged");
        let refused = read_with(access, &bytes, kind).unwrap_err();
        assert!(matches!(refused, CodecError::NotEncrypted { .. }) && refused.kind() == ErrorKind::Corrupt);
    }
    for kind in [ObjectKind::Repository, ObjectKind::KeySlot] {
        assert!(read_with(access, &object(kind, Codec::None, &[], b""), kind).is_ok());
    }
}

#[test]
fn a_newer_version_is_refused_with_a_version_error() {
    // FAILURES 36
    let mut bytes = object(ObjectKind::Repository, Codec::None, &[], b"");
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = from_whole(&bytes, ObjectKind::Repository).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Newer);
    assert!(error.to_string().contains("version 2") && error.to_string().contains("newer"), "{error}");
    // With a wrong checksum, the same byte counts as damage, not as a version.
    bytes[60] ^= 1;
    let error = from_whole(&bytes, ObjectKind::Repository).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn another_kind_is_refused_with_its_name() {
    let bytes = object(ObjectKind::Claim, Codec::None, &[], b"");
    let error = from_whole(&bytes, ObjectKind::Fence).unwrap_err();
    assert_eq!(error.to_string(), "the object is a claim, not a fence");
}

#[test]
fn incompressible_data_is_stored_uncompressed() {
    let raw: Vec<u8> =
        (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[..2].to_vec()).collect();
    let frame = encode_frame(ZSTD, &raw[..64]).unwrap();
    assert!(frame.stored_len() as usize <= 64 + FRAME_HEADER_BYTES);
    assert!(encode_frame(ZSTD, &vec![0; FRAME_BYTES_MAX + 1]).is_err());
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    // docs/format/object.md. A change here is a change of the format.
    let bytes = object(ObjectKind::Claim, Codec::None, &[b"frame".to_vec()], b"footer");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "\
    504954524f424a31010006000000000000000000070707070707070707070707\
    070707070000000000000000000000000000000000000000000000006cdece57\
    00000000050000000500000031cc8ded6672616d65\
    000000002e0000002e000000d26ec59515000000050000004ea1f704eb9e8319\
    a08f61756c7fc57f3d7e90a919489bd93d2a353837349bfe666f6f746572\
    55000000000000003e0000002e0000000100000000000000a9ab4ee30977c68e\
    b08ef67be1e9d7130ad9bb6de10aa695293183300fe97a6a50495452454e4431";
