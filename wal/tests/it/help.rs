//! Helpers of the tests.

use pitr_format::log::WholeRecord;
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, SegmentSize, TxId};
use pitr_vfs::{Clock, Env, FileSystem};
use pitr_wal::{BatchBuilder, Error, LogBatch, LogReader, LogScan, Records, Start, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

pub(crate) const P: PartitionId = PartitionId::FIRST;

/// A record that was read: kind, transaction, payload, start, end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: u8,
    pub(crate) tx: TxId,
    pub(crate) payload: Vec<u8>,
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
}

/// This file system and this clock, with threads of the operating system.
pub(crate) fn env(fs: Arc<dyn FileSystem>, clock: Arc<dyn Clock>) -> Env {
    Env::system().with_fs(fs).with_clock(clock)
}

pub(crate) fn start(segment_bytes: u32) -> Start {
    Start { segment_size: SegmentSize::new(segment_bytes).unwrap(), ..Start::first([7; 16]) }
}

/// Everything on the caller's thread, so that a trace is the same each time.
pub(crate) fn options() -> WalOptions {
    WalOptions { background: false, ..WalOptions::default() }
}

/// One transaction: these payloads, then its commit.
pub(crate) fn transaction(tx: u64, payloads: &[&[u8]]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for payload in payloads {
        batch.push(P, TxId::new(tx), &Record::Data(payload)).unwrap();
    }
    batch.push_commit(P, TxId::new(tx), None, None, b"").unwrap();
    batch
}

pub(crate) fn batches(reader: &mut LogReader) -> Result<Vec<LogBatch>, Error> {
    let mut all = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        all.push(batch);
    }
    Ok(all)
}

fn seen(r: &WholeRecord<'_>) -> Seen {
    Seen { kind: r.kind, tx: r.tx, payload: r.payload.to_vec(), lsn: r.lsn, end: r.end }
}

pub(crate) fn records(reader: &mut LogReader) -> Result<Vec<Seen>, Error> {
    let (mut all, mut records) = (Vec::new(), Records::new());
    while let Some(batch) = reader.next_batch()? {
        records.feed::<Error>(&batch, |record| {
            all.push(seen(record));
            Ok(())
        })?;
    }
    Ok(all)
}

/// The records of a scan, one after another.
pub(crate) fn scanned(scan: &LogScan) -> Result<Vec<Seen>, Error> {
    let mut all = Vec::new();
    scan.for_each::<Error>(|record| {
        all.push(seen(record));
        Ok(())
    })?;
    Ok(all)
}

/// The records of a scan with segments read in parallel.
pub(crate) fn folded(scan: &LogScan) -> Result<Vec<Seen>, Error> {
    let each = |all: &mut Vec<Seen>, record: &WholeRecord<'_>| {
        all.push(seen(record));
        Ok(())
    };
    let merge = |mut before: Vec<Seen>, next| {
        before.extend(next);
        before
    };
    Ok(scan.fold::<_, Error>(|_| Vec::new(), each, merge)?.unwrap_or_default())
}

/// All records of the log, by its own reader, by a reader of its folder, and by scans: they must
/// agree.
pub(crate) fn everything(wal: &Wal, fs: &Arc<dyn FileSystem>, dir: &Path) -> Vec<Seen> {
    let live = records(&mut wal.reader(wal.first()).unwrap()).unwrap();
    let cold = records(&mut LogReader::open(Arc::clone(fs), dir, wal.first(), wal.durable())).unwrap();
    assert_eq!(live, cold);
    let scan = wal.scan(wal.first(), wal.durable()).unwrap();
    assert!(
        live == scanned(&scan).unwrap() && live == folded(&scan).unwrap(),
        "a scan differs from a reader"
    );
    live
}
