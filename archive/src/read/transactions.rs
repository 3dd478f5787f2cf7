//! Iterates over the transactions of a history, with one footer in memory at a time.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::history::Piece;
use crate::stored::CommitEntry;
use pitr_format::{Lsn, TimelineId};

/// A commit and its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// The timeline.
    pub timeline: TimelineId,
    /// The commit.
    pub commit: CommitEntry,
}

/// Iterates over commits in LSN order; made by [`crate::Search::transactions`]. Ends after the
/// first error.
#[derive(Debug)]
pub struct Transactions<'a> {
    archive: &'a Archive,
    pieces: std::slice::Iter<'a, Piece>,
    after: Lsn,
    timeline: TimelineId,
    commits: std::vec::IntoIter<CommitEntry>,
}

impl<'a> Transactions<'a> {
    pub(crate) fn new(archive: &'a Archive, pieces: &'a [Piece], after: Lsn) -> Self {
        let (timeline, commits) = (TimelineId::FIRST, Vec::new().into_iter());
        Transactions { archive, pieces: pieces.iter(), after, timeline, commits }
    }

    fn refill(&mut self) -> Option<Result<(), Error>> {
        let piece = self.pieces.next()?;
        Some(self.archive.footer(&piece.name).map(|footer| {
            let mut commits = footer.commits;
            commits.retain(|commit| commit.lsn > self.after && commit.lsn <= piece.to);
            self.timeline = footer.timeline;
            self.commits = commits.into_iter();
        }))
    }
}

impl Iterator for Transactions<'_> {
    type Item = Result<Transaction>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(commit) = self.commits.next() {
                return Some(Ok(Transaction { timeline: self.timeline, commit }));
            }
            if let Err(error) = self.refill()? {
                self.pieces = [].iter();
                return Some(Err(error));
            }
        }
    }
}
