//! The handle of an open log.

use crate::append::{Appended, BatchBuilder, Committed, Helper, Round, Ticket};
use crate::checkpoints::Checkpoint;
use crate::options::{Start, WalOptions};
use crate::read::{LogReader, LogScan};
use crate::recover::{Recovered, open};
use crate::segments::{Event, Slot, SlotState, slots};
use crate::shared::{Shared, lock};
use crate::stats::Stats;
use crate::{Error, Result};
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_vfs::Env;
use std::borrow::BorrowMut;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An open log. Clones are handles to the same log. Dropping the last handle, reader and ticket
/// unlocks it. With [`WalOptions::background`] dropping the last handle syncs the appended records,
/// unless the disk fails; without it, unsynced records are lost.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    /// Set with [`WalOptions::background`].
    helper: Option<Arc<Helper>>,
}

impl Wal {
    /// Creates a log in `dir`, and the folder if needed. Durable on return. [`Error::Exists`] if
    /// the folder holds a log.
    pub fn create(env: &Env, dir: &Path, start: &Start, options: &WalOptions) -> Result<Wal> {
        Self::start(open::create(env, dir, start, options)?)
    }

    /// Opens the log in `dir`, after a crash or a clean end. Cuts a torn tail, refuses a hole
    /// ([`Error::Hole`]). Everything below `archived_to` is known to have been durable
    /// ([`Lsn::ORIGIN`] if nothing is): a log that ends before it is refused too.
    pub fn open(env: &Env, dir: &Path, archived_to: Lsn, options: &WalOptions) -> Result<(Wal, Recovered)> {
        let (shared, recovered) = open::open(env, dir, archived_to, options)?;
        Ok((Self::start(shared)?, recovered))
    }

    /// Opens the log in `dir`, or creates it if the folder holds none, on this machine and with
    /// the default settings.
    ///
    /// A folder that was lost, or whose disk is not mounted, gives an empty log here. A program
    /// that knows that its log exists calls [`Wal::open`], which refuses a missing one, reports a
    /// cut tail, and takes the position that an archive already holds.
    ///
    /// # Errors
    /// Those of [`Wal::open`] and [`Wal::create`], without [`Error::NoLog`].
    pub fn open_or_create(dir: impl AsRef<Path>) -> Result<Wal> {
        let (env, dir, options) = (Env::system(), dir.as_ref(), WalOptions::default());
        match Self::open(&env, dir, Lsn::ORIGIN, &options) {
            Err(Error::NoLog { .. }) => {
                let log_id = env.random_bytes().map_err(Error::io("draw an identity for", dir))?;
                Self::create(&env, dir, &Start::first(log_id), &options)
            }
            opened => opened.map(|(wal, _)| wal),
        }
    }

    fn start(shared: Shared) -> Result<Wal> {
        let shared = Arc::new(shared);
        let helper = shared.options.background.then(|| Helper::start(&shared)).transpose()?;
        Ok(Wal { shared, helper: helper.map(Arc::new) })
    }

    /// Appends records. They are not durable yet, and no reader sees them; a later commit or sync
    /// makes them durable. Waits for the disk if too many bytes are waiting. The builder, passed by
    /// value or by reference, is empty afterwards, and unchanged after an error.
    pub fn append(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Appended> {
        Ok(self.place(batch.borrow_mut())?.0)
    }

    /// Like [`Wal::append`], with a ticket to wait for durability.
    pub fn submit(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Ticket> {
        let (appended, round) = self.place(batch.borrow_mut())?;
        Ok(Ticket::new(&self.shared, round, appended))
    }

    fn place(&self, batch: &mut BatchBuilder) -> Result<(Appended, Round)> {
        let mut queue = self.shared.queue_with_room()?;
        let placed = queue.place(batch, || self.shared.env.clock.now())?;
        queue.placed();
        drop(queue);
        if let Some(helper) = &self.helper {
            helper.appended();
        }
        Ok(placed)
    }

    /// Appends records and returns when they and everything appended before are durable, unless the
    /// [sync policy](WalOptions::sync) says otherwise.
    pub fn commit(&self, mut batch: impl BorrowMut<BatchBuilder>) -> Result<Appended> {
        if !self.shared.options.sync.is_durable() {
            return self.append(batch);
        }
        let mut queue = self.shared.queue_with_room()?;
        let (appended, round) = queue.place(batch.borrow_mut(), || self.shared.env.clock.now())?;
        self.shared.wait(queue, round)?;
        Ok(appended)
    }

    /// Commits a transaction that consists of these bytes: one [`Record::Data`] in the first
    /// partition, then its commit. Returns as [`Wal::commit`] does.
    ///
    /// # Errors
    /// [`Error::Record`] for more than 64 MiB; errors of [`Wal::commit`].
    pub fn commit_data(&self, tx: TxId, data: &[u8]) -> Result<Committed> {
        let mut batch = BatchBuilder::new();
        batch.push(PartitionId::FIRST, tx, &Record::Data(data))?;
        batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
        Ok(self.commit(batch)?.commits[0]) // the one commit of the builder
    }

    /// Returns when everything appended so far is written to the operating system: it survives a
    /// crash of this process, but not of the machine.
    pub fn flush(&self) -> Result<()> {
        self.shared.write_out()
    }

    /// Returns the durable point, when everything appended so far is durable.
    pub fn sync(&self) -> Result<Lsn> {
        let queue = self.shared.queue();
        let round = queue.newest();
        self.shared.wait(queue, round)?;
        Ok(self.durable())
    }

    /// Leaves a gap: ends the segment and skips the next segment number. The skipped positions
    /// stand for changes of the source that were not seen. Durable on return. Returns where the log
    /// continues.
    pub fn skip(&self) -> Result<Lsn> {
        let mut queue = self.shared.queue_with_room()?;
        let (lsn, round) = queue.skip()?;
        self.shared.wait(queue, round)?;
        Ok(lsn)
    }

    /// The durable LSN: everything below this position is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared.queue().durable()
    }

    /// Returns the durable point once it is above `lsn`, or after `timeout`. For threads that
    /// follow the log with a [`reader`](Wal::reader) or ship it. Causes no sync.
    /// [`Error::Poisoned`] if the log has failed.
    pub fn wait_past(&self, lsn: Lsn, timeout: Duration) -> Result<Lsn> {
        let Env { clock, spawn, .. } = &self.shared.env;
        let mut timeout = timeout;
        if spawn.is_inline() && self.durable() <= lsn {
            // No other thread can move the durable point.
            clock.sleep(std::mem::take(&mut timeout));
        }
        self.shared.rounds.wait_past(lsn, timeout, clock.as_ref())
    }

    /// End of the appended records.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.shared.queue().end()
    }

    /// The latest commit or watermark time in the log.
    #[must_use]
    pub fn last_time(&self) -> Timestamp {
        self.shared.queue().time()
    }

    /// Timeline that the log belongs to.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.shared.queue().identity().0
    }

    /// Identity of the log ([`Start::log_id`]).
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.shared.queue().identity().1
    }

    /// Position of the oldest batch of the local log, whether or not it is written.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.shared.first()
    }

    /// States the engine's redo point: the engine no longer needs anything below `lsn`. Removes the
    /// segments that lie wholly below it and below every [`Slot`], oldest first, but never the
    /// newest, none that isn't durable, and none that a kept [checkpoint](Wal::checkpoint) needs.
    /// Keeps some of the files for new segments. Returns the
    /// size of the removed segments, bytes.
    pub fn remove_below(&self, lsn: Lsn) -> Result<u64> {
        self.shared.remove_below(lsn)
    }

    /// Appends a checkpoint: the engine's whole state, from which a replay can start. Durable on
    /// return, under every sync policy. It belongs to no transaction.
    ///
    /// `state` holds the effects of every transaction that committed before `redo_from`, and may
    /// hold those of later ones that committed before this call: a replay from `redo_from` applies
    /// them again. So `redo_from` is at or before the first record of every transaction that is
    /// open, or that `state` may lack. An engine that locks out its writers while it copies its
    /// state passes [`Wal::redo_point`], if no transaction is open.
    ///
    /// A state of more than 64 MiB, less 16 bytes, belongs into files of the engine; the checkpoint
    /// then names them. Afterwards the engine may [remove](Wal::remove_below) the log below
    /// `redo_from`; the log keeps what its newest checkpoints need
    /// ([`WalOptions::checkpoints_kept`]).
    ///
    /// # Errors
    /// [`Error::RedoAhead`] if `redo_from` lies after the end of the log; [`Error::Removed`] if the
    /// log no longer holds it; [`Error::Record`] if the state is too large; errors of
    /// [`Wal::commit`].
    pub fn checkpoint(&self, redo_from: Lsn, state: &[u8]) -> Result<Checkpoint> {
        self.shared.checkpoint(redo_from, state)
    }

    /// A redo point for the present state: no later record starts before it. Differs from
    /// [`Wal::end`] while a batch is open, whose end is rounded up although the next record may
    /// follow directly.
    #[must_use]
    pub fn redo_point(&self) -> Lsn {
        self.shared.queue().placed_to()
    }

    /// True if the log has grown, or time has passed, by the
    /// [interval](WalOptions::checkpoint_interval) since the last checkpoint. False while one is
    /// being taken.
    #[must_use]
    pub fn is_checkpoint_due(&self) -> bool {
        self.shared.is_checkpoint_due()
    }

    /// The newest checkpoints, in order: as many as the log
    /// [keeps](WalOptions::checkpoints_kept), including those from before it was opened. All are
    /// durable.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.shared.checkpoints.kept()
    }

    /// The newest checkpoint that ends at or before `upto` and whose log from its redo point on is
    /// local: the base of a replay up to `upto`. `None` if there is none.
    ///
    /// # Errors
    /// Errors of reading the log.
    pub fn find_checkpoint(&self, upto: Lsn) -> Result<Option<Checkpoint>> {
        self.shared.find_checkpoint(upto)
    }

    /// The state that the engine passed to [`Wal::checkpoint`].
    ///
    /// # Errors
    /// [`Error::Removed`] if the log no longer holds it; errors of reading the log.
    pub fn read_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
        self.shared.read_checkpoint(checkpoint)
    }

    /// Claims the log from `from` on for an archiver, a replica or another reader, under this name.
    /// Durable on return: the slot outlives this process. If the log already has a slot of this
    /// name, from an earlier claim, it keeps its [position](Slot::position), and `from` is ignored.
    ///
    /// # Errors
    /// [`Error::Removed`] if the log no longer holds `from`; [`Error::Beyond`] if the log ends
    /// before `from`; [`Error::SlotTaken`] if this process holds the slot; [`Error::SlotDropped`]
    /// if the log dropped it at its cap; [`Error::SlotRefused`]; [`Error::Io`].
    pub fn slot(&self, name: &str, from: Lsn) -> Result<Slot> {
        self.check_reached(from)?;
        slots::claim(&self.shared, name, from)
    }

    /// All slots of the log, by name. Includes slots that were not claimed since the log was
    /// opened: they hold the log too.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        lock(&self.shared.segments).slots.states()
    }

    /// Removes a slot that is not claimed: its holder is gone for good, or will start from a new
    /// base. False if there is no slot of this name. Durable on return.
    ///
    /// # Errors
    /// [`Error::SlotTaken`] if this process holds it: use [`Slot::release`]; [`Error::Io`].
    pub fn drop_slot(&self, name: &str) -> Result<bool> {
        slots::give_up(&self.shared, name)
    }

    /// The events since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        lock(&self.shared.segments).slots.take_events()
    }

    /// Counters since the log was opened, and its current state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// A reader from `from`, which returns batches as they become durable. `from` is the start or
    /// the end of a batch, or the end of a segment; from a position within a batch the reader
    /// returns the whole batch. [`Error::Beyond`] if the log ends before `from`. The first call of
    /// the reader returns [`Error::Removed`] if `from` was removed.
    pub fn reader(&self, from: Lsn) -> Result<LogReader> {
        self.check_reached(from)?;
        Ok(LogReader::live(&self.shared, from))
    }

    /// A scan in place from `from` up to `until`: [`LogScan`]. [`Error::Beyond`] if `until` is not
    /// durable.
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
