//! Finds commits in a history by reading a few footers: every footer also knows the last commit before its range, so
//! that a binary search needs no object with commits to land on.

use crate::archive::Archive;
use crate::error::Result;
use crate::footer::{CommitPoint, Footer, MarkKind};
use crate::lineage::Piece;
use crate::transactions::{Transaction, Transactions};
use pitr_format::{Lsn, Timestamp, TxId};

/// The commits on both sides of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// The last one before it.
    pub before: Option<CommitPoint>,
    /// The first one behind it.
    pub after: Option<Transaction>,
}

/// Searches the log objects of a history, or of a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    archive: &'a Archive,
    pieces: &'a [Piece],
}

impl<'a> Search<'a> {
    /// Searches these pieces, which ascend.
    #[must_use]
    pub fn new(archive: &'a Archive, pieces: &'a [Piece]) -> Self {
        Search { archive, pieces }
    }

    /// Splits the commits in two: those for which `earlier` holds, which must all stand before the others.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn split(&self, earlier: impl Fn(&CommitPoint) -> bool) -> Result<Around> {
        let mut around = Around::default();
        for leg in self.pieces.chunk_by(|a, b| a.name.timeline == b.name.timeline) {
            // The first object at whose end some commit is no longer earlier.
            let (mut low, mut high) = (0, leg.len());
            let mut found: Option<Footer> = None;
            while low < high {
                let middle = low + (high - low) / 2;
                let footer = self.archive.footer(&leg[middle].name)?;
                match footer.last_commit(leg[middle].to) {
                    Some(last) if !earlier(&last) => {
                        high = middle;
                        found = Some(footer);
                    }
                    last => {
                        low = middle + 1;
                        around.before = last.or(around.before);
                    }
                }
            }
            if let Some(footer) = found {
                let cut = footer.commits.partition_point(|commit| earlier(&commit.into()));
                let within = cut.checked_sub(1).map(|no| CommitPoint::from(&footer.commits[no]));
                let before = within.or(footer.before.filter(&earlier));
                around.before = before.or(around.before);
                let timeline = footer.timeline;
                around.after =
                    footer.commits.get(cut).map(|commit| Transaction { timeline, commit: *commit });
                break;
            }
        }
        Ok(around)
    }

    /// The commit of a transaction.
    ///
    /// Numbers are expected to grow from commit to commit; where they don't, every footer is read before the answer is
    /// no.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn transaction(&self, tx: TxId) -> Result<Option<Transaction>> {
        let near = self.split(|commit| commit.tx < tx)?.after;
        if let Some(found) = near.filter(|found| found.commit.tx == tx) {
            return Ok(Some(found));
        }
        self.transactions(Lsn::ORIGIN)
            .find(|found| found.as_ref().is_ok_and(|found| found.commit.tx == tx) || found.is_err())
            .transpose()
    }

    /// The commits behind `after`, in order.
    #[must_use]
    pub fn transactions(&self, after: Lsn) -> Transactions<'a> {
        let begin = self.pieces.partition_point(|piece| piece.to <= after);
        Transactions::new(self.archive, &self.pieces[begin..], after)
    }

    /// A commit that was logged behind `time` and can have happened at or before it: the state at that time is not
    /// certain.
    ///
    /// Earliest times are those of looks at the source and do not decrease; one object more than needed is read for
    /// writers whose looks overlap.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn uncertain_at(&self, time: Timestamp) -> Result<Option<Transaction>> {
        let Some(first) = self.split(|commit| commit.time <= time)?.after else { return Ok(None) };
        let from = first.commit.lsn.before();
        let begin = self.pieces.partition_point(|piece| piece.to <= from);
        for piece in self.pieces[begin..].iter().filter(|piece| piece.to > from) {
            let footer = self.archive.footer(&piece.name)?;
            let later = footer.commits.iter().filter(|c| c.lsn > from && c.lsn <= piece.to && c.time > time);
            let mut any = false;
            for commit in later {
                any = true;
                if commit.earliest <= time {
                    return Ok(Some(Transaction { timeline: footer.timeline, commit: *commit }));
                }
            }
            if any && piece.from() > from {
                break;
            }
        }
        Ok(None)
    }

    /// Spans of time that the source's clock showed twice because it was set back: first and last moment of each.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn frozen_spans(&self) -> Result<Vec<(Timestamp, Timestamp)>> {
        let mut spans = Vec::new();
        for leg in self.pieces.chunk_by(|a, b| a.name.timeline == b.name.timeline) {
            let mut left = leg;
            while let Some((last, earlier)) = left.split_last() {
                let footer = self.archive.footer(&last.name)?;
                for mark in footer.marks.iter().filter(|mark| mark.lsn < last.to) {
                    if let MarkKind::ClockStep { from, to } = mark.what
                        && to < from
                    {
                        spans.push((to, from));
                    }
                }
                let Some(step) = footer.step_before else { break };
                left = &earlier[..earlier.partition_point(|piece| piece.from() <= step)];
            }
        }
        Ok(spans)
    }

    /// The promise at the end of these pieces: no later commit bears a time before it.
    ///
    /// # Errors
    /// Those of reading footers.
    pub fn watermark(&self) -> Result<Option<Timestamp>> {
        let Some(last) = self.pieces.last() else { return Ok(None) };
        let footer = self.archive.footer(&last.name)?;
        if last.to == footer.to {
            return Ok(Some(footer.watermark));
        }
        // The path leaves the timeline here: what it states about later times is none of this history.
        Ok(footer.last_commit(last.to).map(|commit| commit.time))
    }
}
