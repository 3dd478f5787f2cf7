//! Passes the records of committed transactions to one worker for each partition.
//!
//! Works on one wave of segments at a time. Each segment is read, verified and sorted by partition
//! on its own. Then each partition takes its records of the whole wave in the order of the log. So
//! the sequence of a partition does not depend on the number of threads (law 6). Memory is bounded
//! by a wave: [`AHEAD`] mapped segments for each thread, 48 bytes for each record in them that
//! counts, and the payloads of fragmented records.

use super::committed::changes;
use crate::read::{LogScan, SealedSegment, Seam, Seams};
use crate::{Error, Result};
use pitr_format::log::{RECORD_HEADER_BYTES, WholeRecord};
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_redo::{CommitSpan, Winners};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Segments in a wave for each thread.
const AHEAD: usize = 2;

/// A record that counts.
#[derive(Debug)]
struct Entry {
    lsn: Lsn,
    end: Lsn,
    tx: TxId,
    /// The record's payload, if the record is fragmented; otherwise the payload follows its header
    /// in the segment.
    assembled: Option<Box<[u8]>>,
    kind: u8,
}

/// A segment and its records, by partition.
struct Sorted {
    segment: SealedSegment,
    partitions: BTreeMap<PartitionId, Vec<Entry>>,
}

impl Sorted {
    /// Passes the records of one partition to `each`.
    fn replay<E>(
        &self,
        partition: PartitionId,
        mut each: impl FnMut(&WholeRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in self.partitions.get(&partition).into_iter().flatten() {
            let Entry { lsn, end, tx, kind, .. } = *entry;
            let payload = match &entry.assembled {
                Some(bytes) => bytes,
                None => self.segment.between(at_payload(lsn), end),
            };
            each(&WholeRecord { lsn, end, kind, partition, tx, payload })?;
        }
        Ok(())
    }
}

impl LogScan {
    /// Passes every image, set-length, data and note record that `winners` counts to its partition,
    /// in the order of the log within each. `new` creates the state of a partition that has
    /// records. Runs in the caller's rayon pool: one thread at a time for a partition, any number
    /// of partitions concurrently.
    ///
    /// # Errors
    /// Errors of reading the log, before any record of that wave is passed on. Of the errors that
    /// `each` returns in a wave, that of the lowest partition.
    pub fn replay<S, E>(
        &self,
        winners: &Winners,
        new: impl Fn(PartitionId) -> S,
        each: impl Fn(&mut S, &WholeRecord<'_>) -> Result<(), E> + Sync,
    ) -> Result<BTreeMap<PartitionId, S>, E>
    where
        S: Send,
        E: From<Error> + Send,
    {
        let (mut seams, mut states) = (Seams::default(), BTreeMap::new());
        let ahead = AHEAD * rayon::current_num_threads();
        for begin in (0..self.len()).step_by(ahead) {
            let wave = begin..self.len().min(begin + ahead);
            let sort = |nth| self.sort(nth, winners);
            let sorted: Vec<_> = wave.clone().into_par_iter().with_max_len(1).map(sort).collect();
            let mut parts = Vec::with_capacity(ahead);
            for (nth, outcome) in wave.zip(sorted) {
                let (part, seam) = outcome?;
                seams.join(&self.pieces()[nth], seam)?;
                parts.push(part);
            }
            for partition in parts.iter().flat_map(|part| part.partitions.keys()) {
                states.entry(*partition).or_insert_with(|| new(*partition));
            }
            let run = |(partition, state): (&PartitionId, &mut S)| {
                parts.iter().try_for_each(|part| part.replay(*partition, |record| each(state, record)))
            };
            let done: Vec<Result<(), E>> = states.par_iter_mut().map(run).collect();
            done.into_iter().collect::<Result<(), E>>()?;
        }
        Ok(states)
    }

    fn sort(&self, nth: usize, winners: &Winners) -> Result<(Sorted, Seam)> {
        let segment = self.load(&self.pieces()[nth])?;
        let mut partitions: BTreeMap<PartitionId, Vec<Entry>> = BTreeMap::new();
        // Covers the last record that counted, and often the next one.
        let mut last: Option<CommitSpan> = None;
        let seam = self.visit_loaded(nth, &segment, |record| {
            if !changes(record.kind) {
                return Ok(());
            }
            if !last.is_some_and(|span| span.covers(record.tx, record.lsn)) {
                let Some(span) = winners.span_of(record.tx, record.lsn) else { return Ok(()) };
                last = Some(span);
            }
            partitions.entry(record.partition).or_default().push(entry(record));
            Ok::<(), Error>(())
        })?;
        Ok((Sorted { segment, partitions }, seam))
    }
}

fn entry(record: &WholeRecord<'_>) -> Entry {
    let WholeRecord { lsn, end, kind, tx, payload, .. } = *record;
    let in_one_part = end.since(at_payload(lsn)) == payload.len() as u64;
    Entry { lsn, end, tx, assembled: (!in_one_part).then(|| payload.into()), kind }
}

/// Start of the payload of a record's first fragment.
fn at_payload(lsn: Lsn) -> Lsn {
    lsn.checked_add(RECORD_HEADER_BYTES as u64).unwrap_or(Lsn::MAX)
}
