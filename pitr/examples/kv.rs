//! Point-in-time recovery for a store that you already have: here `redb`, a key-value store.
//!
//! Each batch of writes is logged through `pitr-wal` first, then applied to the store. The store
//! need not sync each batch: it notes how much of the log it has, and after a crash the rest is
//! replayed. From time to time all pairs go into the log as a checkpoint. To see the store as of a
//! transaction, fill a fresh one from the newest checkpoint before it, and replay up to it.

use pitr::format::{Lsn, PartitionId, TxId};
use pitr::vfs::Env;
use pitr::wal::{BatchBuilder, CheckpointInterval, Record, Start, Wal, WalOptions};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

const PAIRS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pairs");
/// One row: the end of the log that the store has.
const APPLIED: TableDefinition<'_, (), u64> = TableDefinition::new("applied");

/// A write: a pair is put, a key without a value is deleted.
type Write<'a> = (&'a [u8], Option<&'a [u8]>);

/// The bytes of a write: flag, length of the key, key, value.
fn encode((key, value): Write<'_>) -> Vec<u8> {
    let head = [u8::from(value.is_some())].into_iter().chain((key.len() as u32).to_le_bytes());
    head.chain(key.iter().copied()).chain(value.unwrap_or_default().iter().copied()).collect()
}

fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Write<'_>, Failure> {
    let parts = || {
        let (flag, rest) = bytes.split_first()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        match flag {
            0 if value.is_empty() => Some((key, None)),
            1 => Some((key, Some(value))),
            _ => None,
        }
    };
    parts().ok_or_else(|| format!("the record at LSN {lsn} is no write of this store").into())
}

/// Applies writes in one transaction of the store, which then has the log up to `upto`.
fn apply<'a>(
    db: &Database,
    writes: impl IntoIterator<Item = Write<'a>>,
    upto: Lsn,
    durability: Durability,
) -> Result<(), Failure> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(durability)?;
    {
        let mut pairs = transaction.open_table(PAIRS)?;
        for (key, value) in writes {
            match value {
                Some(value) => drop(pairs.insert(key, value)?),
                None => drop(pairs.remove(key)?),
            }
        }
        transaction.open_table(APPLIED)?.insert((), upto.get())?;
    }
    Ok(transaction.commit()?)
}

fn pairs(db: &Database) -> Result<Pairs, Failure> {
    let table = db.begin_read()?.open_table(PAIRS)?;
    let mut pairs = Pairs::new();
    for row in table.iter()? {
        let (key, value) = row?;
        pairs.insert(key.value().to_vec(), value.value().to_vec());
    }
    Ok(pairs)
}

/// How much of the log the store has; `None` for a new store.
fn applied(db: &Database) -> Result<Option<Lsn>, Failure> {
    let transaction = db.begin_write()?; // creates the table
    let found = transaction.open_table(APPLIED)?.get(())?.map(|lsn| Lsn::new(lsn.value()));
    transaction.commit()?;
    Ok(found)
}

/// Replays the committed writes of the log from `from`, of transactions up to the commit at `stop`.
/// Putting and deleting again changes nothing, so the store may have some of them.
fn replay(wal: &Wal, db: &Database, from: Lsn, stop: Lsn) -> Result<(), Failure> {
    wal.scan(from, wal.durable())?.for_each_committed_upto::<Failure>(stop, |record| {
        apply(db, [decode(record.lsn, record.payload)?], record.lsn, Durability::None)
    })?;
    apply(db, [], stop, Durability::Immediate)
}

/// All pairs as the state of a checkpoint, and back.
fn dump(pairs: &Pairs) -> Vec<u8> {
    let entry = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let put = encode((key, Some(value)));
        [&(put.len() as u32).to_le_bytes()[..], &put].concat()
    };
    pairs.iter().flat_map(entry).collect()
}

fn load(lsn: Lsn, mut state: &[u8]) -> Result<Vec<Write<'_>>, Failure> {
    let mut writes = Vec::new();
    while let Some((len, rest)) = state.split_first_chunk() {
        let put = rest.split_at_checked(u32::from_le_bytes(*len) as usize);
        let (put, rest) = put.ok_or("the checkpoint ends within a pair")?;
        writes.push(decode(lsn, put)?);
        state = rest;
    }
    Ok(writes)
}

/// The store with its log.
struct Store {
    db: Database,
    wal: Wal,
}

impl Store {
    /// Opens the store after a clean end or a crash: replays what it lacks.
    fn open(dir: &Path) -> Result<Self, Failure> {
        let (env, log) = (Env::system(), dir.join("log"));
        let checkpoint_interval = CheckpointInterval::Bytes(3_000);
        let options = WalOptions { checkpoint_interval, ..WalOptions::default() };
        let wal = match Wal::open(&env, &log, Lsn::ORIGIN, &options) {
            Err(pitr::wal::Error::NoLog { .. }) => {
                Wal::create(&env, &log, &Start::first(env.random_bytes()?), &options)?
            }
            opened => opened?.0,
        };
        let db = Database::create(dir.join("store.redb"))?;
        let from = applied(&db)?.unwrap_or(wal.first());
        replay(&wal, &db, from, wal.durable())?;
        Ok(Store { db, wal })
    }

    /// Writes a batch: durable in the log, then visible in the store, which need not sync.
    fn write(&self, tx: u64, writes: &[Write<'_>]) -> Result<(), Failure> {
        let (tx, mut batch) = (TxId::new(tx), BatchBuilder::new());
        for write in writes {
            batch.push(PartitionId::FIRST, tx, &Record::Data(&encode(*write)))?;
        }
        batch.push_commit(PartitionId::FIRST, tx, None, None, b"")?;
        let end = self.wal.commit(batch)?.end;
        apply(&self.db, writes.iter().copied(), end, Durability::None)?;
        if self.wal.is_checkpoint_due() {
            self.wal.checkpoint(self.wal.redo_point(), &dump(&pairs(&self.db)?))?;
        }
        Ok(())
    }

    /// A fresh store as of a transaction.
    fn restore(&self, tx: u64, path: &Path) -> Result<Database, Failure> {
        let wal = &self.wal;
        let commit = wal.scan(wal.first(), wal.durable())?.commit_of(TxId::new(tx))?;
        let stop = commit.ok_or("the log does not hold this transaction")?.lsn;
        let (db, mut from) = (Database::create(path)?, wal.first());
        if let Some(base) = wal.find_checkpoint(stop)? {
            let state = wal.read_checkpoint(&base)?;
            apply(&db, load(base.lsn, &state)?, base.redo_from, Durability::None)?;
            from = base.redo_from;
        }
        replay(wal, &db, from, stop)?;
        Ok(db)
    }
}

fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("store.redb");
    let (mut states, mut old) = (Vec::new(), None);
    for run in 0..2 {
        let store = Store::open(dir.path())?;
        for tx in run * 30 + 1..=run * 30 + 30 {
            let (key, value) = (format!("key {}", tx % 7), format!("value {tx}").repeat(9));
            let gone = format!("key {}", (tx + 3) % 7);
            store.write(tx, &[(key.as_bytes(), Some(value.as_bytes())), (gone.as_bytes(), None)])?;
            states.push((tx, pairs(&store.db)?));
        }
        drop(store);
        old.get_or_insert(std::fs::read(&file)?);
    }

    // The store loses its last writes, as in a power loss: the log has them.
    std::fs::write(&file, old.unwrap_or_default())?;
    let store = Store::open(dir.path())?;
    let last = &states[states.len() - 1].1;
    assert_eq!(pairs(&store.db)?, *last);
    println!("after a crash the log gave the store its last 30 transactions back");

    for (tx, expected) in &states {
        let path = dir.path().join(format!("as of {tx}.redb"));
        assert_eq!(pairs(&store.restore(*tx, &path)?)?, *expected, "as of transaction {tx}");
    }
    let kept = store.wal.checkpoints().len();
    println!("{} transactions restored; the log keeps {kept} checkpoints", states.len());
    Ok(())
}
