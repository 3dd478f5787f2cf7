//! The expected contents of a log: the list of its transactions.
//!
//! A crash keeps a prefix of the list, at least the acknowledged part. A removal takes from its
//! front. Nothing else changes it. Positions come from the log itself, since it alone decides the
//! layout of records.

use crate::workload::History;
use pitr_format::{Lsn, Timestamp};
use pitr_wal::Recovered;
use std::collections::BTreeMap;

/// A transaction with its position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) tx: u64,
    /// Position of the first record.
    pub(crate) first: Lsn,
    /// End of its commit.
    pub(crate) end: Lsn,
    pub(crate) time: Timestamp,
}

/// The results and requests of the log's user, in order.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The log was opened.
    Opened,
    /// Everything below this position is durable.
    Acked(Lsn),
    /// From now on, segments below this position may be removed.
    Removing(Lsn),
    /// The log continued here, after a gap.
    Skipped(Lsn),
    /// A reader returned a batch.
    HandedOut(Lsn, Vec<u8>),
}

/// The expected contents of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// In the order of their commits. Those above `acked` may be lost in a crash.
    pub(crate) placed: Vec<Placed>,
    pub(crate) acked: Lsn,
    removable: Lsn,
    /// Where the log continued after an acknowledged gap.
    gaps: Vec<Lsn>,
    /// End of the log when a gap was requested.
    pub(crate) skips: Vec<Lsn>,
    handed_out: BTreeMap<Lsn, Vec<u8>>,
}

impl Model {
    pub(crate) fn place(&mut self, placed: Placed) {
        let after = self.placed.partition_point(|other| other.end < placed.end);
        self.placed.insert(after, placed);
    }

    /// The latest stamped time.
    pub(crate) fn time(&self) -> Timestamp {
        self.placed.last().map_or(Timestamp::MIN, |placed| placed.time)
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Opened => {}
            Event::Acked(lsn) => self.acked = self.acked.max(*lsn),
            Event::Removing(lsn) => self.removable = self.removable.max(*lsn),
            Event::Skipped(on) => self.gaps.push(*on),
            Event::HandedOut(lsn, bytes) => drop(self.handed_out.insert(*lsn, bytes.clone())),
        }
    }

    /// Compares the durable part of an open log with the acknowledged transactions.
    pub(crate) fn compare(&self, found: &History, first: Lsn, durable: Lsn) {
        let held = self.placed.iter().filter(|placed| placed.first >= first && placed.end <= durable);
        let expected: Vec<(Lsn, u64)> = held.map(|placed| (placed.end, placed.tx)).collect();
        assert_eq!(in_order(found), expected, "the log shows something else than what is durable");
        self.check_rest(found, first);
    }

    /// Compares a reopened log with the transactions that it must and may contain, and continues
    /// from its contents.
    pub(crate) fn settle(&mut self, recovered: &Recovered, found: &History) {
        let (first, end) = (recovered.first, recovered.end);
        assert!(end >= self.acked, "ends at {end}, was acknowledged to {}", self.acked);
        for gone in self.placed.iter().filter(|placed| placed.first < first) {
            assert!(gone.first < self.removable, "{gone:?} was removed and nobody asked for it");
        }
        self.placed.retain(|placed| placed.first >= first);
        let visible = in_order(found);
        let kept: Vec<(Lsn, u64)> =
            self.placed.iter().take(visible.len()).map(|placed| (placed.end, placed.tx)).collect();
        assert_eq!(visible, kept, "not a beginning of what was logged");
        if let Some(lost) = self.placed.get(kept.len()) {
            assert!(lost.end > self.acked, "{lost:?} was acknowledged (to {}) and is lost", self.acked);
        }
        self.placed.truncate(kept.len());
        assert!(recovered.time >= self.time(), "the log forgot how late it was");
        self.check_rest(found, first);
        self.acked = end;
        self.skips.retain(|skip| *skip <= end);
    }

    /// Checks gaps, and batches that readers had returned (FAILURES 42).
    fn check_rest(&self, found: &History, first: Lsn) {
        for (lsn, bytes) in self.handed_out.range(first..) {
            assert!(found.batches.get(lsn) == Some(bytes), "the batch at {lsn} was handed out too early");
        }
        // A reader from the end of a gap starts after it.
        for on in self.gaps.iter().filter(|on| **on > first) {
            let behind = found.batches.range(on..).next();
            assert!(behind.is_none_or(|(lsn, _)| found.behind_gaps.contains(lsn)), "the gap at {on} is gone");
        }
        for behind in &found.behind_gaps {
            let before = found.batches.range(..behind).next_back().map_or(Lsn::ORIGIN, |(lsn, _)| *lsn);
            let asked_for = self.skips.iter().any(|skip| before <= *skip && skip <= behind);
            assert!(asked_for, "a gap before {behind} that nobody asked for");
        }
    }
}

/// The visible transactions in the order of their commits.
fn in_order(found: &History) -> Vec<(Lsn, u64)> {
    let mut visible: Vec<(Lsn, u64)> = found.visible.iter().map(|(tx, end)| (*end, *tx)).collect();
    visible.sort_unstable();
    visible
}
