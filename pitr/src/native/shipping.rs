//! The shipments of an attached log.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pitr_archive::{Archive, Compactor, ShipOptions, Shipped, Shipper};
use pitr_engine::{Event, Events};
use pitr_format::record::{GapReason, Record};
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_wal::{BatchBuilder, Slot, Wal};

use super::options::AttachOptions;
use super::state::{AttachState, ShipFailure};
use crate::watching::log_events;
use crate::{Error, Pitr, Result};

/// Interval between watermarks while nothing is committed.
const WATERMARK_EVERY: Duration = Duration::from_secs(60);

/// Pause after a failed merge.
const COMPACT_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) pitr: Pitr,
    pub(super) archive: Archive,
    pub(super) wal: Wal,
    pub(super) options: AttachOptions,
    pub(super) events: Events,
    shipping: Mutex<Shipping>,
    compactor: Arc<Compactor>,
    health: Mutex<Health>,
    control: Mutex<Control>,
    /// Something changed in `control`.
    controlled: Condvar,
    /// Something changed in `health`.
    shipped: Condvar,
}

/// What the shipping thread is told.
#[derive(Default)]
struct Control {
    stop: bool,
    /// A caller waits for the next shipment.
    is_awaited: bool,
}

/// One shipment at a time holds it.
struct Shipping {
    shipper: Shipper,
    /// `None` after it could not be claimed again.
    slot: Option<Slot>,
    /// Monotonic time of the last shipment that stored something.
    shipped: Duration,
}

#[derive(Default)]
struct Health {
    archived: Option<Lsn>,
    failure: Option<ShipFailure>,
    is_fenced: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A shipment that panicked has stored its object or not; the shipper finds out.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Claims the source and the slot.
    pub(super) fn begin(pitr: Pitr, archive: Archive, wal: &Wal, options: AttachOptions) -> Result<Self> {
        let events = options.events.clone().unwrap_or_else(|| log_events(archive.source()));
        // The slot comes first: from now on no checkpoint removes log.
        let slot = claim_slot(wal, &options.slot, wal.first(), &events)?;
        // A thread that rests for longer checks each shipment: the next one is far away.
        let rests_long = options.ship_every.is_some_and(|every| every >= ShipOptions::CHECK_EVERY);
        let ship = ShipOptions {
            codec: pitr.codec(),
            object_bytes: options.object_bytes,
            check_every: if rests_long { Duration::ZERO } else { ShipOptions::CHECK_EVERY },
            ..ShipOptions::default()
        };
        let shipper = Shipper::claim(&archive, wal, ship)?;
        let (shipped, compactor) = (pitr.clock().monotonic(), Arc::clone(shipper.compactor()));
        let health = Health { archived: shipper.archived(), ..Health::default() };
        Ok(Shared {
            pitr,
            archive,
            wal: wal.clone(),
            options,
            events,
            shipping: Mutex::new(Shipping { shipper, slot: Some(slot), shipped }),
            compactor,
            health: Mutex::new(health),
            control: Mutex::default(),
            controlled: Condvar::new(),
            shipped: Condvar::new(),
        })
    }

    /// Ships until it is stopped, or another writer takes over.
    pub(super) fn run(&self, every: Duration) {
        while let Some(is_awaited) = self.wait_or_asked(every) {
            let shipped = if is_awaited { self.ship(false) } else { self.store() };
            // The outcome is noted: events and state report it.
            if shipped.is_err() && lock(&self.health).is_fenced {
                return;
            }
        }
    }

    /// Merges small objects of the archive until it is stopped, or another writer takes over.
    pub(super) fn run_compaction(&self, every: Duration) {
        let mut pause = every;
        while !self.wait(pause) {
            pause = every;
            match self.compact() {
                Ok(_) => {}
                Err(pitr_archive::Error::Fenced { .. }) => return,
                // Shipping reports a repository that fails. Without merges nothing is lost.
                Err(error) => {
                    tracing::warn!("{}: small log objects were not merged: {error}", self.archive.source());
                    pause = COMPACT_AGAIN;
                }
            }
        }
    }

    /// Merges objects as long as there are enough small ones. Returns the number of merges.
    pub(super) fn compact(&self) -> pitr_archive::Result<u64> {
        let mut merges = 0;
        while self.compactor.is_due() && self.compactor.compact()?.is_some() {
            merges += 1;
        }
        Ok(merges)
    }

    /// Waits. True if it is stopped.
    fn wait(&self, every: Duration) -> bool {
        let waited = self.controlled.wait_timeout_while(lock(&self.control), every, |control| !control.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Like [`wait`](Self::wait), at most until a caller waits for the next shipment. `None` if it
    /// is stopped, otherwise true if a caller waits.
    fn wait_or_asked(&self, every: Duration) -> Option<bool> {
        let goes_on = |control: &mut Control| !control.stop && !control.is_awaited;
        let waited = self.controlled.wait_timeout_while(lock(&self.control), every, goes_on);
        let mut control = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_awaited = std::mem::take(&mut control.is_awaited);
        (!control.stop).then_some(is_awaited)
    }

    pub(super) fn stop(&self) {
        lock(&self.control).stop = true;
        self.controlled.notify_all();
    }

    /// Waits until the log up to this position, which is durable, is archived. The shipping thread
    /// stores what several callers wait for together.
    pub(super) fn wait_archived(&self, lsn: Lsn, patience: Duration) -> Result<()> {
        let has_thread = self.options.ship_every.is_some() && !self.pitr.objects().env().spawn.is_inline();
        if !has_thread {
            return self.ship_past(lsn);
        }
        let is_open =
            |health: &Health| !health.is_fenced && health.archived.is_none_or(|archived| archived < lsn);
        if is_open(&lock(&self.health)) {
            lock(&self.control).is_awaited = true;
            self.controlled.notify_all();
        }
        let waited = self.shipped.wait_timeout_while(lock(&self.health), patience, |health| is_open(health));
        let health = waited.unwrap_or_else(PoisonError::into_inner).0;
        if health.archived.is_some_and(|archived| archived >= lsn) {
            return Ok(());
        }
        let (archived, is_fenced) = (health.archived, health.is_fenced);
        let why = health.failure.as_ref().map(|failure| failure.error.clone());
        drop(health);
        if is_fenced {
            self.check_writer()?;
        }
        Err(Error::ArchivePatience { lsn, archived, seconds: patience.as_secs_f64(), why })
    }

    /// Archives the rest with a watermark, and fences the writer's own epoch.
    pub(super) fn drain(&self) -> Result<()> {
        self.ship(true)?;
        let shipping = lock(&self.shipping);
        Ok(shipping.shipper.writer().close()?)
    }

    /// Archives everything durable. Before that it logs a watermark, if `marked` is set or nothing
    /// was archived for long.
    pub(super) fn ship(&self, marked: bool) -> Result<Shipped> {
        self.ship_as(marked, true)
    }

    /// Stores everything durable. It counts as archived after a check that several calls share.
    pub(super) fn store(&self) -> Result<Shipped> {
        self.ship_as(false, false)
    }

    fn ship_as(&self, marked: bool, at_once: bool) -> Result<Shipped> {
        let mut shipping = lock(&self.shipping);
        let outcome = self.ship_durable(&mut shipping, marked, at_once);
        self.note(&shipping, outcome)
    }

    /// Archives the log up to this position, which is durable, also if it is the end of an empty
    /// log.
    pub(super) fn ship_past(&self, lsn: Lsn) -> Result<()> {
        let reached = || lock(&self.health).archived.is_some_and(|archived| archived >= lsn);
        self.ship(false)?;
        if !reached() {
            self.ship(true)?;
        }
        let archived = lock(&self.health).archived;
        if reached() { Ok(()) } else { Err(Error::NotArchived { consistent_at: lsn, archived }) }
    }

    fn ship_durable(&self, shipping: &mut Shipping, marked: bool, at_once: bool) -> Result<Shipped> {
        let now = self.pitr.clock().monotonic();
        let is_quiet = shipping.shipper.stored().is_some_and(|at| at >= self.wal.durable());
        let is_due = is_quiet && now.saturating_sub(shipping.shipped) >= WATERMARK_EVERY;
        // What is durable is shipped even if the log takes no more records.
        let logged = if marked || is_due { self.log_watermark() } else { Ok(()) };
        let shipped = match shipping.shipper.ship(&self.wal) {
            Err(pitr_archive::Error::Wal(pitr_wal::Error::Removed { .. })) if self.options.accept_gaps => {
                shipping.shipper.accept_loss();
                (self.events)(Event::Gap(GapReason::LogFull));
                shipping.shipper.ship(&self.wal)?
            }
            other => other?,
        };
        if shipped.objects > 0 {
            shipping.shipped = now;
        }
        if at_once {
            shipping.shipper.acknowledge()?;
        }
        if let Some(archived) = shipping.shipper.archived() {
            self.move_slot(shipping, archived)?;
        }
        logged.map(|()| shipped)
    }

    /// Logs the promise that no later commit has an earlier time than now.
    fn log_watermark(&self) -> Result<()> {
        let (now, mut batch) = (self.pitr.clock().now(), BatchBuilder::new());
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Watermark(now))?;
        self.wal.append(batch)?;
        self.wal.sync()?;
        Ok(())
    }

    /// Lets the log below `archived` go. A slot that the log dropped at its cap is claimed again.
    fn move_slot(&self, shipping: &mut Shipping, archived: Lsn) -> Result<()> {
        match shipping.slot.as_ref().map(|slot| slot.advance(archived)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(pitr_wal::Error::SlotDropped { .. })) | None => {}
            Some(Err(error)) => return Err(error.into()),
        }
        shipping.slot = None; // a claimed slot can't be dropped
        shipping.slot = Some(claim_slot(&self.wal, &self.options.slot, archived, &self.events)?);
        Ok(())
    }

    /// Keeps the outcome of a shipment for the state, and reports changes.
    fn note(&self, shipping: &Shipping, outcome: Result<Shipped>) -> Result<Shipped> {
        let mut health = lock(&self.health);
        health.archived = shipping.shipper.archived();
        let event = match &outcome {
            Ok(_) => health.failure.take().map(|_| Event::ShipRecovered),
            Err(error) => {
                health.is_fenced |= matches!(error, Error::Archive(pitr_archive::Error::Fenced { .. }));
                let text = error.to_string();
                let before = health.failure.take();
                let is_news = before.as_ref().is_none_or(|before| before.error != text);
                health.failure = Some(ShipFailure {
                    error: text.clone(),
                    since: before.as_ref().map_or_else(|| self.pitr.clock().now(), |before| before.since),
                    attempts: before.map_or(0, |before| before.attempts) + 1,
                });
                is_news.then_some(Event::ShipFailed(text))
            }
        };
        drop(health);
        self.shipped.notify_all();
        event.into_iter().for_each(|event| (self.events)(event));
        outcome
    }

    /// Fails if another writer took over.
    pub(super) fn check_writer(&self) -> Result<()> {
        Ok(lock(&self.shipping).shipper.writer().check()?)
    }

    pub(super) fn epoch(&self) -> pitr_format::Epoch {
        lock(&self.shipping).shipper.writer().epoch()
    }

    pub(super) fn archived(&self) -> Option<Lsn> {
        lock(&self.health).archived
    }

    pub(super) fn state(&self) -> AttachState {
        let Health { archived, failure, is_fenced } = &*lock(&self.health);
        let (durable, failure) = (self.wal.durable(), failure.clone());
        AttachState { archived: *archived, durable, failure, is_fenced: *is_fenced }
    }
}

/// Claims the slot, or a new one from `from` if the log dropped it. A loss of log shows in the next
/// shipment.
fn claim_slot(wal: &Wal, name: &str, from: Lsn, events: &Events) -> Result<Slot> {
    let from = from.max(wal.first());
    match wal.slot(name, from) {
        Err(pitr_wal::Error::SlotDropped { .. }) => {
            events(Event::Warning(format!("the log reached its maximum size and dropped the slot {name}")));
            wal.drop_slot(name)?;
            Ok(wal.slot(name, from.max(wal.first()))?)
        }
        claimed => Ok(claimed?),
    }
}
