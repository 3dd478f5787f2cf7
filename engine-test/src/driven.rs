//! A restore target whose replay the suite carries out, call by call.
//!
//! The replay of a restore ends a batch after many records, and its workers come to the partitions
//! in an order that no seed decides. Here batches are short and the order is chosen, so a run shows
//! what a long history and several workers would.

use pitr::format::{FileId, Lsn, PartitionId, TxId};
use pitr::recovery::{
    ConsistencyCheck, Finished, Layout, LogicalRecord, Redo, RestoreState, RestoreTarget, Result, Unfinished,
};
use pitr::snapshot::BoxError;
use pitr::vfs::sim::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records of a batch.
const BATCH: usize = 3;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A committed logical record.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    lsn: Lsn,
    commit: Lsn,
    tx: TxId,
    partition: PartitionId,
    payload: Vec<u8>,
}

impl Kept {
    fn record(&self) -> LogicalRecord<'_> {
        let Kept { lsn, commit, tx, partition, ref payload } = *self;
        LogicalRecord { lsn, commit, tx, partition, payload }
    }
}

/// The order in which a replay comes to the partitions. Each partition has the order of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    OfLog,
    Ascending,
    Descending,
    Mixed(u64),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::OfLog => "in the order of the log",
            Order::Ascending => "one partition after the other",
            Order::Descending => "one partition after the other, the last one first",
            Order::Mixed(_) => "with the partitions mixed",
        })
    }
}

impl Order {
    /// The records in this order. No record passes a barrier.
    pub(crate) fn of(
        self,
        records: &[Kept],
        is_barrier: impl Fn(&Kept) -> std::result::Result<bool, BoxError>,
    ) -> std::result::Result<Vec<Kept>, BoxError> {
        let (mut ordered, mut between) = (Vec::new(), Vec::new());
        for record in records {
            if is_barrier(record)? {
                self.sort(&mut between);
                ordered.append(&mut between);
                ordered.push(record.clone());
            } else {
                between.push(record.clone());
            }
        }
        self.sort(&mut between);
        ordered.append(&mut between);
        Ok(ordered)
    }

    fn sort(self, records: &mut Vec<Kept>) {
        match self {
            Order::OfLog => {}
            Order::Ascending => records.sort_by_key(|record| record.partition),
            Order::Descending => records.sort_by_key(|record| std::cmp::Reverse(record.partition)),
            Order::Mixed(seed) => {
                let mut rng = Rng::new(seed);
                let mut rest: BTreeMap<PartitionId, std::vec::IntoIter<Kept>> = BTreeMap::new();
                for (partition, of_it) in group(records) {
                    rest.insert(partition, of_it.into_iter());
                }
                while !rest.is_empty() {
                    let at = rng.below(rest.len() as u64) as usize;
                    let Some(partition) = rest.keys().nth(at).copied() else { break };
                    match rest.get_mut(&partition).and_then(Iterator::next) {
                        Some(record) => records.push(record),
                        None => drop(rest.remove(&partition)),
                    }
                }
            }
        }
    }
}

/// Takes the records of each partition.
fn group(records: &mut Vec<Kept>) -> BTreeMap<PartitionId, Vec<Kept>> {
    let mut groups: BTreeMap<PartitionId, Vec<Kept>> = BTreeMap::new();
    records.drain(..).for_each(|record| groups.entry(record.partition).or_default().push(record));
    groups
}

/// A replay over the files of one restore. Each attempt begins with a new `Redo`, as a new process
/// does.
pub(crate) struct Run<'a> {
    target: &'a dyn RestoreTarget,
    unfinished: Unfinished<'a>,
}

impl Run<'_> {
    fn redo(&self) -> std::result::Result<Box<dyn Redo + '_>, BoxError> {
        Ok(self.target.redo(&self.unfinished)?.ok_or("the engine replays nothing")?)
    }

    pub(crate) fn is_barrier(&self, record: &Kept) -> std::result::Result<bool, BoxError> {
        Ok(self.redo()?.is_barrier(&record.record()))
    }

    /// Replays all records, in the order in which they are passed.
    pub(crate) fn whole(&self, records: &[Kept]) -> std::result::Result<(), BoxError> {
        self.attempt(records, usize::MAX)
    }

    /// Replays this number of records, then is killed: batches that did not end are lost.
    pub(crate) fn until(&self, kill: usize, records: &[Kept]) -> std::result::Result<(), BoxError> {
        self.attempt(records, kill)
    }

    fn attempt(&self, records: &[Kept], kill: usize) -> std::result::Result<(), BoxError> {
        let redo = self.redo()?;
        let mut applied: BTreeMap<PartitionId, Lsn> = BTreeMap::new();
        let mut open: BTreeMap<PartitionId, usize> = BTreeMap::new();
        for kept in records.iter().take(kill) {
            let (record, partition) = (kept.record(), kept.partition);
            let has = match applied.get(&partition) {
                Some(has) => *has,
                None => *applied.entry(partition).or_insert(redo.applied(partition)?),
            };
            if record.commit <= has {
                continue;
            }
            let after = Lsn::new(record.lsn.get().saturating_add(1));
            let is_alone = redo.is_barrier(&record);
            if is_alone {
                for partition in std::mem::take(&mut open).into_keys() {
                    redo.end(partition, record.lsn)?;
                }
            }
            let in_batch = open.entry(partition).or_insert(0);
            if *in_batch == 0 {
                redo.begin(partition)?;
            }
            redo.apply(&record)?;
            *in_batch += 1;
            if is_alone || *in_batch == BATCH {
                open.remove(&partition);
                redo.end(partition, after)?;
            }
        }
        if kill <= records.len() {
            return Ok(());
        }
        let end = records.iter().map(|record| record.commit).max().unwrap_or(Lsn::ORIGIN);
        for partition in open.into_keys() {
            redo.end(partition, end)?;
        }
        redo.finish()
    }
}

type Replay<'e> = Mutex<dyn FnMut(&[Kept], &Run<'_>) -> std::result::Result<(), BoxError> + Send + 'e>;

/// The engine's restore target, except for the replay.
pub(crate) struct Driven<'e> {
    target: &'e dyn RestoreTarget,
    replay: Box<Replay<'e>>,
}

impl<'e> Driven<'e> {
    pub(crate) fn new(
        target: &'e dyn RestoreTarget,
        replay: impl FnMut(&[Kept], &Run<'_>) -> std::result::Result<(), BoxError> + Send + 'e,
    ) -> Self {
        Driven { target, replay: Box::new(Mutex::new(replay)) }
    }
}

impl fmt::Debug for Driven<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").field("target", &self.target).finish_non_exhaustive()
    }
}

impl RestoreTarget for Driven<'_> {
    fn lay_out(&self, state: &RestoreState<'_>) -> Result<Layout> {
        self.target.lay_out(state)
    }

    fn companions(&self) -> &'static [&'static str] {
        self.target.companions()
    }

    fn mark(&self) -> Option<&'static [u8]> {
        self.target.mark()
    }

    fn replays(&self, partition: PartitionId) -> bool {
        self.target.replays(partition)
    }

    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> Result<Option<Box<dyn Redo + 'a>>> {
        let run = Run { target: self.target, unfinished: *unfinished };
        Ok(Some(Box::new(Collects { run, replay: &self.replay, records: Mutex::default() })))
    }

    fn files_of(&self, tables: &[String], state: &RestoreState<'_>) -> Result<Vec<FileId>> {
        self.target.files_of(tables, state)
    }

    fn consistency(&self) -> Option<&dyn ConsistencyCheck> {
        self.target.consistency()
    }

    fn finish(&self, unfinished: &Unfinished<'_>) -> Result<Finished> {
        self.target.finish(unfinished)
    }
}

/// Collects the records of a restore, and replays them at its end.
struct Collects<'a, 'e> {
    run: Run<'a>,
    replay: &'a Replay<'e>,
    records: Mutex<Vec<Kept>>,
}

impl Redo for Collects<'_, '_> {
    fn apply(&self, record: &LogicalRecord<'_>) -> std::result::Result<(), BoxError> {
        let LogicalRecord { lsn, commit, tx, partition, payload } = *record;
        lock(&self.records).push(Kept { lsn, commit, tx, partition, payload: payload.to_vec() });
        Ok(())
    }

    fn finish(&self) -> std::result::Result<(), BoxError> {
        let mut records = std::mem::take(&mut *lock(&self.records));
        records.sort_by_key(|record| record.lsn);
        lock(self.replay)(&records, &self.run)
    }
}
