//! Reads the state of a checkpoint record, which may fill more than one object.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::CheckpointEntry;
use pitr_format::log::{Assembler, Frame};
use pitr_format::record::{Checkpoint, RecordKind};

impl Archive {
    /// The engine's state in a checkpoint record of these pieces, which must ascend. Holds the
    /// state and one frame.
    ///
    /// # Errors
    /// [`Error::Objects`]; [`Error::Index`] or [`Error::Malformed`] if the log does not hold what
    /// the footer states; [`Error::NoCheckpoint`] if the pieces do not reach there.
    pub fn read_checkpoint(&self, pieces: &[Piece], at: &CheckpointEntry) -> Result<Vec<u8>> {
        let (mut assembler, mut found, mut object) = (Assembler::new(), None, None);
        let overlaps = |piece: &&Piece| piece.name.to > at.lsn && piece.from() < at.end;
        for piece in pieces.iter().filter(overlaps) {
            let opened = self.open(&piece.name)?;
            let malformed = |source| Error::Malformed { object: piece.name, source };
            object = Some(piece.name);
            let first = opened.footer.frame_of(at.lsn).unwrap_or(0);
            let last = opened.footer.frame_of(at.end.before()).map_or(0, |last| last + 1);
            for no in first..last {
                for bytes in self.frames(&opened, no..no + 1)? {
                    opened.each_frame(no, &bytes, |frame: &Frame<'_>| {
                        let is_part = at.lsn <= frame.lsn && frame.lsn < at.end;
                        if is_part
                            && frame.kind == RecordKind::Checkpoint as u8
                            && let Some(record) = assembler.push(frame).map_err(malformed)?
                        {
                            let payload = Checkpoint::decode(record.payload).map_err(malformed)?;
                            found = Some((record.lsn, payload.redo_from, payload.state.to_vec()));
                        }
                        Ok::<(), Error>(())
                    })?;
                }
            }
        }
        match (found, object) {
            (Some((lsn, redo_from, state)), _) if (lsn, redo_from) == (at.lsn, at.redo_from) => Ok(state),
            (_, Some(object)) => Err(Error::Index { object, lsn: at.lsn }),
            (_, None) => Err(Error::NoCheckpoint { lsn: at.lsn }),
        }
    }
}
