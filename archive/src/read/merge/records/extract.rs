//! The logical records of some frames of an object.

use crate::archive::LogObject;
use crate::error::{Error, Result};
use crate::history::Piece;
use pitr_format::log::{Frame, Part};
use pitr_format::record::RecordKind;
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_objects::layout::LogName;
use pitr_redo::{CommitSpan, Winners};
use std::ops::Range;

/// An object, and what counts in it.
pub(super) struct Source<'a> {
    pub(super) object: &'a LogObject,
    /// Records that begin in it count.
    range: Range<Lsn>,
    winners: Winners,
}

impl<'a> Source<'a> {
    /// `span` is that of the merge; `long` has the commits after the object that concern it.
    pub(super) fn new(object: &'a LogObject, piece: &Piece, span: &Range<Lsn>, long: &[CommitSpan]) -> Self {
        let range = span.start..span.end.min(piece.to);
        let own = object.footer.commits.iter().filter(|commit| commit.lsn <= range.end);
        let own = own.map(|commit| CommitSpan { tx: commit.tx, first: commit.first_lsn, commit: commit.lsn });
        let winners = own.chain(long.iter().copied()).collect();
        Source { object, range, winners }
    }

    /// The records that the footer lists and that count, ascending.
    fn listed(&self) -> impl Iterator<Item = Lsn> {
        let listed = self.object.footer.logical.iter();
        listed.filter(|entry| self.counts(entry.tx, entry.lsn).is_some()).map(|entry| entry.lsn)
    }

    fn counts(&self, tx: TxId, lsn: Lsn) -> Option<CommitSpan> {
        self.winners.span_of(tx, lsn).filter(|_| self.range.contains(&lsn))
    }
}

/// The frame of a logical record.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) lsn: Lsn,
    /// LSN of the commit that covers the frame.
    pub(super) commit: Lsn,
    pub(super) tx: TxId,
    pub(super) partition: PartitionId,
    pub(super) part: Part,
    /// Length of this part, bytes.
    pub(super) len: usize,
    /// Length of the whole record, bytes.
    pub(super) total_len: usize,
}

/// The logical records that count in some frames of an object.
#[derive(Debug)]
pub(super) struct Extracted {
    pub(super) object: LogName,
    /// Of the object's first frames: the records that its footer lists and that count, ascending.
    pub(super) listed: Option<Vec<Lsn>>,
    pub(super) heads: Vec<Head>,
    /// The parts, one after the other.
    pub(super) bytes: Vec<u8>,
}

/// Frames of an object that are read together.
pub(super) struct Run<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) frames: Range<usize>,
    /// True for the first run of the object.
    pub(super) begins: bool,
}

/// Verifies the decoded frames of a run, and takes the logical records that count from them.
pub(super) fn extract(run: &Run<'_>, raw: &[Vec<u8>]) -> Result<Extracted> {
    let Source { object, range, .. } = run.source;
    let listed = run.begins.then(|| run.source.listed().collect());
    let mut found = Extracted { object: object.name, listed, heads: Vec::new(), bytes: Vec::new() };
    // Most records belong to the transaction of the record before.
    let mut last: Option<CommitSpan> = None;
    for (no, bytes) in run.frames.clone().zip(raw) {
        object.each_frame(no, bytes, |frame: &Frame<'_>| {
            if frame.kind != RecordKind::Data as u8 {
                return Ok(());
            }
            let known = last.filter(|span| span.covers(frame.tx, frame.lsn) && range.contains(&frame.lsn));
            let span = known.or_else(|| run.source.counts(frame.tx, frame.lsn));
            let Some(span) = span else { return Ok(()) };
            last = Some(span);
            let Frame { lsn, tx, partition, part, total_len, bytes, .. } = *frame;
            let (len, total_len) = (bytes.len(), total_len as usize);
            found.heads.push(Head { lsn, commit: span.commit, tx, partition, part, len, total_len });
            found.bytes.extend_from_slice(bytes);
            Ok::<(), Error>(())
        })?;
    }
    Ok(found)
}
