//! The compared logs, each with the same two operations.

use crate::Result;
use pitr_format::record::Record;
use pitr_format::{PartitionId, TxId};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Start, Wal, WalOptions};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A log under test. `n` is different at each call, for logs that need a key.
pub trait Log: Sync {
    /// Appends a payload. It is durable on return.
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()>;
    /// Appends a payload without a sync.
    fn append(&self, n: u64, payload: &[u8]) -> Result<()>;
}

/// The log of this name, in an empty folder.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Log>> {
    Ok(match name {
        "bare" => Box::new(Bare::new(dir)?),
        "pitr" => Box::new(Pitr(pitr(dir)?)),
        "raft-engine" => Box::new(Raft(raft(dir)?)),
        "okaywal" => Box::new(Okay::new(dir)?),
        "fjall" => Box::new(Fjall::new(dir)?),
        "sled" => Box::new(Sled(sled::Config::new().path(dir).flush_every_ms(None).open()?)),
        "redb" => Box::new(Redb(redb::Database::create(dir.join("redb"))?)),
        "sqlite" => Box::new(Sqlite::new(dir)?),
        other => return Err(format!("no log {other}").into()),
    })
}

/// The bound: a single file, filled with zeros in advance. Each write is followed by an
/// `fdatasync`.
struct Bare {
    file: File,
    at: Mutex<u64>,
}

const BARE_BYTES: u64 = 256 << 20;

impl Bare {
    fn new(dir: &Path) -> Result<Self> {
        let mut file = File::options().create_new(true).read(true).write(true).open(dir.join("bare"))?;
        (0..BARE_BYTES >> 20).try_for_each(|_| file.write_all(&[0; 1 << 20]))?;
        file.sync_all()?;
        Ok(Bare { file, at: Mutex::new(0) })
    }
}

impl Log for Bare {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.append(n, payload)?;
        Ok(self.file.sync_data()?)
    }

    fn append(&self, _: u64, payload: &[u8]) -> Result<()> {
        let mut at = self.at.lock().map_err(|_| "poisoned")?;
        self.file.write_all_at(payload, *at)?;
        *at = (*at + payload.len() as u64) % (BARE_BYTES - (1 << 20));
        Ok(())
    }
}

/// A log of `pitr-wal` in an empty folder.
pub fn pitr(dir: &Path) -> Result<Wal> {
    let start = Start::first([1; 16]);
    Ok(Wal::create(&Env::system(), &dir.join("log"), &start, &WalOptions::default())?)
}

struct Pitr(Wal);

thread_local! {
    static BATCH: RefCell<BatchBuilder> = RefCell::default();
}

/// A transaction of one record.
fn transaction(batch: &mut BatchBuilder, n: u64, payload: &[u8]) -> Result<()> {
    batch.push(PartitionId::FIRST, TxId::new(n + 1), &Record::Data(payload))?;
    Ok(batch.push_commit(PartitionId::FIRST, TxId::new(n + 1), None, None, b"")?)
}

/// Removes old log from time to time, as an engine does after a checkpoint. The segment files are
/// then recycled.
fn trim(wal: &Wal, n: u64, payload: &[u8]) -> Result<()> {
    if n.is_multiple_of(TRIM_BYTES / (payload.len() as u64 + 24)) {
        wal.remove_below(wal.durable())?;
    }
    Ok(())
}

const TRIM_BYTES: u64 = 64 << 20;

impl Log for Pitr {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        BATCH.with_borrow_mut(|batch| {
            transaction(batch, n, payload)?;
            self.0.commit(batch)?;
            trim(&self.0, n, payload)
        })
    }

    fn append(&self, n: u64, payload: &[u8]) -> Result<()> {
        BATCH.with_borrow_mut(|batch| {
            batch.push(PartitionId::FIRST, TxId::new(n + 1), &Record::Data(payload))?;
            self.0.append(batch)?;
            trim(&self.0, n, payload)
        })
    }
}

/// One thread submits transactions, another waits for the newest ticket repeatedly. Returns the
/// number of durable commits and the time that they took.
pub fn pitr_tickets(dir: &Path, payload: &[u8], time: Duration) -> Result<(u64, Duration)> {
    let wal = pitr(dir)?;
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    let count = std::thread::scope(|scope| -> Result<u64> {
        let waiter = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                wal.sync()?;
            }
            Ok(())
        });
        let mut batch = BatchBuilder::new();
        let mut count = 0;
        let mut last = None;
        while count % 64 != 0 || begun.elapsed() < time {
            transaction(&mut batch, count, payload)?;
            last = Some(wal.submit(&mut batch)?);
            trim(&wal, count, payload)?;
            count += 1;
        }
        last.map(pitr_wal::Ticket::wait).transpose()?;
        done.store(true, Ordering::Relaxed);
        waiter.join().map_err(|_| "a thread panicked")??;
        Ok(count)
    })?;
    Ok((count, begun.elapsed()))
}

/// A log of raft-engine that recycles its files and does not compress.
pub fn raft(dir: &Path) -> Result<raft_engine::Engine> {
    let config = raft_engine::Config {
        dir: dir.to_string_lossy().into_owned(),
        enable_log_recycle: true,
        prefill_for_recycle: true,
        purge_threshold: raft_engine::ReadableSize::mb(512),
        batch_compression_threshold: raft_engine::ReadableSize(0),
        ..raft_engine::Config::default()
    };
    Ok(raft_engine::Engine::open(config)?)
}

struct Raft(raft_engine::Engine);

impl Raft {
    fn write(&self, n: u64, payload: &[u8], sync: bool) -> Result<()> {
        let mut batch = raft_engine::LogBatch::default();
        // Few keys, so that the engine's index of the newest value of each key takes no time.
        batch.put(1 + n % 64, b"key".to_vec(), payload.to_vec())?;
        self.0.write(&mut batch, sync)?;
        Ok(())
    }
}

impl Log for Raft {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.write(n, payload, true)
    }

    fn append(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.write(n, payload, false)
    }
}

struct Okay(okaywal::WriteAheadLog);

impl Okay {
    fn new(dir: &Path) -> Result<Self> {
        let config = okaywal::Configuration::default_for(dir)
            .preallocate_bytes(16 << 20)
            .checkpoint_after_bytes(15 << 20)
            .buffer_bytes(64 << 10);
        Ok(Okay(config.open(okaywal::LogVoid)?))
    }
}

impl Log for Okay {
    fn commit(&self, _: u64, payload: &[u8]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(payload)?;
        entry.commit()?;
        Ok(())
    }

    fn append(&self, _: u64, _: &[u8]) -> Result<()> {
        Err("okaywal always syncs".into())
    }
}

struct Fjall {
    database: fjall::Database,
    items: fjall::Keyspace,
}

impl Fjall {
    fn new(dir: &Path) -> Result<Self> {
        let database = fjall::Database::builder(dir).open()?;
        let items = database.keyspace("items", fjall::KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, items })
    }
}

impl Log for Fjall {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.append(n, payload)?;
        Ok(self.database.persist(fjall::PersistMode::SyncData)?)
    }

    fn append(&self, n: u64, payload: &[u8]) -> Result<()> {
        Ok(self.items.insert(n.to_be_bytes(), payload)?)
    }
}

struct Sled(sled::Db);

impl Log for Sled {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.append(n, payload)?;
        self.0.flush()?;
        Ok(())
    }

    fn append(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.0.insert(n.to_be_bytes(), payload)?;
        Ok(())
    }
}

struct Redb(redb::Database);

/// The one table of a redb file.
pub const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("items");

impl Redb {
    fn write(&self, n: u64, payload: &[u8], durability: redb::Durability) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(durability)?;
        transaction.open_table(TABLE)?.insert(n, payload)?;
        Ok(transaction.commit()?)
    }
}

impl Log for Redb {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.write(n, payload, redb::Durability::Immediate)
    }

    fn append(&self, n: u64, payload: &[u8]) -> Result<()> {
        self.write(n, payload, redb::Durability::None)
    }
}

/// A single connection behind a lock, because SQLite has one writer at a time.
struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    fn new(dir: &Path) -> Result<Self> {
        let connection = rusqlite::Connection::open(dir.join("items.db"))?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE items(n INTEGER PRIMARY KEY, v BLOB)",
        )?;
        Ok(Sqlite(Mutex::new(connection)))
    }
}

impl Log for Sqlite {
    fn commit(&self, n: u64, payload: &[u8]) -> Result<()> {
        let connection = self.0.lock().map_err(|_| "poisoned")?;
        connection.prepare_cached("INSERT INTO items VALUES (?, ?)")?.execute((n as i64, payload))?;
        Ok(())
    }

    fn append(&self, _: u64, _: &[u8]) -> Result<()> {
        Err("measured with synchronous=FULL only".into())
    }
}
