//! The notes of commits: what their engine attached to them.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::CommitPoint;
use pitr_format::log::{Frame, Part};
use pitr_format::record::{Record, RecordKind};

/// A commit and its note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedCommit {
    /// The commit.
    pub commit: CommitPoint,
    /// The note; empty if the engine gave none.
    pub note: Vec<u8>,
}

impl Archive {
    /// The commits of a piece with their notes, ascending. Reads the object, one frame at a time. A
    /// commit whose record is divided is left out.
    ///
    /// # Errors
    /// [`Error::Objects`], [`Error::Malformed`].
    pub fn notes(&self, piece: &Piece) -> Result<Vec<NotedCommit>> {
        let object = self.open(&piece.name)?;
        let malformed = |source| Error::Malformed { object: piece.name, source };
        let mut found = Vec::new();
        for number in 0..object.footer.frames.len() {
            for bytes in self.frames(&object, number..number + 1)? {
                object.each_frame(number, &bytes, |frame: &Frame<'_>| {
                    if frame.kind != RecordKind::Commit as u8 || frame.part != Part::Full {
                        return Ok(());
                    }
                    let Record::Commit(record) =
                        Record::decode(frame.kind, frame.bytes).map_err(malformed)?
                    else {
                        return Ok(());
                    };
                    let at = object.footer.commits.binary_search_by_key(&frame.end(), |commit| commit.lsn);
                    if let Some(commit) = at.ok().and_then(|at| object.footer.commits.get(at)) {
                        found.push(NotedCommit { commit: commit.into(), note: record.note.to_vec() });
                    }
                    Ok::<(), Error>(())
                })?;
            }
        }
        found.retain(|noted| noted.commit.lsn <= piece.to);
        Ok(found)
    }
}
