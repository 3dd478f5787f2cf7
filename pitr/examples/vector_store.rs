//! A vector index in memory that goes back to any moment.
//!
//! The index has no files of its own. Each change is a logical record of `pitr-wal`; from time to
//! time the whole index goes into the log as a checkpoint. To see the index as of a time, load the
//! newest checkpoint before it and replay the committed records up to it: from the local log, or
//! from a repository when the machine is gone.

use pitr::archive::{Archive, Merged, ShipOptions, Shipper};
use pitr::format::{Lsn, PartitionId, SourceName, Timestamp, TxId};
use pitr::objects::Objects;
use pitr::recovery::{History, Target};
use pitr::vfs::Env;
use pitr::wal::{BatchBuilder, CheckpointInterval, Record, Start, Wal, WalOptions};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Vector = [f32; 4];

/// The bytes of one entry: the number of a vector, then the vector.
const ENTRY_BYTES: usize = 8 + size_of::<Vector>();

/// A record or checkpoint that this engine did not write.
#[derive(Debug, PartialEq)]
struct Undecodable(Lsn);

impl std::error::Error for Undecodable {}
impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record at LSN {} can't be decoded", self.0)
    }
}

/// The index: vectors by number.
#[derive(Debug, Default, Clone, PartialEq)]
struct Index(BTreeMap<u64, Vector>);

impl Index {
    /// The number of the vector with the smallest distance.
    fn nearest(&self, to: Vector) -> Option<u64> {
        let distance = |v: &Vector| v.iter().zip(to).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        self.0.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).map(|(id, _)| *id)
    }

    /// Applies a logged change: an entry is inserted or updated, a number alone is deleted.
    /// Applying it again changes nothing, as a replay over a checkpoint needs.
    fn apply(&mut self, lsn: Lsn, change: &[u8]) -> Result<(), Undecodable> {
        match decode(change) {
            Some((id, Some(vector))) => drop(self.0.insert(id, vector)),
            Some((id, None)) => drop(self.0.remove(&id)),
            None => return Err(Undecodable(lsn)),
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(id, vector)| encode(*id, Some(vector))).collect()
    }

    fn load(lsn: Lsn, state: &[u8]) -> Result<Self, Undecodable> {
        let mut index = Index::default();
        state.chunks(ENTRY_BYTES).try_for_each(|entry| index.apply(lsn, entry))?;
        Ok(index)
    }
}

fn encode(id: u64, vector: Option<&Vector>) -> Vec<u8> {
    let values = vector.into_iter().flatten().flat_map(|value| value.to_le_bytes());
    id.to_le_bytes().into_iter().chain(values).collect()
}

fn decode(bytes: &[u8]) -> Option<(u64, Option<Vector>)> {
    let (id, values) = bytes.split_first_chunk()?;
    let vector = match values.len() {
        0 => None,
        16 => Some(std::array::from_fn(|no| {
            f32::from_le_bytes(std::array::from_fn(|byte| values[no * 4 + byte]))
        })),
        _ => return None,
    };
    Some((u64::from_le_bytes(*id), vector))
}

/// The engine: the log first, then the index.
struct Store {
    wal: Wal,
    index: Index,
    begin: Lsn,
    last: TxId,
}

impl Store {
    fn create(dir: &Path) -> Result<Self, Failure> {
        let env = Env::system();
        let checkpoint_interval = CheckpointInterval::Bytes(2_000);
        let options = WalOptions { checkpoint_interval, ..WalOptions::default() };
        let wal = Wal::create(&env, dir, &Start::first(env.random_bytes()?), &options)?;
        Ok(Store { begin: wal.first(), wal, index: Index::default(), last: TxId::NONE })
    }

    /// Commits changes as one transaction. Returns its time.
    fn commit(&mut self, changes: &[(u64, Option<Vector>)]) -> Result<Timestamp, Failure> {
        let mut batch = self.begin(changes)?;
        batch.push_commit(PartitionId::FIRST, self.last, None, None, b"")?;
        let committed = self.wal.commit(batch)?.commits[0]; // the one commit of the batch
        changes
            .iter()
            .try_for_each(|(id, vector)| self.index.apply(committed.lsn, &encode(*id, vector.as_ref())))?;
        if self.wal.is_checkpoint_due() {
            self.wal.checkpoint(self.wal.redo_point(), &self.index.save())?;
        }
        Ok(committed.time)
    }

    /// The records of a new transaction, without its end.
    fn begin(&mut self, changes: &[(u64, Option<Vector>)]) -> Result<BatchBuilder, Failure> {
        self.last = self.last.next().ok_or("transaction numbers are used up")?;
        let mut batch = BatchBuilder::new();
        for (id, vector) in changes {
            let change = encode(*id, vector.as_ref());
            batch.push(PartitionId::FIRST, self.last, &Record::Data(&change))?;
        }
        Ok(batch)
    }

    /// The index as of a time, from the local log.
    fn as_of(&self, time: Timestamp) -> Result<Index, Failure> {
        let (wal, end) = (&self.wal, self.wal.durable());
        let later = Timestamp::from_micros(time.micros() + 1);
        let later = wal.scan(wal.first(), end)?.first_commit_at(later)?;
        let stop = later.map_or(end, |commit| commit.lsn.before());
        let (mut index, from) = match wal.find_checkpoint(stop)? {
            Some(base) => (Index::load(base.lsn, &wal.read_checkpoint(&base)?)?, base.redo_from),
            None => (Index::default(), self.begin),
        };
        wal.scan(from, end)?.for_each_committed_upto::<Failure>(stop, |record| {
            Ok(index.apply(record.lsn, record.payload)?)
        })?;
        Ok(index)
    }
}

/// The index as of a time, from the repository alone.
fn archived_as_of(archive: &Archive, time: Timestamp) -> Result<Index, Failure> {
    let history = History::load(archive.objects(), archive.source(), None)?;
    let stop = history.resolve(&Target::at(time))?.lsn;
    let (mut index, from) = match history.find_base_checkpoint(stop)? {
        Some(base) => {
            let state = history.read_checkpoint(&base)?;
            (Index::load(base.entry.lsn, &state)?, base.entry.redo_from)
        }
        None => (Index::default(), Lsn::ORIGIN),
    };
    let log = Merged::with_logical(archive, history.pieces(), from, stop)?;
    log.for_each_logical::<Failure>(|record| Ok(index.apply(record.lsn, record.payload)?))?;
    Ok(index)
}

fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let mut store = Store::create(&dir.path().join("log"))?;
    let objects = Objects::create_local(dir.path().join("repository"))?;
    objects.init_repository(objects.env().clock.now())?;
    let archive = Archive::new(objects, SourceName::new("vectors")?);
    let mut shipper = Shipper::claim(&archive, &store.wal, ShipOptions::default())?;

    // Inserts, updates and deletes; after each the state to compare with.
    let mut states = Vec::new();
    for step in 0..60_u64 {
        let vector = [step as f32, (step % 7) as f32, 1.0, 0.0];
        let change = if step % 5 == 4 { None } else { Some(vector) };
        let time = store.commit(&[(step % 20, change), (100 + step, Some(vector))])?;
        states.push((time, store.index.clone()));
        // A transaction that is aborted, and one that is never finished.
        let mut aborted = store.begin(&[(7, Some([9.0; 4]))])?;
        aborted.push_abort(PartitionId::FIRST, store.last, None)?;
        store.wal.append(aborted)?;
        let unfinished = store.begin(&[(8, Some([8.0; 4]))])?;
        store.wal.append(unfinished)?;
        std::thread::sleep(std::time::Duration::from_micros(20)); // each commit has its own time
    }
    store.wal.sync()?;
    shipper.ship(&store.wal)?;

    for (time, expected) in &states {
        assert_eq!(store.as_of(*time)?, *expected, "as of {time}");
    }
    println!("{} moments rebuilt from the local log", states.len());
    for (time, expected) in &states {
        assert_eq!(archived_as_of(&archive, *time)?, *expected, "archived, as of {time}");
    }
    println!("{} moments rebuilt from the repository", states.len());
    let (time, old) = &states[30];
    let near = [12.1, 5.0, 1.0, 0.0];
    println!("nearest as of {time}: {:?}, now: {:?}", old.nearest(near), store.index.nearest(near));
    assert_ne!(old.nearest([59.0, 3.0, 1.0, 0.0]), store.index.nearest([59.0, 3.0, 1.0, 0.0]));

    // A record that the engine did not write is an error with its place, never skipped.
    let (last, state) = store.wal.commit_data(TxId::new(10_000), b"?").map(|bad| (bad, bad.time))?;
    let error = store.as_of(state).expect_err("the record is no change of a vector");
    let Some(Undecodable(lsn)) = error.downcast_ref() else { return Err(error) };
    assert!(*lsn < last.lsn);
    println!("refused: {error}");
    Ok(())
}
