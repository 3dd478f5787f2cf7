//! A store of hash buckets: the engine of a team that uses only published crates.
//!
//! A key belongs to one of a few buckets. A bucket is a block of the store's only data file. A
//! commit logs the buckets that it changes. A checkpoint writes them to the file. The log is never
//! removed by the engine, so opening replays all of it over the file. Tests choose a [`Fault`].
//!
//! A logical store logs the writes of its last buckets instead, each bucket in its own partition.
//! Only a restore writes those to the file: see [`redo`].

#[path = "buckets/redo.rs"]
mod redo;

use pitr::engine::Engine;
use pitr::format::record::{Record, RecordKind};
use pitr::format::{FileId, Lsn, PartitionId, SegmentSize, Timestamp, TxId};
use pitr::recovery::{
    FilePlace, Finished, FolderLayout, Layout, LogicalRecord, Redo, RestoreState, RestoreTarget, Unfinished,
};
use pitr::snapshot::{BlockSource, BoxError, ConsistentAt, FileShape, FuzzySource};
use pitr::tracker::ChangeSet;
use pitr::vfs::{Access, Env, FileSystem};
use pitr::wal::{BatchBuilder, Committed, Start, Wal, WalOptions};
use pitr_engine_test::{Limits, Rows, Subject, Transaction};
use redo::{BucketRedo, Has};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const FILE: FileId = FileId::new(1);
/// Odd, so that neighbouring keys meet in a bucket.
const BUCKETS: u64 = 7;
/// In a logical store, buckets from this one on have logical records.
const LOGICAL: u64 = 4;
const BLOCK: usize = 4096;
const MARK: &[u8] = b"buckets: unfinished restore\n";

/// A mistake that a team could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A commit returns before its records are durable.
    NoSync,
    /// An abort writes its changes.
    AbortWrites,
    /// An image has the changes of all open transactions.
    OthersChanges,
    /// A checkpoint writes the changes of open transactions.
    EarlyWrites,
    /// The log has the changed part of a bucket only.
    Deltas,
    /// The log has a record of the engine's own.
    Logical,
    /// Each transaction has its own partition.
    Partitions,
    /// A commit is reported with another time.
    OtherTime,
    /// A block is changed without a record: it counts the checkpoints.
    Unlogged,
    /// No change is reported.
    Untracked,
    /// A snapshot reads the file, which lacks what no checkpoint wrote.
    StaleRead,
    /// A snapshot is said to be consistent at its begin.
    EarlyEnd,
    /// A restored file is not read again after the first opening.
    ForgetsRestored,
    /// Nothing marks an unfinished restore, and it is completed before its files are synced.
    NoMark,
    /// A restored file depends on the number of files that exist.
    Unequal,
    /// A replay ignores deletes.
    KeepsDeleted,
    /// A snapshot ignores that open transactions have records in the log.
    ForgetsOpen,
    /// Opening applies the records of all transactions.
    RecoversOpen,
    /// A replay notes its progress once, not for each partition.
    SharedProgress,
    /// A bucket notes the last commit of which it has a record, as if it had everything before.
    OneLsn,
    /// A restore skips a record that it does not know.
    SkipsUnknown,
    /// Opening skips a record that it does not know.
    OpensUnknown,
}

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Buckets {
    pub(crate) fault: Option<Fault>,
    pub(crate) is_logical: bool,
}

type Bucket = BTreeMap<u64, Vec<u8>>;
/// The writes of a transaction; `None` for a deleted key.
type Writes = BTreeMap<u64, Option<Vec<u8>>>;

pub(crate) struct Store {
    env: Env,
    dir: PathBuf,
    engine: Buckets,
    wal: Wal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<u64, Bucket>,
    /// The last commit that changed each logical bucket.
    changed: BTreeMap<u64, Lsn>,
    last: Option<Committed>,
    next: u64,
    /// Writes of open transactions, for the faults that show them.
    open: BTreeMap<u64, Writes>,
    /// Number and first LSN of open transactions that have records in the log.
    logged: BTreeMap<u64, (TxId, Lsn)>,
    opened: u64,
    checkpoints: u8,
}

/// A bucket as a block: what it has of a replay, number of rows, then key, length and value of
/// each.
fn encode(bucket: &Bucket, has: Has) -> Vec<u8> {
    let mut block =
        [has.commit.get(), has.replayed.get(), bucket.len() as u64].map(u64::to_le_bytes).concat();
    for (key, value) in bucket {
        block.extend(key.to_le_bytes());
        block.extend((value.len() as u64).to_le_bytes());
        block.extend(value);
    }
    assert!(block.len() < BLOCK, "a bucket is full");
    block.resize(BLOCK, 0);
    block
}

fn decode(block: &[u8]) -> Result<(Bucket, Has), BoxError> {
    let number = |at: usize| -> Result<u64, BoxError> {
        Ok(u64::from_le_bytes(block.get(at..at + 8).ok_or("a short bucket")?.try_into()?))
    };
    let has = Has { commit: Lsn::new(number(0)?), replayed: Lsn::new(number(8)?) };
    let (mut bucket, mut at) = (Bucket::new(), 24);
    for _ in 0..number(16)? {
        let (key, len) = (number(at)?, number(at + 8)? as usize);
        let value = at.checked_add(16).and_then(|from| block.get(from..from.checked_add(len)?));
        bucket.insert(key, value.ok_or("a damaged bucket")?.to_vec());
        at += 16 + len;
    }
    Ok((bucket, has))
}

fn write_file(fs: &dyn FileSystem, path: &Path, blocks: &[(u64, Vec<u8>)]) -> Result<(), BoxError> {
    let file = if fs.exists(path)? { fs.open(path, Access::ReadWrite)? } else { fs.create_new(path)? };
    for (number, block) in blocks {
        file.write_all_at(block, number * BLOCK as u64)?;
    }
    file.sync_all()?;
    Ok(fs.sync_dir(path.parent().ok_or("no folder")?)?)
}

fn read_file(fs: &dyn FileSystem, path: &Path) -> Result<Option<Vec<u8>>, BoxError> {
    if !fs.exists(path)? {
        return Ok(None);
    }
    let file = fs.open(path, Access::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

impl Store {
    fn open(env: &Env, dir: &Path, engine: Buckets, create: bool) -> Result<Store, BoxError> {
        let (fs, log, fault) = (env.fs.as_ref(), dir.join("log"), engine.fault);
        let wal_options = WalOptions { background: false, ..WalOptions::default() };
        let (restored, mut state) = (read_file(fs, &dir.join("restored"))?, State::default());
        let mut has = BTreeMap::new();
        let has_log = match Wal::open(env, &log, Lsn::ORIGIN, &wal_options) {
            Err(pitr::wal::Error::NoLog { .. }) => None,
            opened => Some(opened?.0),
        };
        if fault != Some(Fault::ForgetsRestored) || has_log.is_none() {
            let data = read_file(fs, &dir.join("data"))?.unwrap_or_default();
            if fault != Some(Fault::NoMark) && data.starts_with(MARK) {
                return Err("an unfinished restore".into());
            }
            for (number, block) in data.chunks(BLOCK).enumerate() {
                // A block that a power loss tore is in the log.
                let decoded = decode(block);
                let (bucket, of_replay) =
                    if has_log.is_some() { decoded.unwrap_or_default() } else { decoded? };
                state.buckets.insert(number as u64, bucket);
                has.insert(number as u64, of_replay);
            }
        }
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(restored.as_ref()?.get(at..at + 8)?.try_into().ok()?))
        };
        let last = (|| {
            let (tx, lsn, time) = (TxId::new(number(0)?), Lsn::new(number(8)?), number(16)?);
            Some(Committed { tx, lsn, time: Timestamp::from_micros(time as i64) })
        })();
        let wal = match (has_log, last) {
            (Some(wal), _) => wal,
            (None, None) if !create => return Err("no store is here".into()),
            (None, last) => {
                fs.create_dir_all(dir)?;
                let start =
                    Start { segment_size: SegmentSize::new(16 << 10)?, ..Start::first(env.random_bytes()?) };
                let start = match last {
                    None => start,
                    Some(Committed { lsn, time, .. }) => Start { follows: lsn, time, ..start },
                };
                Wal::create(env, &log, &start, &wal_options)?
            }
        };
        state.last = last;
        let scan = wal.scan(wal.first(), wal.durable())?;
        state.next = state.last.map_or(0, |last| last.tx.get()) + 1;
        scan.for_each::<pitr::wal::Error>(|record| {
            if let Ok(Record::Commit(commit)) = Record::decode(record.kind, record.payload) {
                state.last = Some(Committed { tx: record.tx, lsn: record.end, time: commit.time });
                state.next = state.next.max(record.tx.get() + 1);
            }
            Ok(())
        })?;
        let mut images: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        scan.for_each_committed::<pitr::wal::Error>(|record| {
            if let Ok(Record::Image { block, data, .. }) = Record::decode(record.kind, record.payload) {
                images.insert(block, data.to_vec());
            }
            Ok(())
        })?;
        for (number, block) in images {
            state.buckets.insert(number, decode(&block)?.0);
        }
        if engine.is_logical {
            let recovered = redo::recover(&scan, fault, &state.buckets, &has, wal.durable())?;
            for (number, (bucket, has)) in recovered {
                state.buckets.insert(number, bucket);
                state.changed.insert(number, has.commit);
            }
        }
        Ok(Store { env: env.clone(), dir: dir.to_owned(), engine, wal, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn has(&self, fault: Fault) -> bool {
        self.engine.fault == Some(fault)
    }

    /// True if writes of the key are logged, and not its bucket.
    fn is_logical(&self, number: u64) -> bool {
        self.engine.is_logical && number >= LOGICAL
    }

    /// Logs writes of a transaction that goes on.
    fn flush(&self, id: u64, unlogged: &Writes) -> Result<(), BoxError> {
        let (mut state, mut batch) = (self.state(), BatchBuilder::new());
        let (tx, first) = *state.logged.get(&id).unwrap_or(&(TxId::new(state.next), Lsn::MAX));
        self.push_writes(&mut batch, tx, unlogged)?;
        if !batch.is_empty() {
            let first = first.min(self.wal.append(batch)?.first);
            state.logged.insert(id, (tx, first));
            state.next = state.next.max(tx.get() + 1);
        }
        Ok(())
    }

    fn push_writes(&self, batch: &mut BatchBuilder, tx: TxId, writes: &Writes) -> Result<(), BoxError> {
        for (key, value) in writes.iter().filter(|(key, _)| self.is_logical(*key % BUCKETS)) {
            let partition = PartitionId::new((key % BUCKETS) as u32 + 1);
            batch.push(partition, tx, &Record::Data(&redo::encode(*key, value.as_deref())))?;
        }
        Ok(())
    }

    fn commit(&self, id: u64, writes: Writes, unlogged: &Writes) -> Result<Committed, BoxError> {
        let mut state = self.state();
        state.open.remove(&id);
        let logged = state.logged.remove(&id);
        let (tx, mut batch) = (logged.map_or(TxId::new(state.next), |(tx, _)| tx), BatchBuilder::new());
        let touched: BTreeSet<u64> = writes.keys().map(|key| key % BUCKETS).collect();
        let (logical, touched): (BTreeSet<u64>, BTreeSet<u64>) =
            touched.into_iter().partition(|number| self.is_logical(*number));
        self.push_writes(&mut batch, tx, unlogged)?;
        apply(&mut state.buckets, &writes);
        for number in touched {
            let mut bucket = state.buckets.entry(number).or_default().clone();
            if self.has(Fault::OthersChanges) {
                show_open(&state.open, number, &mut bucket);
            }
            let data = encode(&bucket, Has::default());
            let data = if self.has(Fault::Deltas) { &data[..BLOCK / 2] } else { &data };
            let own = if self.has(Fault::Partitions) { tx.get() } else { number };
            let partition = PartitionId::new(own as u32 + 1);
            batch.push(partition, tx, &Record::Image { file: FILE, block: number, data })?;
        }
        if self.has(Fault::Logical) {
            batch.push(PartitionId::new(100), tx, &Record::Data(b"how many rows there are"))?;
        }
        let (now, first) = (self.env.clock.now(), logged.map(|(_, first)| first));
        batch.push_commit(PartitionId::FIRST, tx, Some(now), first, b"")?;
        let appended =
            if self.has(Fault::NoSync) { self.wal.append(batch)? } else { self.wal.commit(batch)? };
        let mut committed = appended.commits[0];
        if self.has(Fault::OtherTime) {
            committed.time = Timestamp::from_micros(committed.time.micros() + 1);
        }
        state.changed.extend(logical.into_iter().map(|number| (number, committed.lsn)));
        (state.last, state.next) = (Some(committed), state.next.max(tx.get() + 1));
        Ok(committed)
    }
}

fn apply(buckets: &mut BTreeMap<u64, Bucket>, writes: &Writes) {
    for (key, value) in writes {
        let bucket = buckets.entry(key % BUCKETS).or_default();
        match value {
            Some(value) => drop(bucket.insert(*key, value.clone())),
            None => drop(bucket.remove(key)),
        }
    }
}

/// Adds the writes of open transactions to a bucket.
fn show_open(open: &BTreeMap<u64, Writes>, number: u64, bucket: &mut Bucket) {
    let mut buckets = BTreeMap::from([(number, std::mem::take(bucket))]);
    open.values().for_each(|writes| apply(&mut buckets, writes));
    *bucket = buckets.remove(&number).unwrap_or_default();
}

struct Open<'s> {
    store: &'s Store,
    id: u64,
    writes: Writes,
    /// Those that are not in the log yet.
    unlogged: Writes,
}

impl Open<'_> {
    fn write(&mut self, key: u64, value: Option<Vec<u8>>) -> Result<(), BoxError> {
        self.writes.insert(key, value.clone());
        self.unlogged.insert(key, value);
        self.store.state().open.insert(self.id, self.writes.clone());
        Ok(())
    }
}

impl Transaction for Open<'_> {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<(), BoxError> {
        self.write(key, Some(value.to_vec()))
    }

    fn delete(&mut self, key: u64) -> Result<(), BoxError> {
        self.write(key, None)
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        self.store.flush(self.id, &std::mem::take(&mut self.unlogged))
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, BoxError> {
        self.store.commit(self.id, std::mem::take(&mut self.writes), &self.unlogged)
    }

    fn abort(self: Box<Self>) -> Result<(), BoxError> {
        if self.store.has(Fault::AbortWrites) {
            apply(&mut self.store.state().buckets, &self.writes);
        }
        Ok(())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.store.state();
        state.open.remove(&self.id);
        state.logged.remove(&self.id);
    }
}

/// A snapshot that is being taken.
struct Taking<'s> {
    store: &'s Store,
    begin: ConsistentAt,
    redo_from: Lsn,
}

impl Store {
    fn at(&self) -> Result<ConsistentAt, BoxError> {
        let last = self.state().last;
        self.wal.sync()?;
        let empty = ConsistentAt { lsn: self.wal.first(), tx: TxId::NONE, time: Timestamp::MIN };
        Ok(last.map_or(empty, |Committed { tx, lsn, time }| ConsistentAt { lsn, tx, time }))
    }
}

impl BlockSource for Taking<'_> {
    fn files(&self) -> Vec<FileShape> {
        let (len, block_bytes) = (BUCKETS * BLOCK as u64, BLOCK as u32);
        vec![FileShape { file: FILE, name: "data".to_owned(), len, block_bytes }]
    }

    fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        if self.store.has(Fault::StaleRead) {
            let data =
                read_file(self.store.env.fs.as_ref(), &self.store.dir.join("data"))?.unwrap_or_default();
            let stale = data.get(offset as usize..).unwrap_or_default();
            let len = stale.len().min(buf.len());
            buf.fill(0);
            buf[..len].copy_from_slice(&stale[..len]);
            return Ok(());
        }
        let state = self.store.state();
        for (block, number) in buf.chunks_mut(BLOCK).zip(offset / BLOCK as u64..) {
            let mut bucket = state.buckets.get(&number).cloned().unwrap_or_default();
            if self.store.has(Fault::EarlyWrites) {
                show_open(&state.open, number, &mut bucket);
            }
            // It has everything up to its last commit, and nothing of open transactions.
            let commit = state.changed.get(&number).copied().unwrap_or_default();
            let has = Has { commit, ..Has::default() };
            block.copy_from_slice(&encode(&bucket, has)[..block.len()]);
            if self.store.has(Fault::Unlogged) {
                block[BLOCK - 1] = state.checkpoints;
            }
        }
        Ok(())
    }
}

impl FuzzySource for Taking<'_> {
    fn redo_from(&self) -> Lsn {
        self.redo_from
    }

    fn consistent_at(&self) -> Result<ConsistentAt, BoxError> {
        if self.store.has(Fault::EarlyEnd) { Ok(self.begin) } else { self.store.at() }
    }

    fn changes_since(&self, _: Lsn) -> Result<Option<ChangeSet>, BoxError> {
        Ok(self.store.has(Fault::Untracked).then(ChangeSet::new))
    }
}

impl Engine for Buckets {
    fn name(&self) -> &'static str {
        "buckets"
    }

    fn detect(&self, path: &Path) -> bool {
        path.join("data").is_file()
    }

    fn restore_target(&self) -> Option<&dyn RestoreTarget> {
        Some(self)
    }
}

impl RestoreTarget for Buckets {
    fn lay_out(&self, _: &RestoreState<'_>) -> pitr::recovery::Result<Layout> {
        let files = vec![FilePlace::new(FILE, "data")];
        Ok(Layout::Folder(FolderLayout { folders: Vec::new(), files }))
    }

    fn mark(&self) -> Option<&'static [u8]> {
        (self.fault != Some(Fault::NoMark)).then_some(MARK)
    }

    fn replays(&self, partition: PartitionId) -> bool {
        self.is_logical && u64::from(partition.get()) > LOGICAL
    }

    fn redo<'a>(&'a self, unfinished: &Unfinished<'a>) -> pitr::recovery::Result<Option<Box<dyn Redo + 'a>>> {
        let path = unfinished.path.join("data");
        let file = unfinished.fs.open(&path, Access::ReadWrite);
        let file = file.map_err(|source| pitr::recovery::Error::Io { op: "open", path, source })?;
        Ok(Some(Box::new(BucketRedo::over(file, self.fault))))
    }

    fn finish(&self, unfinished: &Unfinished<'_>) -> pitr::recovery::Result<Finished> {
        let (path, reached) = (unfinished.path.join("restored"), unfinished.reached);
        let mut state = Vec::new();
        for part in [reached.tx.get(), reached.lsn.get(), reached.time.micros() as u64] {
            state.extend(part.to_le_bytes());
        }
        if self.fault == Some(Fault::Unequal) {
            let beside = unfinished.path.parent().and_then(|folder| unfinished.fs.list(folder).ok());
            state.push(beside.map_or(0, |names| names.len()) as u8);
        }
        // The store opens when this file is there: the mark must be durable before.
        let synced = match self.fault {
            Some(Fault::NoMark) => Ok(()),
            _ => unfinished.fs.sync_below(unfinished.path),
        };
        let written = synced
            .and_then(|()| unfinished.fs.create_new(&path))
            .and_then(|file| file.write_all_at(&state, 0));
        written.map_err(|source| pitr::recovery::Error::Io { op: "write", path, source })?;
        Ok(Finished::default())
    }
}

impl Subject for Buckets {
    type Store = Store;

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(*self)
    }

    fn limits(&self) -> Limits {
        Limits::default().logical(self.is_logical)
    }

    fn create(&self, env: &Env, dir: &Path) -> Result<Store, BoxError> {
        Store::open(env, dir, *self, true)
    }

    fn open(&self, env: &Env, dir: &Path) -> Result<Store, BoxError> {
        Store::open(env, dir, *self, false)
    }

    fn begin<'s>(&self, store: &'s Store) -> Result<Box<dyn Transaction + 's>, BoxError> {
        let mut state = store.state();
        state.opened += 1;
        Ok(Box::new(Open { store, id: state.opened, writes: Writes::new(), unlogged: Writes::new() }))
    }

    fn rows(&self, store: &Store) -> Result<Rows, BoxError> {
        Ok(store.state().buckets.values().flatten().map(|(key, value)| (*key, value.clone())).collect())
    }

    fn checkpoint(&self, store: &Store) -> Result<(), BoxError> {
        let mut state = store.state();
        store.wal.sync()?;
        state.checkpoints += 1;
        let mut blocks = Vec::new();
        for (number, bucket) in state.buckets.iter().filter(|(number, _)| !store.is_logical(**number)) {
            let mut bucket = bucket.clone();
            if store.has(Fault::EarlyWrites) {
                show_open(&state.open, *number, &mut bucket);
            }
            blocks.push((*number, encode(&bucket, Has::default())));
        }
        write_file(store.env.fs.as_ref(), &store.dir.join("data"), &blocks)
    }

    fn wal<'s>(&self, store: &'s Store) -> &'s Wal {
        &store.wal
    }

    fn begin_snapshot<'s>(&self, store: &'s Store) -> Result<Box<dyn FuzzySource + 's>, BoxError> {
        let begin = store.at()?;
        let first = store.state().logged.values().map(|(_, first)| *first).fold(begin.lsn, Lsn::min);
        let redo_from = if store.has(Fault::ForgetsOpen) { begin.lsn } else { first };
        Ok(Box::new(Taking { store, begin, redo_from }))
    }
}
