//! What the threads of a watch share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pitr_archive::{Archive, Shipper, Writer};
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_wal::{BatchBuilder, Wal};

use super::alive::{Alive, Mark};
use super::{Events, WatchContext, WatchOptions, WatchSource};
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::keeper::Quiet;

/// The sample of pages is saved each time the log has grown by this much, bytes.
const SAMPLE_EVERY_BYTES: u64 = 4 << 20;

/// The log of one timeline on its way to the archive.
pub(super) struct Log {
    pub(super) timeline: TimelineId,
    pub(super) wal: Wal,
    pub(super) shipper: Mutex<Shipping>,
}

/// The shipping side of a log.
pub(super) struct Shipping {
    shipper: Shipper,
    /// When something was shipped last, by the monotonic clock.
    shipped: Duration,
}

/// What all threads see of one watched database. A fork begins another one.
pub(super) struct Shared {
    pub(super) context: WatchContext,
    pub(super) watched: WatchSource,
    pub(super) options: WatchOptions,
    pub(super) events: Events,
    pub(super) archive: Archive,
    pub(super) writer: Writer,
    pub(super) log: Log,
    pub(super) alive: Alive,
    /// Everything committed before this time is in the log, microseconds.
    complete_until: AtomicI64,
    /// The capture needs the local log from here on.
    keep_from: AtomicU64,
    /// The sample of pages in the watcher's folder covers the log up to here; what comes after must stay until it is
    /// saved again.
    sampled: AtomicU64,
    /// End of the log after the last record in it that is more than a watermark.
    news_end: AtomicU64,
    /// While the application's write lock is held, the other threads rest.
    pub(super) quiet: Quiet,
    pub(super) snapshots: SnapshotState,
    pub(super) shipping: ShippingState,
    /// An error after which this watch must begin again.
    failed: Mutex<Option<Error>>,
}

/// How far snapshots are.
#[derive(Debug, Default)]
pub(super) struct SnapshotState {
    /// Jobs that wait or run.
    pub(super) jobs: AtomicUsize,
    /// The capturing thread has let go of this watch.
    pub(super) ending: AtomicBool,
    /// A base is being read: no hand-over.
    pub(super) base_pending: AtomicBool,
    /// The archive needs a base from this time of the monotonic clock on, milliseconds; 0 if it needs none.
    pub(super) base_due_ms: AtomicU64,
    /// A snapshot was taken: the sample of pages is to be compared.
    pub(super) compare: AtomicBool,
    /// What the last failure said, to say each only once.
    pub(super) failure: Mutex<Option<String>>,
}

/// When a log is shipped next.
#[derive(Debug, Default)]
pub(super) struct ShippingState {
    /// By the monotonic clock, milliseconds.
    pub(super) due_ms: AtomicU64,
    /// The pause after the last failure, milliseconds; 0 if it works.
    pub(super) pause_ms: AtomicU64,
    /// End of the log that was archived last, and when.
    archived: AtomicU64,
    shipped_ms: AtomicU64,
}

impl Log {
    pub(super) fn new(timeline: TimelineId, wal: Wal, shipper: Shipper) -> Self {
        Log { timeline, wal, shipper: Mutex::new(Shipping { shipper, shipped: Duration::ZERO }) }
    }
}

impl Shared {
    pub(super) fn new(
        context: WatchContext,
        watched: WatchSource,
        options: WatchOptions,
        events: Events,
        archive: Archive,
        writer: Writer,
        log: Log,
    ) -> Result<Self> {
        let alive = Alive::open(context.fs.as_ref(), &watched.state)?;
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

    /// Asks for a new beginning of this watch.
    pub(super) fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Why this watch must begin again, if it must.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Errors unless the repository is still there. An unmounted volume leaves an empty folder, in which nothing may be
    /// written (FAILURES 57).
    pub(super) fn check_repository(&self) -> Result<()> {
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

    /// Tells the other threads how far the capture has come.
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
        // Last: what was complete by then is in the log.
        self.complete_until.store(capture.complete_until().micros(), Ordering::Release);
    }

    /// Saves the sample of pages. One that can't be saved costs a comparison after the next start, and must not keep the
    /// local log from being removed.
    pub(super) fn save_sample(&self, capture: &Capture) {
        let sample = capture.sample();
        let sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        let (dir, timeline, end) = (&self.watched.state, self.log.timeline, capture.news_end());
        let _ = sample.save(self.context.fs.as_ref(), dir, timeline, end);
        self.sampled.store(end.get(), Ordering::Relaxed);
    }

    /// True if something was captured that is not durable.
    pub(super) fn has_news(&self) -> bool {
        self.log.wal.durable() < Lsn::new(self.news_end.load(Ordering::Relaxed))
    }

    /// True if there is something to ship, or the last time was long ago.
    pub(super) fn wants_shipping(&self, now_ms: u64) -> bool {
        let news = self.news_end.load(Ordering::Relaxed) > self.shipping.archived.load(Ordering::Relaxed);
        let watermark_ms = u64::try_from(self.options.watermark_every.as_millis()).unwrap_or(u64::MAX);
        news || now_ms.saturating_sub(self.shipping.shipped_ms.load(Ordering::Relaxed)) >= watermark_ms
    }

    /// Makes durable what was captured.
    pub(super) fn make_durable(&self) -> Result<()> {
        self.quiet.wait();
        if self.has_news() {
            self.log.wal.sync()?;
        }
        Ok(())
    }

    /// Ships the log if there is news, after a long quiet, or if `now` asks for it; notes in it before until when it is
    /// complete. Returns the end of what is archived.
    pub(super) fn ship(&self, now: bool) -> Result<Lsn> {
        let mut shipping = self.log.shipper.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks = self.context.clock.monotonic();
        let news_end = Lsn::new(self.news_end.load(Ordering::Relaxed));
        let news = shipping.shipper.archived().is_none_or(|at| at < news_end);
        if news || now || ticks.saturating_sub(shipping.shipped) >= self.options.watermark_every {
            self.append_watermark()?;
            self.log.wal.sync()?;
            self.check_repository()?;
            let durable = self.log.wal.durable();
            while shipping.shipper.ship_one(&self.log.wal, durable)?.is_some() {
                self.quiet.wait();
            }
            shipping.shipped = ticks;
            self.shipping
                .shipped_ms
                .store(u64::try_from(ticks.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        let archived = shipping.shipper.archived().unwrap_or(Lsn::ORIGIN);
        self.shipping.archived.store(archived.get(), Ordering::Relaxed);
        let needed = self.keep_from.load(Ordering::Relaxed).min(self.sampled.load(Ordering::Relaxed));
        let keep = archived.min(Lsn::new(needed));
        self.log.wal.remove_below(keep)?;
        Ok(archived)
    }

    /// Read before it is appended: what was complete then stands below the record.
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
