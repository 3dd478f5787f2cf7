//! The replay of the logical buckets: the same for a restore and for opening after a crash.

use super::{BLOCK, BUCKETS, Bucket, Fault, LOGICAL, LogicalRecord, RecordKind, Redo, decode};
use pitr::format::{Lsn, PartitionId};
use pitr::snapshot::BoxError;
use pitr::vfs::File;
use pitr::wal::LogScan;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A write as a record: key, kind, value.
pub(super) fn encode(key: u64, value: Option<&[u8]>) -> Vec<u8> {
    [&key.to_le_bytes(), &[u8::from(value.is_some())][..], value.unwrap_or_default()].concat()
}

fn decode_write(record: &[u8]) -> Option<(u64, Option<&[u8]>)> {
    let (key, rest) = record.split_first_chunk()?;
    let (kind, value) = rest.split_first()?;
    let value = match kind {
        0 if value.is_empty() => None,
        1 => Some(value),
        _ => return None,
    };
    Some((u64::from_le_bytes(*key), value))
}

/// The records that a block has: those of all commits up to one, and those below a position to
/// which a replay came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Has {
    pub(super) commit: Lsn,
    pub(super) replayed: Lsn,
}

/// A bucket of an open batch.
struct Loaded {
    bucket: Bucket,
    has: Has,
    /// The last commit of which it got a record.
    touched: Lsn,
}

pub(super) type Blocks = BTreeMap<u64, (Bucket, Has)>;

enum Place {
    File(Arc<dyn File>),
    Memory(Mutex<Blocks>),
}

pub(super) struct BucketRedo {
    place: Place,
    fault: Option<Fault>,
    skips_unknown: bool,
    open: Mutex<BTreeMap<u64, Loaded>>,
    /// The highest position of all partitions.
    progress: Mutex<Lsn>,
}

fn number(partition: PartitionId) -> u64 {
    u64::from(partition.get()) - 1
}

impl BucketRedo {
    fn new(place: Place, fault: Option<Fault>, skips: Fault) -> Self {
        let (open, progress) = (Mutex::default(), Mutex::default());
        BucketRedo { place, fault, skips_unknown: fault == Some(skips), open, progress }
    }

    /// Over the file of a restore.
    pub(super) fn over(file: Arc<dyn File>, fault: Option<Fault>) -> Self {
        BucketRedo::new(Place::File(file), fault, Fault::SkipsUnknown)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Loaded>> {
        self.open.lock().unwrap()
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl Redo for BucketRedo {
    fn begin(&self, partition: PartitionId) -> Result<(), BoxError> {
        let number = number(partition);
        let (bucket, has) = match &self.place {
            Place::Memory(blocks) => blocks.lock().unwrap().get(&number).cloned().unwrap_or_default(),
            Place::File(file) => {
                let mut block = vec![0; BLOCK];
                file.read_up_to_at(&mut block, number * BLOCK as u64)?;
                decode(&block)?
            }
        };
        let before = self.open().insert(number, Loaded { bucket, has, touched: has.commit });
        if before.is_some() { Err("a partition has two batches".into()) } else { Ok(()) }
    }

    fn apply(&self, record: &LogicalRecord<'_>) -> Result<(), BoxError> {
        let Some((key, value)) = decode_write(record.payload) else {
            return if self.skips_unknown { Ok(()) } else { Err("an unknown record".into()) };
        };
        let mut progress = self.progress.lock().unwrap();
        if self.has(Fault::SharedProgress) && record.lsn <= *progress {
            return Ok(());
        }
        *progress = record.lsn;
        let mut open = self.open();
        let loaded = open.get_mut(&number(record.partition)).ok_or("no batch")?;
        if record.commit <= loaded.has.commit || record.lsn < loaded.has.replayed {
            return Ok(());
        }
        loaded.touched = loaded.touched.max(record.commit);
        match value {
            Some(value) => drop(loaded.bucket.insert(key, value.to_vec())),
            None if self.has(Fault::KeepsDeleted) => {}
            None => drop(loaded.bucket.remove(&key)),
        }
        Ok(())
    }

    fn end(&self, partition: PartitionId, upto: Lsn) -> Result<(), BoxError> {
        let number = number(partition);
        let Loaded { bucket, mut has, touched } = self.open().remove(&number).ok_or("no batch")?;
        match self.has(Fault::OneLsn) {
            true => has.commit = touched,
            false => has.replayed = has.replayed.max(upto),
        }
        match &self.place {
            Place::File(file) => Ok(file.write_all_at(&super::encode(&bucket, has), number * BLOCK as u64)?),
            Place::Memory(blocks) => {
                let has = Has { commit: touched, ..Has::default() };
                blocks.lock().unwrap().insert(number, (bucket, has));
                Ok(())
            }
        }
    }
}

/// The logical buckets, which have what a restore left, after a replay of the log. Each notes the
/// last commit that changed it.
pub(super) fn recover(
    scan: &LogScan,
    fault: Option<Fault>,
    buckets: &BTreeMap<u64, Bucket>,
    has: &BTreeMap<u64, Has>,
    upto: Lsn,
) -> Result<Blocks, BoxError> {
    let before = |number: u64| {
        let has = has.get(&number).copied().unwrap_or_default();
        (number, (buckets.get(&number).cloned().unwrap_or_default(), has))
    };
    let place = Place::Memory(Mutex::new((LOGICAL..BUCKETS).map(before).collect()));
    let redo = BucketRedo::new(place, fault, Fault::OpensUnknown);
    let partitions = (LOGICAL..BUCKETS).map(|number| PartitionId::new(number as u32 + 1));
    partitions.clone().try_for_each(|partition| redo.begin(partition))?;
    if fault == Some(Fault::RecoversOpen) {
        scan.for_each::<BoxError>(|record| {
            if record.kind != RecordKind::Data as u8 {
                return Ok(());
            }
            let (lsn, tx, partition, payload) = (record.lsn, record.tx, record.partition, record.payload);
            redo.apply(&LogicalRecord { lsn, commit: Lsn::MAX, tx, partition, payload })
        })?;
    } else {
        scan.for_each_logical::<BoxError>(|record| redo.apply(record))?;
    }
    partitions.clone().try_for_each(|partition| redo.end(partition, upto))?;
    match redo.place {
        Place::Memory(blocks) => Ok(blocks.into_inner().unwrap()),
        Place::File(_) => Err("the replay is in memory".into()),
    }
}
