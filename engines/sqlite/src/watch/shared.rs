//! State that the threads of a watch share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pitr_archive::{Archive, Compactor, ShipOptions, Shipper, Writer};
use pitr_engine::{CaptureOptions, EngineContext, Events, LiveSource};
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_vfs::{Clock, FileSystem};
use pitr_wal::{BatchBuilder, Wal};

use super::alive::{Alive, Mark};
use super::control::Requester;
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::keeper::Quiet;

/// Growth of the log, bytes, after which the sample of pages is saved again.
const SAMPLE_EVERY_BYTES: u64 = 4 << 20;
/// Interval between shipped watermarks while nothing is committed.
const WATERMARK_EVERY: Duration = Duration::from_secs(60);

/// How the log of a watched database is shipped.
pub(super) fn ship_options() -> ShipOptions {
    ShipOptions { check_every: ShipOptions::CHECK_EVERY, ..ShipOptions::default() }
}

/// The local log of one timeline, with its shipper.
pub(super) struct Log {
    pub(super) timeline: TimelineId,
    pub(super) wal: Wal,
    pub(super) shipper: Mutex<Shipping>,
    pub(super) compactor: Arc<Compactor>,
}

/// The shipping side of a log.
pub(super) struct Shipping {
    shipper: Shipper,
    /// Monotonic time at which something was shipped last.
    shipped: Duration,
}

/// State of one watched database, visible to all threads. A fork creates a new value.
pub(super) struct Shared {
    pub(super) context: EngineContext,
    pub(super) watched: LiveSource,
    pub(super) options: CaptureOptions,
    pub(super) events: Events,
    pub(super) archive: Archive,
    pub(super) writer: Writer,
    pub(super) log: Log,
    pub(super) alive: Alive,
    /// Everything committed before this time is in the log, microseconds.
    complete_until: AtomicI64,
    /// Capture needs the local log from here on.
    keep_from: AtomicU64,
    /// The saved sample of pages covers the log up to here. The log after it must stay until the
    /// sample is saved again.
    sampled: AtomicU64,
    /// End of the log after its last record other than a watermark.
    news_end: AtomicU64,
    /// While the application's write lock is held, the other threads pause.
    pub(super) quiet: Quiet,
    pub(super) snapshots: SnapshotState,
    pub(super) shipping: ShippingState,
    /// An error that makes this watch start again.
    failed: Mutex<Option<Error>>,
}

/// State of the snapshots.
#[derive(Debug, Default)]
pub(super) struct SnapshotState {
    /// Number of waiting and running jobs.
    pub(super) jobs: AtomicUsize,
    /// The capturing thread has released this watch.
    pub(super) ending: AtomicBool,
    /// A base is being read: no hand-over.
    pub(super) base_pending: AtomicBool,
    /// Monotonic time from which the archive needs a base, milliseconds; 0 if it needs none.
    pub(super) base_due_ms: AtomicU64,
    /// A snapshot was taken: compare the whole sample of pages.
    pub(super) compare: AtomicBool,
    /// Text of the last failure, to report each only once.
    pub(super) failure: Mutex<Option<String>>,
}

/// State of the shipping of a log.
#[derive(Debug, Default)]
pub(super) struct ShippingState {
    /// Monotonic time of the next shipment, milliseconds.
    pub(super) due_ms: AtomicU64,
    /// The pause after the last failure, milliseconds; 0 after a success.
    pub(super) pause_ms: AtomicU64,
    /// Duration of the last shipment, milliseconds.
    pub(super) took_ms: AtomicU64,
    /// Processes that wait until everything captured before is archived.
    waiting: Mutex<Vec<Requester>>,
    /// Stored end of the log, and monotonic time of the last shipment, milliseconds.
    stored: AtomicU64,
    shipped_ms: AtomicU64,
    /// Monotonic time at which what is stored must be checked, milliseconds; 0 if nothing is.
    check_due_ms: AtomicU64,
}

/// Milliseconds, for an atomic.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Log {
    pub(super) fn new(timeline: TimelineId, wal: Wal, shipper: Shipper) -> Self {
        let compactor = Arc::clone(shipper.compactor());
        let shipper = Mutex::new(Shipping { shipper, shipped: Duration::ZERO });
        Log { timeline, wal, shipper, compactor }
    }
}

impl Shared {
    pub(super) fn new(
        context: EngineContext,
        watched: LiveSource,
        options: CaptureOptions,
        events: Events,
        archive: Archive,
        writer: Writer,
        log: Log,
    ) -> Result<Self> {
        let alive = Alive::open(context.env().fs.as_ref(), &watched.state)?;
        Ok(Shared {
            context,
            watched,
            options,
            events,
            archive,
            writer,
            log,
            alive,
            complete_until: AtomicI64::new(i64::MIN),
            keep_from: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            news_end: AtomicU64::new(0),
            quiet: Quiet::default(),
            snapshots: SnapshotState::default(),
            shipping: ShippingState::default(),
            failed: Mutex::new(None),
        })
    }

    pub(super) fn fs(&self) -> &dyn FileSystem {
        self.context.env().fs.as_ref()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.context.env().clock
    }

    /// The same watch with the log of a new timeline.
    pub(super) fn with_log(&self, log: Log) -> Result<Self> {
        Shared::new(
            self.context.clone(),
            self.watched.clone(),
            self.options,
            Arc::clone(&self.events),
            self.archive.clone(),
            self.writer.clone(),
            log,
        )
    }

    /// Makes this watch start again.
    pub(super) fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The error for which this watch must start again, if any.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Fails unless the repository is still there. An unmounted volume leaves an empty folder, and
    /// nothing may be written to it (FAILURES 57).
    ///
    /// A bucket is never replaced by an empty one.
    pub(super) fn check_repository(&self) -> Result<()> {
        if self.context.objects.folder().is_none() {
            return Ok(());
        }
        let place = || self.context.objects.place().to_owned();
        let found = match self.context.objects.open_repository() {
            Err(pitr_objects::Error::NotARepository { .. }) => {
                return Err(Error::RepositoryGone { place: place() });
            }
            other => other?,
        };
        if found.id == self.context.repository {
            return Ok(());
        }
        Err(Error::OtherRepository { place: place() })
    }

    /// Publishes the progress of the capture to the other threads.
    pub(super) fn note_progress(&self, capture: &Capture) {
        self.news_end.fetch_max(capture.news_end().get(), Ordering::Relaxed);
        self.keep_from.store(capture.keep_from().get(), Ordering::Relaxed);
        if capture.news_end().get() >= self.sampled.load(Ordering::Relaxed) + SAMPLE_EVERY_BYTES {
            self.save_sample(capture);
        }
        if self.log.wal.durable() >= capture.news_end() {
            let (timeline, end, until) = (self.log.timeline, capture.news_end(), capture.complete_until());
            self.alive.note(&Mark { timeline, end, until });
        }
        // Stored last: the log then already holds everything complete at that time.
        self.complete_until.store(capture.complete_until().micros(), Ordering::Release);
    }

    /// Saves the sample of pages. After a failure, the next watch can't compare the pages. A
    /// failure must not keep the local log from being removed.
    pub(super) fn save_sample(&self, capture: &Capture) {
        let sample = capture.sample();
        let sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        let (dir, timeline, end) = (&self.watched.state, self.log.timeline, capture.news_end());
        let _ = sample.save(self.fs(), dir, timeline, end);
        self.sampled.store(end.get(), Ordering::Relaxed);
    }

    /// True if captured transactions are not durable yet.
    pub(super) fn has_news(&self) -> bool {
        self.log.wal.durable() < Lsn::new(self.news_end.load(Ordering::Relaxed))
    }

    /// Has the log shipped as soon as possible, for a process that waits for it. Everything to
    /// archive is in the log.
    pub(super) fn ship_for(&self, requester: Requester) {
        self.shipping.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(requester);
    }

    /// The processes that wait for the next shipment.
    pub(super) fn take_waiting(&self) -> Vec<Requester> {
        std::mem::take(&mut *self.shipping.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True if a process waits for the next shipment.
    pub(super) fn is_awaited(&self) -> bool {
        !self.shipping.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// True if there is something to ship or to check, or the last shipment was long ago.
    pub(super) fn wants_shipping(&self, now_ms: u64) -> bool {
        let news = self.news_end.load(Ordering::Relaxed) > self.shipping.stored.load(Ordering::Relaxed);
        let has_passed =
            |since: &AtomicU64, time| now_ms.saturating_sub(since.load(Ordering::Relaxed)) >= millis(time);
        let check_due = self.shipping.check_due_ms.load(Ordering::Relaxed);
        news || (1..=now_ms).contains(&check_due) || has_passed(&self.shipping.shipped_ms, WATERMARK_EVERY)
    }

    /// Makes captured transactions durable.
    pub(super) fn make_durable(&self) -> Result<()> {
        self.quiet.wait(self.clock().as_ref());
        if self.has_news() {
            self.log.wal.sync()?;
        }
        Ok(())
    }

    /// Ships the log if there is news, if nothing was shipped for long, or if `now` is set: then
    /// all of it is archived. Before that it appends a watermark. Returns the archived end of the
    /// log.
    pub(super) fn ship(&self, now: bool) -> Result<Lsn> {
        let mut shipping = self.log.shipper.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks = self.clock().monotonic();
        let news_end = Lsn::new(self.news_end.load(Ordering::Relaxed));
        let news = shipping.shipper.stored().is_none_or(|at| at < news_end);
        if news || now || ticks.saturating_sub(shipping.shipped) >= WATERMARK_EVERY {
            self.append_watermark()?;
            self.log.wal.sync()?;
            self.check_repository()?;
            let durable = self.log.wal.durable();
            while shipping.shipper.ship_some(&self.log.wal, durable)?.is_some() {
                self.quiet.wait(self.clock().as_ref());
            }
            shipping.shipped = ticks;
            self.shipping.shipped_ms.store(millis(ticks), Ordering::Relaxed);
        }
        if now || shipping.shipper.is_check_due() {
            shipping.shipper.acknowledge()?;
        }
        let (stored, archived) = (shipping.shipper.stored(), shipping.shipper.archived());
        self.shipping.stored.store(stored.unwrap_or(Lsn::ORIGIN).get(), Ordering::Relaxed);
        let check_due = shipping.shipper.check_due().map_or(0, |due| millis(due).max(1));
        self.shipping.check_due_ms.store(check_due, Ordering::Relaxed);
        let archived = archived.unwrap_or(Lsn::ORIGIN);
        let needed = self.keep_from.load(Ordering::Relaxed).min(self.sampled.load(Ordering::Relaxed));
        let keep = archived.min(Lsn::new(needed));
        self.log.wal.remove_below(keep)?;
        Ok(archived)
    }

    /// Appends a watermark. The time is read before the append: everything complete at that time
    /// precedes the record.
    fn append_watermark(&self) -> Result<()> {
        let until = self.complete_until.load(Ordering::Acquire);
        if until == i64::MIN {
            return Ok(());
        }
        let mut batch = BatchBuilder::new();
        batch.push(PartitionId::FIRST, TxId::NONE, &Record::Watermark(Timestamp::from_micros(until)))?;
        self.log.wal.append(batch)?;
        Ok(())
    }
}
