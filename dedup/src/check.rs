//! Checks of whole packs and index objects.

use crate::index::packs_of;
use crate::pack::PackFooter;
use crate::{ChunkIds, Error, Pieces, Result};
use pitr_codec::{CodecError, ObjectIndex, ObjectKind};
use pitr_objects::Objects;

/// Checks the pack at `path`, which is in memory, and returns its damaged frames by number. The
/// stored bytes of each frame are compared with their SHA-256. With `deep` each frame is decoded
/// and compared with its chunk's id and sums.
///
/// # Errors
/// A fault of the pack as a whole; then none of its chunks is reliable.
pub fn check_pack(objects: &Objects, path: &str, whole: &[u8], deep: bool) -> Result<Vec<(u32, Error)>> {
    let index = objects.index_of(path, ObjectKind::Pack, whole)?;
    let footer = PackFooter::decode(path, &index)?;
    let names = ChunkIds::new(objects.keys());
    let check = |number: usize| -> Result<bool, CodecError> {
        if !deep {
            return index.check_frame(whole, &index.frames[number]).map(|()| true);
        }
        let pieces = Pieces::of(&index.decode_frame(whole, number)?);
        // The footer has an id and sums for each frame.
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

/// Checks the footer of the pack at `path`, without its frames.
///
/// # Errors
/// A fault of the pack as a whole.
pub fn check_pack_footer(path: &str, index: &ObjectIndex) -> Result<()> {
    PackFooter::decode(path, index).map(drop)
}

/// Checks an index object, which has no frames, by its footer.
///
/// # Errors
/// The fault of the object.
pub fn check_index_footer(path: &str, index: &ObjectIndex) -> Result<()> {
    packs_of(path, index).map(drop)
}

/// Checks the index object at `path`, which is in memory.
///
/// # Errors
/// The fault of the object.
pub fn check_index(objects: &Objects, path: &str, whole: &[u8]) -> Result<()> {
    check_index_footer(path, &objects.index_of(path, ObjectKind::PackIndex, whole)?)
}
