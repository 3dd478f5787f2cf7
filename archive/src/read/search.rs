//! Finds commits in a history by reading a few footers. Every footer also states the last commit
//! before its range, so a binary search works on objects without commits too.

use super::transactions::{Transaction, Transactions};
use crate::archive::Archive;
use crate::error::Result;
use crate::history::Piece;
use crate::stored::{CheckpointEntry, CommitPoint, Footer, MarkKind};
use pitr_format::{Lsn, Timestamp, TxId};

/// The commits before and after a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// The last commit before the split.
    pub before: Option<CommitPoint>,
    /// The first commit after the split.
    pub after: Option<Transaction>,
}

/// Searches the log objects of a history, or of a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    archive: &'a Archive,
    pieces: &'a [Piece],
}

impl<'a> Search<'a> {
    /// A search of these pieces, which must ascend.
    #[must_use]
    pub fn new(archive: &'a Archive, pieces: &'a [Piece]) -> Self {
        Search { archive, pieces }
    }

    /// Splits the commits in two: those for which `earlier` is true must all precede the others.
    ///
    /// # Errors
    /// Errors of reading footers.
    pub fn split(&self, earlier: impl Fn(&CommitPoint) -> bool) -> Result<Around> {
        let mut around = Around::default();
        for leg in self.pieces.chunk_by(|a, b| a.name.timeline == b.name.timeline) {
            // The first object whose last commit is not earlier.
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
    /// Expects transaction numbers to ascend from commit to commit. If they don't, it reads every
    /// footer before it returns `None`.
    ///
    /// # Errors
    /// Errors of reading footers.
    pub fn transaction(&self, tx: TxId) -> Result<Option<Transaction>> {
        let near = self.split(|commit| commit.tx < tx)?.after;
        if let Some(found) = near.filter(|found| found.commit.tx == tx) {
            return Ok(Some(found));
        }
        self.transactions(Lsn::ORIGIN)
            .find(|found| found.as_ref().is_ok_and(|found| found.commit.tx == tx) || found.is_err())
            .transpose()
    }

    /// The commits after `after`, in order.
    #[must_use]
    pub fn transactions(&self, after: Lsn) -> Transactions<'a> {
        let begin = self.pieces.partition_point(|piece| piece.to <= after);
        Transactions::new(self.archive, &self.pieces[begin..], after)
    }

    /// A commit that was logged after `time` and can have happened at or before it. If there is
    /// one, the state at `time` is uncertain.
    ///
    /// Earliest times are the times of looks at the source, which do not decrease. One more object
    /// is read, for writers whose looks overlap.
    ///
    /// # Errors
    /// Errors of reading footers.
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

    /// Spans of time that the source's clock showed twice because it was set back: first and last
    /// moment of each.
    ///
    /// # Errors
    /// Errors of reading footers.
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

    /// The newest checkpoint of the engine that ends at or before `upto` and is `wanted`. Reads the
    /// footers of the objects with checkpoints, and one more for each timeline.
    ///
    /// # Errors
    /// Errors of reading footers.
    pub fn checkpoint(
        &self,
        upto: Lsn,
        wanted: impl Fn(&CheckpointEntry) -> bool,
    ) -> Result<Option<CheckpointEntry>> {
        for leg in self.pieces.chunk_by(|a, b| a.name.timeline == b.name.timeline).rev() {
            let mut left = &leg[..leg.partition_point(|piece| piece.from() < upto)];
            while let Some((last, earlier)) = left.split_last() {
                let (footer, upto) = (self.archive.footer(&last.name)?, upto.min(last.to));
                let within = footer.checkpoints.iter().rev().filter(|found| found.end <= upto);
                if let Some(found) = within.copied().find(&wanted) {
                    return Ok(Some(found));
                }
                let Some(end) = footer.checkpoint_before else { break };
                left = &earlier[..earlier.partition_point(|piece| piece.from() < end)];
            }
        }
        Ok(None)
    }

    /// The watermark at the end of these pieces: no later commit has an earlier time.
    ///
    /// # Errors
    /// Errors of reading footers.
    pub fn watermark(&self) -> Result<Option<Timestamp>> {
        let Some(last) = self.pieces.last() else { return Ok(None) };
        let footer = self.archive.footer(&last.name)?;
        if last.to == footer.to {
            return Ok(Some(footer.watermark));
        }
        // The path leaves the timeline here. Later times of that timeline do not belong to this
        // history.
        Ok(footer.last_commit(last.to).map(|commit| commit.time))
    }
}
