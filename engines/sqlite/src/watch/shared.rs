//! What the threads of a watch share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pitr_archive::{Archive, Shipper, Writer};
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TimelineId, Timestamp, TxId};
use pitr_wal::{BatchBuilder, Wal};

use super::{Events, Subject, Surroundings, WatchOptions};
use crate::error::Result;

/// The log of one timeline on its way to the archive.
pub(super) struct Log {
    pub(super) timeline: TimelineId,
    pub(super) wal: Wal,
    pub(super) shipper: Mutex<Shipping>,
}

/// The shipping side of a log.
pub(super) struct Shipping {
    shipper: Shipper,
    /// When the last watermark was appended, by the monotonic clock.
    marked: Duration,
}

/// What all threads of an attachment see.
pub(super) struct Shared {
    pub(super) around: Surroundings,
    pub(super) subject: Subject,
    pub(super) options: WatchOptions,
    pub(super) events: Events,
    pub(super) archive: Archive,
    pub(super) writer: Writer,
    pub(super) log: Log,
    /// Everything committed before this time is in the log, microseconds.
    complete_until: AtomicI64,
    /// The capture needs the local log from here on.
    keep_from: AtomicU64,
    /// The local log's bytes below are archived.
    pub(super) end: AtomicBool,
}

impl Log {
    pub(super) fn new(timeline: TimelineId, wal: Wal, shipper: Shipper) -> Self {
        Log { timeline, wal, shipper: Mutex::new(Shipping { shipper, marked: Duration::ZERO }) }
    }
}

impl Shared {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        around: Surroundings,
        subject: Subject,
        options: WatchOptions,
        events: Events,
        archive: Archive,
        writer: Writer,
        log: Log,
    ) -> Self {
        Shared {
            around,
            subject,
            options,
            events,
            archive,
            writer,
            complete_until: AtomicI64::new(i64::MIN),
            keep_from: AtomicU64::new(0),
            end: AtomicBool::new(false),
            log,
        }
    }

    /// The capture has appended everything that was committed before `until`, and needs the log from `keep` on.
    pub(super) fn captured(&self, until: Timestamp, keep: Lsn) {
        self.keep_from.store(keep.get(), Ordering::Relaxed);
        self.complete_until.store(until.micros(), Ordering::Release);
    }

    /// Ships what is in the log, with a watermark behind it if there is news or `mark` asks for one. Returns the
    /// end of what is archived.
    pub(super) fn ship(&self, mark: bool) -> Result<Lsn> {
        let mut shipping = self.log.shipper.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.around.clock.monotonic();
        let archived = shipping.shipper.archived();
        let news = archived.is_none_or(|at| at < self.log.wal.end());
        let quiet_for = now.saturating_sub(shipping.marked);
        if news || mark || quiet_for >= self.options.watermark_every {
            self.append_watermark()?;
            shipping.marked = now;
            self.log.wal.sync()?;
            shipping.shipper.ship(&self.log.wal)?;
        }
        let archived = shipping.shipper.archived().unwrap_or(Lsn::ORIGIN);
        let keep = archived.min(Lsn::new(self.keep_from.load(Ordering::Relaxed)));
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
