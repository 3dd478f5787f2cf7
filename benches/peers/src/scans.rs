//! Reads a log back after reopening. The log is written once, without measuring, and stays in the
//! page cache. Then it is opened again and read to its end, in the way that the log's documentation
//! recommends.

use crate::Result;
use crate::logs;
use okaywal::{Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};
use pitr_format::log::WholeRecord;
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Wal, WalOptions};
use redb::ReadableDatabase;
use redb::ReadableTable;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Payload in each log, bytes.
const LOG_BYTES: u64 = 1_000_000_000;
/// The same for a log whose batches have one record each.
const LOG_BYTES_APART: u64 = 100_000_000;
/// Number of records in one write.
const AT_ONCE: u64 = 8_192;

/// Number of records that were read back, and the time for opening and reading.
pub fn run(name: &str, dir: &Path, payload: &[u8]) -> Result<(u64, Duration)> {
    let records = LOG_BYTES / payload.len() as u64;
    let (expected, (found, took)) = match name {
        "pitr" => (records, pitr(dir, payload, records, AT_ONCE)?),
        "pitr-apart" => {
            let records = LOG_BYTES_APART / payload.len() as u64;
            (records, pitr(dir, payload, records, 1)?)
        }
        "raft-engine" => (records, raft(dir, payload, records)?),
        "okaywal" => (records, okay(dir, payload, records)?),
        "fjall" => (records, fjall(dir, payload, records)?),
        "sled" => (records, sled(dir, payload, records)?),
        "redb" => (records, redb(dir, payload, records)?),
        "sqlite" => (records, sqlite(dir, payload, records)?),
        other => return Err(format!("no log {other}").into()),
    };
    if found != expected {
        Err(format!("{name}: {found} of {expected} records").into())
    } else {
        Ok((found, took))
    }
}

/// Numbers of the records, in runs of at most `at_once`.
fn runs(records: u64, at_once: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..records).step_by(at_once as usize).map(move |begin| begin..records.min(begin + at_once))
}

fn pitr(dir: &Path, payload: &[u8], records: u64, at_once: u64) -> Result<(u64, Duration)> {
    let wal = logs::pitr(dir)?;
    let mut batch = BatchBuilder::new();
    for run in runs(records, at_once) {
        for n in run {
            batch.push(PartitionId::FIRST, TxId::new(n + 1), &Record::Data(payload))?;
        }
        wal.append(&mut batch)?;
        if at_once == 1 {
            wal.flush()?; // A flush ends the batch.
        }
    }
    wal.sync()?;
    drop(wal);
    let begun = Instant::now();
    let (wal, recovered) = Wal::open(&Env::system(), &dir.join("log"), Lsn::ORIGIN, &WalOptions::default())?;
    let scan = wal.scan(recovered.first, recovered.end)?;
    let each = |count: &mut u64, record: &WholeRecord<'_>| {
        *count += u64::from(!record.payload.is_empty());
        Ok::<(), pitr_wal::Error>(())
    };
    let found = scan.fold(|_| 0, each, |a, b| a + b)?.unwrap_or(0);
    Ok((found, begun.elapsed()))
}

fn raft(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let engine = logs::raft(dir)?;
    for run in runs(records, AT_ONCE) {
        let mut batch = raft_engine::LogBatch::default();
        for n in run {
            batch.put(1, n.to_be_bytes().to_vec(), payload.to_vec())?;
        }
        engine.write(&mut batch, false)?;
    }
    engine.sync()?;
    drop(engine);
    let begun = Instant::now();
    let engine = logs::raft(dir)?;
    let mut found = 0;
    engine.scan_raw_messages(1, None, None, false, |_, value| {
        found += u64::from(!value.is_empty());
        true
    })?;
    Ok((found, begun.elapsed()))
}

/// Counts the recovered entries, and never checkpoints.
#[derive(Debug, Default)]
struct Counts(Arc<AtomicU64>);

impl LogManager for Counts {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(std::io::Error::other("a chunk is damaged"));
            }
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> std::io::Result<()> {
        Ok(())
    }
}

fn okay(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let config = || {
        okaywal::Configuration::default_for(dir).checkpoint_after_bytes(4 * LOG_BYTES).buffer_bytes(64 << 10)
    };
    let log = config().open(Counts::default())?;
    for run in runs(records, AT_ONCE) {
        let mut entry = log.begin_entry()?;
        for _ in run {
            entry.write_chunk(payload)?;
        }
        entry.commit()?;
    }
    drop(log);
    let begun = Instant::now();
    let counts = Arc::default();
    let _log = config().open(Counts(Arc::clone(&counts)))?;
    let took = begun.elapsed();
    Ok((counts.load(Ordering::Relaxed), took))
}

fn fjall(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let open = || -> Result<_> {
        let database = fjall::Database::builder(dir).open()?;
        let items = database.keyspace("items", fjall::KeyspaceCreateOptions::default)?;
        Ok((database, items))
    };
    let (database, items) = open()?;
    (0..records).try_for_each(|n| items.insert(n.to_be_bytes(), payload))?;
    database.persist(fjall::PersistMode::SyncAll)?;
    drop((items, database));
    let begun = Instant::now();
    let (_database, items) = open()?;
    let mut found = 0;
    for item in items.iter() {
        found += u64::from(!item.value()?.is_empty());
    }
    Ok((found, begun.elapsed()))
}

fn sled(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let open = || sled::Config::new().path(dir).flush_every_ms(None).open();
    let log = open()?;
    for run in runs(records, AT_ONCE) {
        let mut batch = sled::Batch::default();
        run.for_each(|n| batch.insert(&n.to_be_bytes(), payload));
        log.apply_batch(batch)?;
    }
    log.flush()?;
    drop(log);
    let begun = Instant::now();
    let log = open()?;
    let mut found = 0;
    for item in log.iter() {
        found += u64::from(!item?.1.is_empty());
    }
    Ok((found, begun.elapsed()))
}

fn redb(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let path = dir.join("redb");
    let database = redb::Database::create(&path)?;
    for run in runs(records, 64 * AT_ONCE) {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(logs::TABLE)?;
            for n in run {
                table.insert(n, payload)?;
            }
        }
        transaction.commit()?;
    }
    drop(database);
    let begun = Instant::now();
    let database = redb::Database::open(&path)?;
    let mut found = 0;
    for item in database.begin_read()?.open_table(logs::TABLE)?.iter()? {
        found += u64::from(!item?.1.value().is_empty());
    }
    Ok((found, begun.elapsed()))
}

fn sqlite(dir: &Path, payload: &[u8], records: u64) -> Result<(u64, Duration)> {
    let path = dir.join("items.db");
    let connection = rusqlite::Connection::open(&path)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE items(n INTEGER PRIMARY KEY, v BLOB)",
    )?;
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    for run in runs(records, 64 * AT_ONCE) {
        connection.execute_batch("BEGIN")?;
        for n in run {
            connection.prepare_cached("INSERT INTO items VALUES (?, ?)")?.execute((n as i64, payload))?;
        }
        connection.execute_batch("COMMIT")?;
    }
    drop(connection);
    let begun = Instant::now();
    let connection = rusqlite::Connection::open(&path)?;
    let mut statement = connection.prepare("SELECT v FROM items")?;
    let (mut rows, mut found) = (statement.query([])?, 0);
    while let Some(row) = rows.next()? {
        found += u64::from(!row.get_ref(0)?.as_blob()?.is_empty());
    }
    Ok((found, begun.elapsed()))
}
