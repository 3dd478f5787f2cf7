//! The logical records that count: where they are, and whether the caller can apply them.
//!
//! Footers list logical records. Older objects have footers without that list. For them, a commit's
//! totals are used: the number of images and bytes that its transaction logged. If the images found
//! are fewer bytes, the objects of the transaction are read (FAILURES 52).

use super::select::{Selection, Window};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::LogicalEntry;
use pitr_format::log::{Frame, Part};
use pitr_format::record::RecordKind;
use pitr_format::{Lsn, PartitionId};
use pitr_redo::CommitSpan;
use std::collections::BTreeMap;
use std::ops::Range;

/// The logical records in the span of a [`Merged`](super::Merged) whose transactions committed in
/// it.
#[derive(Debug)]
pub struct Logical {
    /// The span.
    pub(super) range: Range<Lsn>,
    /// The objects with such records, ascending, and the range of LSNs that has them.
    pub(super) objects: Vec<(Piece, Range<Lsn>)>,
    /// Commits whose transactions began in an earlier object than that of the commit, by `first`.
    pub(super) long: Vec<CommitSpan>,
    partitions: BTreeMap<PartitionId, LogicalEntry>,
    transactions: u64,
}

impl Logical {
    /// The records that a selection found. `found` has the objects that list some, newest first.
    pub(super) fn new(
        archive: &Archive,
        pieces: &[Piece],
        found: Vec<(Piece, Range<Lsn>)>,
        selection: &mut Selection,
    ) -> Result<Logical> {
        let mut long = std::mem::take(&mut selection.long);
        long.sort_unstable_by_key(|span| span.first);
        let mut logical = Logical {
            range: selection.after..selection.upto,
            objects: found.into_iter().rev().collect(),
            long,
            partitions: std::mem::take(&mut selection.partitions),
            transactions: selection.logical_transactions,
        };
        for suspect in &selection.suspects {
            logical.add_unlisted(archive, pieces, suspect)?;
        }
        Ok(logical)
    }

    /// Adds the objects of a transaction whose footers may not list its records.
    fn add_unlisted(&mut self, archive: &Archive, pieces: &[Piece], suspect: &Window) -> Result<()> {
        let after = self.range.start;
        if !suspect.is_logical {
            let Some(entry) = look(archive, pieces, after, suspect)? else { return Ok(()) };
            self.partitions.entry(entry.partition).or_insert(entry);
            self.transactions += 1;
        }
        let (from, to) = (suspect.span.first.max(after), suspect.span.commit);
        for piece in pieces.iter().filter(|piece| piece.name.to > from && piece.from() < to) {
            let known = self.objects.binary_search_by_key(&piece.from(), |(piece, _)| piece.from());
            match known.map(|no| &mut self.objects[no].1) {
                Ok(range) => *range = range.start.min(from)..range.end.max(to),
                Err(no) => self.objects.insert(no, (*piece, from..to)),
            }
        }
        Ok(())
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Number of transactions with such records.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Fails if there are records of a partition for which `applies` is false. The partitions of
    /// objects written before footers listed logical records may be incomplete.
    ///
    /// # Errors
    /// [`Error::Logical`].
    pub fn refuse(&self, applies: impl Fn(PartitionId) -> bool) -> Result<()> {
        let refused = self.partitions.values().filter(|entry| !applies(entry.partition));
        match refused.min_by_key(|entry| entry.lsn) {
            None => Ok(()),
            Some(LogicalEntry { lsn, tx, partition }) => {
                Err(Error::Logical { partition: *partition, tx: *tx, lsn: *lsn })
            }
        }
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
