//! Reads a log of 128-byte records from a warm cache: by a reader, by a scan, and by a scan of
//! several threads; each with batches of a megabyte and with batches of one record. A record with
//! its header has 152 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_format::log::WholeRecord;
use pitr_format::record::Record;
use pitr_format::{Lsn, PartitionId, TxId};
use pitr_vfs::{Access, Env, File, FileSystem, Lock, OsFs, View};
use pitr_wal::{BatchBuilder, Error, Records, Start, Wal, WalOptions};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

const PAYLOAD: [u8; 128] = [7; 128];

/// Files of the operating system without syncs, which do not matter for reading.
#[derive(Debug)]
struct NoSync;

#[derive(Debug)]
struct NoSyncFile(Arc<dyn File>);

impl FileSystem for NoSync {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(OsFs.open(path, access)?)))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(OsFs.create_new(path)?)))
    }
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFs.publish(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsFs.remove_file(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        OsFs.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        OsFs.create_dir_all(dir)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsFs.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        OsFs.lock(path)
    }
}

impl File for NoSyncFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn view(&self, len: u64) -> io::Result<View> {
        self.0.view(len)
    }
}

/// A log of this number of records. If `apart`, each is its own batch.
fn log(records: u64, apart: bool) -> (tempfile::TempDir, Wal) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let start = Start::first([1; 16]);
    // Each commit is a batch, since there is no other writer.
    let options = WalOptions { background: false, ..WalOptions::default() };
    let made =
        Wal::create(&Env::system().with_fs(Arc::new(NoSync)), &dir.path().join("log"), &start, &options);
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
