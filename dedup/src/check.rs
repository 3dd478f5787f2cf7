//! Looking at a whole pack for its faults.

use crate::pack::pack_path;
use crate::store::packs_of;
use crate::{ChunkId, ChunkIds, Error, Result};
use pitr_codec::{FrameEntry, ObjectIndex, ObjectKind};
use pitr_format::DecodeError;
use pitr_objects::Objects;

/// What is wrong with a pack that stands at `path` and is wholly at hand: the frames that are damaged, by number. Their
/// stored bytes are compared with their SHA-256; with `deep` each is decoded, and what comes out with its chunk's id.
///
/// # Errors
/// What is wrong with the pack as a whole; then none of its chunks can be trusted.
pub fn check_pack(objects: &Objects, path: &str, whole: &[u8], deep: bool) -> Result<Vec<(u32, Error)>> {
    let index = objects.index_of(path, ObjectKind::Pack, whole)?;
    if pack_path(&index.digest) != path {
        return Err(Error::Renamed { path: path.to_owned() });
    }
    let (ids, rest) = index.footer.as_chunks::<{ ChunkId::BYTES }>();
    if !rest.is_empty() || ids.len() != index.frames.len() {
        let source = DecodeError::Range { what: "chunk ids of a pack", value: ids.len() as u64 };
        return Err(Error::Index { path: path.to_owned(), source });
    }
    let names = ChunkIds::new(objects.keys());
    let mut faults = Vec::new();
    for (number, (frame, id)) in index.frames.iter().zip(ids).enumerate() {
        let id = ChunkId::from_bytes(*id);
        match check_frame(&index, number, frame, whole, deep.then_some((&names, &id))) {
            Ok(true) => {}
            Ok(false) => faults.push((number as u32, Error::WrongContent { id, pack: path.to_owned() })),
            Err(source) => faults.push((number as u32, Error::Damaged { id, pack: path.to_owned(), source })),
        }
    }
    debug_assert!(faults.iter().all(|(_, fault)| fault.kind().is_of_one_object()));
    Ok(faults)
}

/// What is wrong with an index object that stands at `path` and is wholly at hand.
///
/// # Errors
/// That.
pub fn check_index(objects: &Objects, path: &str, whole: &[u8]) -> Result<()> {
    packs_of(path, &objects.index_of(path, ObjectKind::PackIndex, whole)?).map(drop)
}

/// False if the frame decodes into something else than the chunk.
fn check_frame(
    index: &ObjectIndex,
    number: usize,
    frame: &FrameEntry,
    whole: &[u8],
    content: Option<(&ChunkIds, &ChunkId)>,
) -> Result<bool, pitr_codec::CodecError> {
    match content {
        None => index.check_frame(whole, frame).map(|()| true),
        Some((names, id)) => Ok(names.of(&index.decode_frame(whole, number)?) == *id),
    }
}
