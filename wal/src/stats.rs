//! What a log counts.

use crate::shared::{lock, Shared};
use pitr_format::Lsn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a log did since it was opened, and how it stands. The counts are taken one after the other: while others
/// write they need not fit together to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Batches written.
    pub batches: u64,
    /// Bytes of batches written, headers and padding included.
    pub batch_bytes: u64,
    /// Syncs of segments that were written to.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_time: Duration,
    /// The longest of them.
    pub sync_time_max: Duration,
    /// Segments begun.
    pub segments_begun: u64,
    /// Of these, those in a file that had been a segment before.
    pub segments_recycled: u64,
    /// Slots dropped at the cap.
    pub slots_dropped: u64,
    /// Segments held.
    pub segments: usize,
    /// Bytes appended that no round took yet.
    pub waiting_bytes: usize,
    /// Everything below is durable.
    pub durable: Lsn,
    /// End of what was appended.
    pub end: Lsn,
    /// The lowest position that the engine, or a slot, needs.
    pub needed_from: Lsn,
}

/// Counts that only grow, from whatever thread.
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
