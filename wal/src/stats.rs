//! Counters of a log.

use crate::shared::{Shared, lock};
use pitr_format::Lsn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters since the log was opened, and its current state. The values are read one after the
/// other: while other threads write, they need not be exactly consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of batches written.
    pub batches: u64,
    /// Bytes of batches written, headers and padding included.
    pub batch_bytes: u64,
    /// Number of syncs of segments.
    pub syncs: u64,
    /// Total time of syncs.
    pub sync_time: Duration,
    /// Time of the longest sync.
    pub sync_time_max: Duration,
    /// Number of segments begun.
    pub segments_begun: u64,
    /// Number of begun segments that reuse the file of an earlier segment.
    pub segments_recycled: u64,
    /// Number of slots dropped at the cap.
    pub slots_dropped: u64,
    /// Number of local segments.
    pub segments: usize,
    /// Appended bytes that no round has taken yet.
    pub waiting_bytes: usize,
    /// The durable LSN: everything below this position is durable.
    pub durable: Lsn,
    /// End of the appended records.
    pub end: Lsn,
    /// The lowest position that the engine or a slot needs.
    pub needed_from: Lsn,
}

/// Counters that only grow, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: Counter,
    pub(crate) batch_bytes: Counter,
    pub(crate) syncs: Counter,
    pub(crate) sync_nanos: Counter,
    pub(crate) sync_nanos_max: Counter,
    pub(crate) segments_begun: Counter,
    pub(crate) segments_recycled: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn synced(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.syncs.add(1);
        self.sync_nanos.add(nanos);
        self.sync_nanos_max.raise_to(nanos);
    }
}

impl Shared {
    /// See [`crate::Wal::stats`].
    pub(crate) fn stats(&self) -> Stats {
        let (durable, end, waiting_bytes) = {
            let queue = self.queue();
            (queue.durable(), queue.end(), queue.waiting_bytes())
        };
        let (segments, needed_from, slots_dropped) = {
            let segments = lock(&self.segments);
            (segments.len(), segments.slots.floor(), segments.slots.dropped())
        };
        let counters = &self.counters;
        Stats {
            batches: counters.batches.get(),
            batch_bytes: counters.batch_bytes.get(),
            syncs: counters.syncs.get(),
            sync_time: Duration::from_nanos(counters.sync_nanos.get()),
            sync_time_max: Duration::from_nanos(counters.sync_nanos_max.get()),
            segments_begun: counters.segments_begun.get(),
            segments_recycled: counters.segments_recycled.get(),
            slots_dropped,
            segments,
            waiting_bytes,
            durable,
            end,
            needed_from,
        }
    }
}
