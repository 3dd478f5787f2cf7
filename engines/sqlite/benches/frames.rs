//! Reads and checks the frames of a `-wal` file: the upper bound of capture speed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pitr_sqlite::parts::WalFile;
use pitr_sqlite::parts::with_suffix;
use pitr_vfs::{Access, FileSystem, OsFs};

const ROWS: u32 = 4_000;

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let path = dir.path().join("bench.db");
    let db = rusqlite::Connection::open(&path).expect("a new database");
    let fill = format!(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{ROWS})
         INSERT INTO t SELECT randomblob(3000) FROM n"
    );
    db.execute_batch(&fill).expect("the database takes rows");
    let file = OsFs.open(&with_suffix(&path, "-wal"), Access::Read).expect("the log is there");
    let log = WalFile::new(file);
    let header = log.header().expect("the log can be read").expect("the log has a header");
    let count = |number: &u32| log.stated_checksum(&header, *number).is_ok_and(|sum| sum.is_some());
    let last = (1..).take_while(count).last().expect("the log has frames");
    let mut group = c.benchmark_group("-wal");
    group.throughput(Throughput::Bytes(u64::from(last) * u64::from(header.page_bytes)));
    group.bench_function("read and check", |b| {
        b.iter(|| {
            let mut frames = log.frames(header, 0, header.checksum);
            while frames.number() < last {
                frames.next(last).expect("every frame checks out");
            }
            frames.checksum()
        });
    });
    group.finish();
}

criterion_group!(frames, benches);
criterion_main!(frames);
