//! Replays logical records through an engine's [`Redo`].
//!
//! The caller passes the committed records in LSN order. They are divided by partition among
//! workers, so each partition is applied in that order. A batch of a partition ends after 64 Ki
//! records or 4 MiB. If the open batches of all partitions have 256 Ki records or 32 MiB, all of
//! them end. These decisions are made before the records are divided: a partition gets the same
//! calls for any number of workers (law 6).
//!
//! # Memory
//! Each worker has at most 4 MiB of records ahead of it, or one record if that is larger. No
//! transaction is held in memory, however long it is, so none needs to go to disk: the records are
//! passed after it is known which transactions committed.

mod lanes;

use crate::error::{Error, Result};
use lanes::{Command, Lanes};
use pitr_format::{Lsn, PartitionId, Severity};
use pitr_redo::{BoxError, LogicalRecord, Redo};
use pitr_vfs::Spawn;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Records of a batch, at most.
const BATCH_RECORDS: u32 = 64 << 10;
/// Bytes of a batch, at least; a batch ends with the record that reaches it.
const BATCH_BYTES: usize = 4 << 20;
/// Records and bytes of all open batches, at which all of them end. An engine may hold a page for
/// each record.
const OPEN_RECORDS: u32 = 256 << 10;
const OPEN_BYTES: usize = 32 << 20;

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Records that were applied.
    pub records: u64,
    /// Records that were skipped, because [`Redo::applied`] says that the files have them.
    pub skipped: u64,
}

/// Applies the records that `feed` passes, in LSN order, by as many workers as given. Everything is
/// written on return. `upto` is the target: no record's commit is after it.
///
/// # Errors
/// [`Error::NewerThanTarget`]; [`Error::Redo`] with the first error of the engine; those of `feed`.
pub fn replay(
    redo: &dyn Redo,
    upto: Lsn,
    spawn: Spawn,
    workers: usize,
    feed: impl FnOnce(&mut (dyn FnMut(&LogicalRecord<'_>) -> Result<()> + Send)) -> Result<()>,
) -> Result<Replayed> {
    let workers = if spawn.is_inline() { 1 } else { workers };
    let replayed = lanes::with(redo, spawn, workers, |lanes| {
        let mut coordinator = Coordinator {
            redo,
            upto,
            lanes,
            partitions: BTreeMap::new(),
            open: Batch::default(),
            replayed: Replayed::default(),
        };
        feed(&mut |record| coordinator.take(record))?;
        coordinator.end_all(upto)?;
        coordinator.lanes.finish()?;
        Ok(coordinator.replayed)
    })?;
    redo.finish().map_err(|source| Error::engine(Severity::Fix, source))?;
    Ok(replayed)
}

/// Names the place of an engine's error.
fn at(partition: PartitionId, lsn: Lsn) -> impl FnOnce(BoxError) -> Error {
    move |source| Error::Redo { partition, lsn, source }
}

/// A partition that had a record.
struct Partition {
    /// Number of its worker.
    lane: usize,
    /// Commits at or below this position are in the files.
    applied: Lsn,
    batch: Option<Batch>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    records: u32,
    bytes: usize,
}

/// Divides records among the workers, and decides where batches end.
struct Coordinator<'a> {
    redo: &'a dyn Redo,
    /// The target.
    upto: Lsn,
    lanes: Lanes<'a>,
    partitions: BTreeMap<PartitionId, Partition>,
    /// All open batches together.
    open: Batch,
    replayed: Replayed,
}

impl Coordinator<'_> {
    fn take(&mut self, record: &LogicalRecord<'_>) -> Result<()> {
        let (id, lsn, known) = (record.partition, record.lsn, self.partitions.len());
        let partition = match self.partitions.entry(id) {
            Entry::Occupied(partition) => partition.into_mut(),
            Entry::Vacant(new) => {
                let applied = self.redo.applied(id).map_err(at(id, lsn))?;
                if applied > self.upto {
                    return Err(Error::NewerThanTarget { partition: id, applied, target: self.upto });
                }
                // In turn, not by a hash: then two partitions never share one of two workers.
                let lane = known % self.lanes.count();
                new.insert(Partition { lane, applied, batch: None })
            }
        };
        if record.commit <= partition.applied {
            self.replayed.skipped += 1;
            return Ok(());
        }
        self.replayed.records += 1;
        if self.redo.is_barrier(record) {
            return self.apply_alone(record);
        }
        let lane = partition.lane;
        if partition.batch.is_none() {
            self.lanes.give(lane, Command::Begin { partition: id, lsn })?;
        }
        self.lanes.apply(lane, record)?;
        let batch = partition.batch.get_or_insert_default();
        for batch in [&mut *batch, &mut self.open] {
            batch.records += 1;
            batch.bytes += record.payload.len();
        }
        if batch.records >= BATCH_RECORDS || batch.bytes >= BATCH_BYTES {
            self.open.records -= batch.records;
            self.open.bytes -= batch.bytes;
            partition.batch = None;
            return self.lanes.give(lane, Command::End { partition: id, upto: after(lsn) });
        }
        match self.open.records >= OPEN_RECORDS || self.open.bytes >= OPEN_BYTES {
            true => self.end_all(after(lsn)),
            false => Ok(()),
        }
    }

    /// Ends the batches of all partitions.
    fn end_all(&mut self, upto: Lsn) -> Result<()> {
        for (id, partition) in &mut self.partitions {
            if partition.batch.take().is_some() {
                self.lanes.give(partition.lane, Command::End { partition: *id, upto })?;
            }
        }
        self.open = Batch::default();
        Ok(())
    }

    /// Applies a record while no worker has one.
    fn apply_alone(&mut self, record: &LogicalRecord<'_>) -> Result<()> {
        let (partition, lsn) = (record.partition, record.lsn);
        self.end_all(lsn)?;
        self.lanes.drain()?;
        let done = self.redo.begin(partition).and_then(|()| self.redo.apply(record));
        done.and_then(|()| self.redo.end(partition, after(lsn))).map_err(at(partition, lsn))
    }
}

/// The position right after the begin of a record: no other record begins in between.
fn after(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get().saturating_add(1))
}
