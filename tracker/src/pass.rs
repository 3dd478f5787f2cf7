//! A writer's marks.

use crate::BlockSize;
use crate::epoch::Epoch;
use crate::live::{LiveFile, Table, word_in};
use crate::page::set;
use crate::phase::Phase;
use crate::sync::Arc;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn};

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
    phase: Arc<Phase<Epoch>>,
    ended: bool,
}

impl Pass {
    pub(crate) fn new(phase: Arc<Phase<Epoch>>) -> Self {
        Pass { phase, ended: false }
    }

    /// Where to mark blocks of a file, which are of this size. Ask once for each file, not for each block.
    pub fn file(&self, file: FileId, size: BlockSize) -> FileMarks<'_> {
        let epoch = self.phase.epoch.file_of_size(file, size);
        let next = self.phase.next.as_deref().and_then(|next| next.file_of_size(file, size));
        let table = epoch.filter(|_| self.phase.next.is_none()).and_then(LiveFile::table);
        FileMarks { table, epoch, next }
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

/// Marks blocks of one file, from any number of threads.
#[derive(Debug, Clone, Copy)]
pub struct FileMarks<'p> {
    /// The table of the epoch's far pages, if it stood when the file was asked for and one epoch is marked: all that
    /// lies between a mark and its word then.
    table: Option<&'p Table>,
    /// `None` if the epoch has no room for the file, so that everything counts as changed.
    epoch: Option<&'p LiveFile>,
    /// The same in the next epoch; `None` too if the pass doesn't mark that.
    next: Option<&'p LiveFile>,
}

impl FileMarks<'_> {
    /// The block changed. Takes no lock, unless its page of the bitmap has no mark yet.
    #[inline]
    pub fn mark(&self, block: u64) {
        match self.table.and_then(|table| word_in(table, block)) {
            Some(word) => set(word, block),
            None => self.mark_each(block),
        }
    }

    fn mark_each(&self, block: u64) {
        self.epoch.into_iter().chain(self.next).for_each(|live| live.mark(block));
    }
}

#[cfg(test)]
mod tests;
