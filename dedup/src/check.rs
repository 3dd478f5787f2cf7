//! Looking at a whole pack for its faults.

use crate::pack::PackFooter;
use crate::store::packs_of;
use crate::{ChunkIds, Error, Pieces, Result};
use pitr_codec::{CodecError, ObjectKind};
use pitr_objects::Objects;

/// What is wrong with a pack that stands at `path` and is wholly at hand: the frames that are damaged, by number. Their
/// stored bytes are compared with their SHA-256; with `deep` each is decoded, and what comes out with its chunk's id and sums.
///
/// # Errors
/// What is wrong with the pack as a whole; then none of its chunks can be trusted.
pub fn check_pack(objects: &Objects, path: &str, whole: &[u8], deep: bool) -> Result<Vec<(u32, Error)>> {
    let index = objects.index_of(path, ObjectKind::Pack, whole)?;
    let footer = PackFooter::decode(path, &index)?;
    let names = ChunkIds::new(objects.keys());
    let check = |number: usize| -> Result<bool, CodecError> {
        if !deep {
            return index.check_frame(whole, &index.frames[number]).map(|()| true);
        }
        let pieces = Pieces::of(&index.decode_frame(whole, number)?);
        // The footer has ids and sums for each frame.
        let is_named = names.of_pieces(&pieces) == footer.ids[number];
        Ok(is_named && footer.sums(number).is_some_and(|sums| pieces.sums().eq(sums.iter().copied())))
    };
    let mut faults = Vec::new();
    for (number, id) in footer.ids.iter().enumerate() {
        let (id, pack) = (*id, || path.to_owned());
        match check(number) {
            Ok(true) => {}
            Ok(false) => faults.push((number as u32, Error::WrongContent { id, pack: pack() })),
            Err(source) => faults.push((number as u32, Error::Damaged { id, pack: pack(), source })),
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
