//! The handle of an open log.

use crate::builder::BatchBuilder;
use crate::commit::Shared;
use crate::layout::Appended;
use crate::open::{self, Recovered};
use crate::options::{Start, WalOptions};
use crate::reader::LogReader;
use crate::{Error, Result};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::{Clock, FileSystem};
use std::path::Path;
use std::sync::Arc;

/// An open log. Clones are handles to the same log; it is unlocked when the last one, and the last reader
/// made from one, is dropped. What was appended and not synced by then is lost.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
}

impl Wal {
    /// Makes a log in `dir`, which is created as needed. Durable on return. [`Error::Exists`] if there is
    /// one.
    pub fn create(
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        start: &Start,
        options: &WalOptions,
    ) -> Result<Wal> {
        Ok(Wal { shared: Arc::new(open::create(fs, clock, dir, start, options)?) })
    }

    /// Opens the log in `dir`, after a crash or not: cuts a torn tail, refuses a hole ([`Error::Hole`]).
    /// Everything below `archived_to` is known to have been durable, [`Lsn::ORIGIN`] if nothing is; a log
    /// that ends before is refused too.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        archived_to: Lsn,
    ) -> Result<(Wal, Recovered)> {
        let (shared, recovered) = open::open(fs, clock, dir, archived_to)?;
        Ok((Wal { shared: Arc::new(shared) }, recovered))
    }

    /// Gives records their place in the log. They are not durable yet, and no reader sees them; a later
    /// commit or sync makes them so. Waits for the disk if too much is waiting already.
    pub fn append(&self, builder: BatchBuilder) -> Result<Appended> {
        let mut queue = self.shared.queue_with_room()?;
        Ok(queue.place(builder, self.shared.clock.now())?.0)
    }

    /// Gives records their place in the log and returns when they, and everything appended before, are
    /// durable.
    pub fn commit(&self, builder: BatchBuilder) -> Result<Appended> {
        let mut queue = self.shared.queue_with_room()?;
        let (appended, round) = queue.place(builder, self.shared.clock.now())?;
        drop(self.shared.wait(queue, round)?);
        Ok(appended)
    }

    /// Returns when everything appended so far is durable, with the durable point.
    pub fn sync(&self) -> Result<Lsn> {
        let queue = self.shared.queue();
        let round = queue.newest();
        Ok(self.shared.wait(queue, round)?.durable())
    }

    /// Ends the segment and leaves the next number out: what the source did from here on was not seen, and
    /// the positions that are left out stand for it. Durable on return. Returns where the log goes on.
    pub fn skip(&self) -> Result<Lsn> {
        let mut queue = self.shared.queue_with_room()?;
        let (lsn, round) = queue.skip()?;
        drop(self.shared.wait(queue, round)?);
        Ok(lsn)
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared.queue().durable()
    }

    /// End of what was appended.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.shared.queue().end()
    }

    /// The latest commit or watermark time in the log.
    #[must_use]
    pub fn last_time(&self) -> Timestamp {
        self.shared.queue().time()
    }

    /// Where the oldest batch of the local log stands or would stand.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.shared.first()
    }

    /// Removes the segments that lie wholly below `lsn`, oldest first; never the newest, and none that isn't
    /// durable. Returns the bytes freed.
    pub fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        self.shared.remove_below(lsn)
    }

    /// A reader from `from`, which yields what is durable when it is asked, now or later. `from` is the place
    /// or the end of a batch, also the end of a segment; from a position within a batch the whole batch is
    /// read. [`Error::Beyond`] if the log has not come that far; the first call to the reader tells if it was
    /// removed.
    pub fn reader(&self, from: Lsn) -> Result<LogReader> {
        let end = self.end();
        if from > end {
            return Err(Error::Beyond { lsn: from, end });
        }
        Ok(LogReader::live(&self.shared, from))
    }
}
