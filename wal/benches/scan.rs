//! Reads a log of 128-byte records from a warm cache: by a reader, by a scan, and by a scan of
//! several threads; each with batches of a megabyte and with batches of one record. A record with
//! its header has 152 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::log::WholeRecord;
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_testkit::{Outcome, TestFs};
use pitr_vfs::Env;
use pitr_wal::{BatchBuilder, Error, Records, Start, Wal, WalOptions};
use std::sync::Arc;

const PAYLOAD: [u8; 128] = [7; 128];

/// A log of this number of records. If `apart`, each is its own batch.
fn log(records: u64, apart: bool) -> (tempfile::TempDir, Wal) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let start = Start::first([1; 16]);
    // Each commit is a batch, since there is no other writer.
    let options = WalOptions { background: false, ..WalOptions::default() };
    // Syncs do not matter for reading.
    let fs = TestFs::os().answering(|_, _| Outcome::NoSync);
    let made = Wal::create(&Env::system().with_fs(Arc::new(fs)), &dir.path().join("log"), &start, &options);
    let (wal, mut batch) = (made.expect("a new log"), BatchBuilder::new());
    for nth in 1..=records {
        let pushed = batch.push(PartitionId::FIRST, TxId::new(nth), &Record::Data(&PAYLOAD));
        pushed.expect("a record of fair size");
        match apart {
            true => wal.commit(&mut batch).expect("a disk"),
            false => wal.append(&mut batch).expect("a disk"),
        };
    }
    wal.sync().expect("a disk");
    (dir, wal)
}

fn reader(wal: &Wal) -> u64 {
    let (mut reader, mut records, mut count) = (wal.reader(Lsn::ORIGIN).expect("a log"), Records::new(), 0);
    while let Some(batch) = reader.next_batch().expect("a whole log") {
        let counted = records.feed::<Error>(&batch, |_| {
            count += 1;
            Ok(())
        });
        counted.expect("whole records");
    }
    count
}

fn scan(wal: &Wal) -> u64 {
    let mut count = 0;
    let scan = wal.scan(wal.first(), wal.durable()).expect("a log");
    let counted = scan.for_each::<Error>(|_| {
        count += 1;
        Ok(())
    });
    counted.expect("a whole log");
    count
}

fn fold(wal: &Wal) -> u64 {
    let scan = wal.scan(wal.first(), wal.durable()).expect("a log");
    let each = |count: &mut u64, _: &WholeRecord<'_>| {
        *count += 1;
        Ok::<(), Error>(())
    };
    scan.fold(|_| 0, each, |a, b| a + b).expect("a whole log").expect("some segments")
}

fn scans(c: &mut Criterion) {
    for (name, records, apart) in [("1 MiB", 4 << 20, false), ("one record", 1 << 20, true)] {
        let (_dir, wal) = log(records, apart);
        let mut group = c.benchmark_group(format!("scan 128 B, batches of {name}"));
        group.throughput(Throughput::Elements(records)).sample_size(10);
        for (how, read) in [("reader", reader as fn(&Wal) -> u64), ("scan", scan), ("fold", fold)] {
            group.bench_function(how, |b| b.iter(|| assert_eq!(read(&wal), records)));
        }
        group.finish();
    }
}

criterion_group!(benches, scans);
criterion_main!(benches);
