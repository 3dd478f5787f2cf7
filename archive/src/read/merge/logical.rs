//! Finds logical records that a merge of images would omit (FAILURES 52).
//!
//! Footers list logical records. Older objects have footers without that list. For them, a commit's
//! totals are used: the number of images and bytes that its transaction logged. If the images found
//! are fewer bytes, the records themselves are read.

use super::select::{Selection, Window};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::LogicalEntry;
use pitr_format::Lsn;
use pitr_format::log::{Frame, Part};
use pitr_format::record::RecordKind;

/// Fails if a logical record counts in the range of the selection.
pub(super) fn refuse(archive: &Archive, pieces: &[Piece], after: Lsn, selection: &Selection) -> Result<()> {
    let mut found = selection.logical;
    for suspect in &selection.suspects {
        if found.is_none() {
            found = look(archive, pieces, after, suspect)?;
        }
    }
    match found {
        None => Ok(()),
        Some(LogicalEntry { lsn, tx, partition }) => Err(Error::Logical { partition, tx, lsn }),
    }
}

/// The first logical record of a transaction, found by reading its records.
fn look(archive: &Archive, pieces: &[Piece], after: Lsn, suspect: &Window) -> Result<Option<LogicalEntry>> {
    let from = suspect.span.first.max(after);
    let overlaps = |piece: &&Piece| piece.name.to > from && piece.from() < suspect.span.commit;
    for piece in pieces.iter().filter(overlaps) {
        let object = archive.open(&piece.name)?;
        let (first, last) = (object.footer.frame_of(from), object.footer.frame_of(suspect.span.commit));
        for no in first.unwrap_or(0)..last.map_or(0, |last| last + 1) {
            let mut found = None;
            for bytes in archive.frames(&object, no..no + 1)? {
                object.each_frame(no, &bytes, |frame: &Frame<'_>| {
                    let begins = matches!(frame.part, Part::Full | Part::First);
                    let own = from <= frame.lsn && suspect.span.covers(frame.tx, frame.lsn);
                    if begins && own && frame.kind == RecordKind::Data as u8 {
                        let (lsn, tx, partition) = (frame.lsn, frame.tx, frame.partition);
                        found.get_or_insert(LogicalEntry { lsn, tx, partition });
                    }
                    Ok::<(), Error>(())
                })?;
            }
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}
