//! A log on a simulated disk, and the commits that it contains.

use crate::input::Input;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{Lsn, PartitionId, SegmentSize, Timestamp, TxId};
use pitr_vfs::Env;
use pitr_vfs::sim::{Disk, SimClock, SimFs};
use pitr_wal::{BatchBuilder, Error, LogReader, Records, Recovered, Start, Wal, WalOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size of each segment, bytes.
pub(crate) const SEGMENT_BYTES: u32 = 16 << 10;

pub(crate) fn dir() -> &'static Path {
    Path::new("/log")
}

/// Path of a segment's file.
pub(crate) fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

fn options() -> WalOptions {
    WalOptions { background: false, ..WalOptions::default() }
}

fn env(fs: &SimFs) -> Env {
    let clock = SimClock::new(Timestamp::from_micros(1_000));
    Env::system().with_fs(Arc::new(fs.clone())).with_clock(Arc::new(clock))
}

pub(crate) fn create(fs: &SimFs) -> Wal {
    let segment_size = SegmentSize::new(SEGMENT_BYTES).expect("a power of two in range");
    let start = Start { segment_size, ..Start::first([7; 16]) };
    Wal::create(&env(fs), dir(), &start, &options()).expect("the simulated disk works")
}

pub(crate) fn open(disk: Disk, archived_to: Lsn) -> Result<(SimFs, Wal, Recovered), Error> {
    let fs = SimFs::on(disk);
    let (wal, recovered) = Wal::open(&env(&fs), dir(), archived_to, &options())?;
    Ok((fs, wal, recovered))
}

/// A transaction that was written to or read from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) tx: u64,
    /// End of its commit record.
    pub(crate) end: Lsn,
}

/// Builds a transaction of `len` bytes.
pub(crate) fn transaction(tx: u64, len: usize) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    let bytes: Vec<u8> = (0..len).map(|at| (at as u64 * 31 + tx) as u8).collect();
    batch.push(PartitionId::FIRST, TxId::new(tx), &Record::Data(&bytes)).expect("a record within the limits");
    batch
        .push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"")
        .expect("a commit within the limits");
    batch
}

/// The commits in a log, in order.
pub(crate) fn shown(reader: &mut LogReader) -> Result<Vec<Shown>, Error> {
    let (mut records, mut all) = (Records::from_anywhere(), Vec::new());
    while let Some(batch) = reader.next_batch()? {
        records.feed::<Error>(&batch, |record| {
            if record.kind == RecordKind::Commit as u8 {
                all.push(Shown { tx: record.tx.get(), end: record.end });
            }
            // The content does not matter here. Decoding it must not panic.
            let _ = Record::decode(record.kind, record.payload);
            Ok(())
        })?;
    }
    Ok(all)
}

/// Damages a file as the input selects. Small numbers are easier for a fuzzer to find.
pub(crate) fn damage(disk: &mut Disk, path: &Path, input: &mut Input<'_>) {
    let Some(bytes) = disk.read(path).filter(|bytes| !bytes.is_empty()) else { return };
    let how = input.u8();
    let at = usize::from(input.u16()) % bytes.len();
    let len = usize::from(input.u8());
    match how % 5 {
        0 => drop(disk.damage(path, at as u64, input.take(len.min(32)))),
        1 => drop(disk.damage(path, at as u64, &vec![0; (len * 64).min(bytes.len() - at)])),
        2 => drop(disk.damage(path, at as u64, &[bytes[at] ^ (1 << (len % 8))])),
        3 => {
            // Bytes from elsewhere in the file, as an older incarnation or a misdirected write
            // leaves them.
            let from = usize::from(input.u16()) % bytes.len();
            let len = (len * 16).min(bytes.len() - from.max(at));
            disk.damage(path, at as u64, &bytes[from..from + len]);
        }
        _ => drop(disk.damage(path, (at as u64).next_multiple_of(8) % bytes.len() as u64, b"PBAT")),
    }
}
