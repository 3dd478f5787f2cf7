//! An encrypted object: the sizes of its frames with each codec, and the error after a changed bit.

use pitr_codec::{Access, Codec, CodecError, Keys, ObjectBuilder, ObjectIndex, ObjectKind, OwnerToken};
use pitr_vfs::SystemRandom;

const REPOSITORY: [u8; 16] = [1; 16];
const OWNER: OwnerToken = OwnerToken([7; 16]);

/// Reads every frame of an object, and so checks every byte.
fn read(bytes: &[u8], keys: &Keys) -> Result<Vec<Vec<u8>>, CodecError> {
    let access = Access { keys: Some(keys), name: "packs/example" };
    let index = ObjectIndex::from_whole(bytes, ObjectKind::Pack, access)?;
    (0..index.frames.len()).map(|nth| index.decode_frame(bytes, nth)).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text: String = (0..200).map(|row| format!("customer {row}, balance {}\n", row * 37)).collect();
    let keys = Keys::generate(REPOSITORY, &SystemRandom)?;
    let cipher = keys.seal(ObjectKind::Pack, "packs/example", &SystemRandom)?;
    let mut object = ObjectBuilder::new(ObjectKind::Pack, OWNER, Codec::default()).encrypted(cipher);
    for codec in ["none", "lz4", "snappy", "gzip", "zstd", "zstd:19"] {
        let stored = object.append(codec.parse()?, text.as_bytes())?.stored_len;
        println!("{codec:>8}: {} bytes become {stored}", text.len());
    }
    let mut bytes = object.finish(b"a footer of the caller")?;
    let frames = read(&bytes, &keys)?;
    assert!(frames.iter().all(|frame| frame == text.as_bytes()));
    println!("the object has {} bytes, all {} frames are the text again", bytes.len(), frames.len());

    let (mut tried, mut found) = (0, 0);
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        tried += 1;
        found += usize::from(read(&bytes, &keys).is_err());
        bytes[at] ^= 1 << (at % 8);
    }
    println!("{found} of {tried} changed bits, one in each byte, give an error");

    let others = Keys::generate(REPOSITORY, &SystemRandom)?;
    if let Err(error) = read(&bytes, &others) {
        println!("with other keys: {error}");
    }
    Ok(())
}
