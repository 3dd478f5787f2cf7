//! The handle of an open log.

use crate::append::{Appended, BatchBuilder, Helper, Round, Ticket};
use crate::options::{Start, WalOptions};
use crate::read::{LogReader, LogScan};
use crate::recover::{open, Recovered};
use crate::segments::{slots, Event, Slot, SlotState};
use crate::shared::{lock, Shared};
use crate::stats::Stats;
use crate::{Error, Result};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::{Clock, FileSystem};
use std::borrow::BorrowMut;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An open log. Clones are handles to the same log; it is unlocked when the last one, and the last reader and ticket
/// made from one, is dropped. With [`WalOptions::background`] what was appended and not synced is synced when the last
/// handle is dropped, as far as the disk lets it; without, it is lost.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    _helper: Option<Arc<Helper>>,
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
        Self::start(open::create(fs, clock, dir, start, options)?)
    }

    /// Opens the log in `dir`, after a crash or not: cuts a torn tail, refuses a hole ([`Error::Hole`]).
    /// Everything below `archived_to` is known to have been durable, [`Lsn::ORIGIN`] if nothing is; a log
    /// that ends before is refused too.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        archived_to: Lsn,
        options: &WalOptions,
    ) -> Result<(Wal, Recovered)> {
        let (shared, recovered) = open::open(fs, clock, dir, archived_to, options)?;
        Ok((Self::start(shared)?, recovered))
    }

    fn start(shared: Shared) -> Result<Wal> {
        let shared = Arc::new(shared);
        let helper = shared.options.background.then(|| Helper::start(&shared)).transpose()?;
        Ok(Wal { shared, _helper: helper.map(Arc::new) })
    }

    /// Gives records their place in the log. They are not durable yet, and no reader sees them; a later
    /// commit or sync makes them so. Waits for the disk if too much is waiting already. The builder, given whole or
    /// lent, is empty afterwards, and untouched after an error.
    pub fn append(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Appended> {
        Ok(self.place(batch.borrow_mut())?.0)
    }

    /// As [`Wal::append`], with a ticket by which durability can be waited for.
    pub fn submit(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Ticket> {
        let (appended, round) = self.place(batch.borrow_mut())?;
        Ok(Ticket::new(&self.shared, round, appended))
    }

    fn place(&self, batch: &mut BatchBuilder) -> Result<(Appended, Round)> {
        let mut queue = self.shared.queue_with_room()?;
        let placed = queue.place(batch, || self.shared.clock.now())?;
        queue.placed();
        Ok(placed)
    }

    /// Gives records their place in the log and returns when they, and everything appended before, are
    /// durable, unless the [sync policy](WalOptions::sync) says otherwise.
    pub fn commit(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Appended> {
        if !self.shared.options.sync.is_durable() {
            return self.append(batch);
        }
        let mut queue = self.shared.queue_with_room()?;
        let (appended, round) = queue.place(batch.borrow_mut(), || self.shared.clock.now())?;
        self.shared.wait(queue, round)?;
        Ok(appended)
    }

    /// Returns when everything appended so far is with the operating system: it survives the end of this process, not
    /// that of the machine.
    pub fn flush(&self) -> Result<()> {
        self.shared.write_out()
    }

    /// Returns when everything appended so far is durable, with the durable point.
    pub fn sync(&self) -> Result<Lsn> {
        let queue = self.shared.queue();
        let round = queue.newest();
        self.shared.wait(queue, round)?;
        Ok(self.durable())
    }

    /// Ends the segment and leaves the next number out: what the source did from here on was not seen, and
    /// the positions that are left out stand for it. Durable on return. Returns where the log goes on.
    pub fn skip(&self) -> Result<Lsn> {
        let mut queue = self.shared.queue_with_room()?;
        let (lsn, round) = queue.skip()?;
        self.shared.wait(queue, round)?;
        Ok(lsn)
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared.queue().durable()
    }

    /// Returns the durable point once it is past `lsn`, or as it is when `timeout` is over: for those who follow the log
    /// with a [`reader`](Wal::reader) or ship it. Makes nobody sync. [`Error::Poisoned`] if it can't come any more.
    pub fn wait_past(&self, lsn: Lsn, timeout: Duration) -> Result<Lsn> {
        self.shared.rounds.wait_past(lsn, timeout)
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

    /// States the engine's redo point: it needs nothing below `lsn` any more. Removes the segments that lie wholly below
    /// it and below every [`Slot`], oldest first; never the newest, and none that isn't durable. Files of some are kept
    /// for new ones. Returns the bytes of the segments removed.
    pub fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        self.shared.remove_below(lsn)
    }

    /// Claims the log from `from` on for an archiver, a replica or another reader, under a name of its own. Durable on
    /// return: the slot outlives this process. If the log has a slot of this name already, from an earlier claim, it
    /// is taken up at its own [position](Slot::position), and `from` is not used.
    ///
    /// # Errors
    /// [`Error::Removed`] if the log no longer holds `from`; [`Error::Beyond`] if it has not come that far;
    /// [`Error::SlotTaken`] if this process holds the slot; [`Error::SlotDropped`] if the log gave it up at its cap;
    /// [`Error::SlotRefused`]; [`Error::Io`].
    pub fn slot(&self, name: &str, from: Lsn) -> Result<Slot> {
        self.check_reached(from)?;
        slots::claim(&self.shared, name, from)
    }

    /// All slots of the log, by name, also those that nobody claimed since the log was opened: they hold the log too.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        lock(&self.shared.segments).slots.states()
    }

    /// Gives up a slot that nobody holds: its holder is gone for good, or begins anew. False if there is none of this
    /// name. Durable on return.
    ///
    /// # Errors
    /// [`Error::SlotTaken`] if this process holds it: use [`Slot::release`]; [`Error::Io`].
    pub fn drop_slot(&self, name: &str) -> Result<bool> {
        slots::give_up(&self.shared, name)
    }

    /// What happened since the last call that somebody must know.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        lock(&self.shared.segments).slots.take_events()
    }

    /// What the log did since it was opened, and how it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// A reader from `from`, which yields what is durable when it is asked, now or later. `from` is the place
    /// or the end of a batch, also the end of a segment; from a position within a batch the whole batch is
    /// read. [`Error::Beyond`] if the log has not come that far; the first call to the reader tells if it was
    /// removed.
    pub fn reader(&self, from: Lsn) -> Result<LogReader> {
        self.check_reached(from)?;
        Ok(LogReader::live(&self.shared, from))
    }

    /// A scan of the log from `from` up to `until`, in place: [`LogScan`]. [`Error::Beyond`] if `until` is not durable.
    pub fn scan(&self, from: Lsn, until: Lsn) -> Result<LogScan> {
        let end = self.durable();
        if until > end {
            return Err(Error::Beyond { lsn: until, end });
        }
        LogScan::live(&self.shared, from, until)
    }

    fn check_reached(&self, lsn: Lsn) -> Result<()> {
        let end = self.end();
        if lsn > end { Err(Error::Beyond { lsn, end }) } else { Ok(()) }
    }
}
