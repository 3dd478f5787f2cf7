//! The exact comparison behind the demo and the drills.

use criterion::{Criterion, criterion_group, criterion_main};
use pitr::exact::Fingerprint;

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let path = dir.path().join("bench.db");
    let db = rusqlite::Connection::open(&path).expect("a new database");
    let fill = "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
        INSERT INTO t(x) SELECT randomblob(100) FROM n";
    db.execute_batch(fill).expect("the database takes rows");
    drop(db);
    c.bench_function("fingerprint of 20,000 rows", |b| b.iter(|| Fingerprint::of(&path)));
}

criterion_group!(exact, benches);
criterion_main!(exact);
