//! A writer's marks.

use crate::BlockSize;
use crate::epoch::Epoch;
use crate::live::{LiveFile, Table, word_in};
use crate::page::set;
use crate::phase::Phase;
use crate::sync::Arc;
use pitr_format::record::Record;
use pitr_format::{FileId, Lsn};

/// A write in progress. It lasts from before its records get their position in the log until they
/// are durable and their blocks are marked. It may span any number of records and transactions.
///
/// A freeze waits for the passes that began before it. Keep passes short, and do not freeze while
/// you hold one. If a pass is dropped without [`Pass::done`], by a panic or because the log refused
/// the records, it is unknown what it logged. From then on
/// [`Tracker::freeze`](crate::Tracker::freeze) reports everything as changed, until a new tracker
/// is created from the reopened log.
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

    /// Returns the handle that marks blocks of a file with this block size. Call it once per file,
    /// not once per block.
    pub fn file(&self, file: FileId, size: BlockSize) -> FileMarks<'_> {
        let epoch = self.phase.epoch.file_of_size(file, size);
        let next = self.phase.next.as_deref().and_then(|next| next.file_of_size(file, size));
        let table = epoch.filter(|_| self.phase.next.is_none()).and_then(LiveFile::table);
        FileMarks { table, epoch, next }
    }

    /// Marks everything from byte `len` on as changed: the file got this length.
    pub fn set_length(&self, file: FileId, len: u64) {
        self.epochs().for_each(|epoch| epoch.set_length(file, len));
    }

    /// Marks everything as changed.
    pub fn mark_everything(&self) {
        self.epochs().for_each(Epoch::mark_everything);
    }

    /// Marks the changes that a record of the log makes. A gap changes everything, because the
    /// changes in it were not captured.
    pub fn record(&self, record: &Record<'_>) {
        self.epochs().for_each(|epoch| epoch.record(record));
    }

    /// Ends the pass. Its records end at `end`, are durable, and are all marked. A pass that logged
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
            self.phase.shared.set_blind();
        }
    }
}

/// Marks blocks of one file, from any number of threads.
#[derive(Debug, Clone, Copy)]
pub struct FileMarks<'p> {
    /// The table of the epoch's far pages, if it existed when the file was looked up and only one
    /// epoch is marked. It gives a mark direct access to its word.
    table: Option<&'p Table>,
    /// `None` if the epoch has no memory left for the file; then everything counts as changed.
    epoch: Option<&'p LiveFile>,
    /// The same for the next epoch. Also `None` if the pass does not mark that epoch.
    next: Option<&'p LiveFile>,
}

impl FileMarks<'_> {
    /// Marks a block as changed. Takes no lock, unless its page of the bitmap has no mark yet.
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
