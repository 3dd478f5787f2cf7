//! A writer's marks.

use crate::epoch::Epoch;
use crate::live::{LiveFile, Page};
use crate::phase::Phase;
use crate::{BlockSize, PAGE_BLOCKS};
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn};
use std::cell::Cell;
use std::sync::Arc;

/// A write on its way: from before its records get their place in the log until they are durable and their
/// blocks are marked. It may span any number of records and transactions.
///
/// A freeze waits for the passes that began before it: keep them short, and don't freeze with one in hand.
/// One that is dropped without [`Pass::done`], by a panic or because the log refused the records, leaves the
/// tracker blind: what it logged is not known, so from then on
/// [`Tracker::freeze`](crate::Tracker::freeze) says that everything changed, until a tracker is made anew from
/// the reopened log.
#[derive(Debug)]
#[must_use = "a pass covers what is appended while it is held"]
pub struct Pass {
    phase: Arc<Phase>,
    ended: bool,
}

impl Pass {
    pub(crate) fn new(phase: Arc<Phase>) -> Self {
        Pass { phase, ended: false }
    }

    /// Where to mark blocks of a file, which are of this size. Ask once for each file, not for each block.
    pub fn file(&self, file: FileId, size: BlockSize) -> FileMarks<'_> {
        let epoch = self.phase.epoch.file_of_size(file, size);
        let next = self.phase.next.as_deref().map(|next| next.file_of_size(file, size));
        FileMarks { epoch, next, recent: Cell::new(None) }
    }

    /// The file got this length, bytes: from there on nothing is as it was.
    pub fn set_length(&self, file: FileId, len: u64) {
        self.epochs().for_each(|epoch| epoch.set_length(file, len));
    }

    /// Everything changed, or may have.
    pub fn mark_everything(&self) {
        self.epochs().for_each(Epoch::mark_everything);
    }

    /// Marks what a record of the log changes. A gap changes everything: what was done in it was not seen.
    pub fn record(&self, record: &Record<'_>) {
        self.epochs().for_each(|epoch| epoch.record(record));
    }

    /// Ends the pass: what it logged ends at `end` and is durable, and all of it is marked. A pass that logged
    /// nothing ends with [`Lsn::ORIGIN`].
    pub fn done(mut self, end: Lsn) {
        self.phase.shared.done(end);
        self.ended = true;
    }

    fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        std::iter::once(&*self.phase.epoch).chain(self.phase.next.as_deref())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.ended {
            self.phase.shared.lose_sight();
        }
    }
}

/// Marks blocks of one file. Each thread asks the pass for its own.
#[derive(Debug)]
pub struct FileMarks<'p> {
    /// `None` if the epoch has no room for the file, so that everything counts as changed.
    epoch: Option<&'p LiveFile>,
    /// The same in the next epoch, if the pass marks that too.
    next: Option<Option<&'p LiveFile>>,
    /// The page of the last mark and its number, if one epoch is marked: often the next one is there too.
    recent: Cell<Option<(u64, &'p Page)>>,
}

impl FileMarks<'_> {
    /// The block changed. Takes no lock, unless its page of 8192 blocks has none marked yet.
    #[inline]
    pub fn mark(&self, block: u64) {
        match self.recent.get() {
            Some((number, page)) if number == block / PAGE_BLOCKS => page.set(block),
            _ => self.mark_elsewhere(block),
        }
    }

    #[inline]
    fn mark_elsewhere(&self, block: u64) {
        let page = self.epoch.and_then(|live| live.mark(block));
        match self.next {
            None => self.recent.set(page.map(|page| (block / PAGE_BLOCKS, page))),
            Some(None) => {}
            Some(Some(live)) => {
                live.mark(block);
            }
        }
    }
}

#[cfg(test)]
mod tests;
