//! A whole restore of a store of logical tables, from the empty base: in logical records a second.
//! The records of 4 tables interleave; the rows have 32 to 64 bytes.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::{History, RestoreOptions, Restorer, Target};
use pitr_reference::{ReferenceEngine, Store, TableId};
use pitr_vfs::sim::Rng;
use std::num::NonZeroUsize;

const TABLES: usize = 4;
const RECORDS: u64 = 2_000_000;
/// Rows of a transaction.
const ROWS: u64 = 200;

/// Archives transactions that change rows near each other, in all tables.
fn populate(archive: &Archive, dir: &std::path::Path) {
    let store = Store::open_or_create(dir).expect("a store");
    let mut shipper = Shipper::claim(archive, store.wal(), ShipOptions::default()).expect("a shipper");
    let slot = store.wal().slot("archiver", store.wal().first()).expect("a slot");
    let name = |no: usize| format!("table {no}");
    let tables: Vec<TableId> =
        (0..TABLES).map(|no| store.create_table_of_rows_up_to(&name(no), 64).expect("a table")).collect();
    let mut noise = Rng::new(9);
    for tx in 0..RECORDS / ROWS {
        let mut transaction = store.begin();
        let near = noise.below(400_000);
        for no in 0..ROWS {
            let bytes: Vec<u8> = (0..8).flat_map(|_| noise.draw().to_le_bytes()).collect();
            let table = tables[(no % TABLES as u64) as usize];
            let len = 32 + noise.below(33) as usize;
            transaction.put(table, near + noise.below(500), &bytes[..len]).expect("a row");
        }
        transaction.commit().expect("a commit");
        if tx % 1000 == 0 {
            shipper.ship(store.wal()).expect("it ships");
            slot.advance(shipper.archived().expect("something is archived")).expect("it advances");
        }
    }
    shipper.ship(store.wal()).expect("it ships");
}

fn bench(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let objects = Objects::create_local(dir.path().join("repo")).expect("a repository");
    objects.init_repository(objects.env().clock.now()).expect("a repository");
    let (name, chunks) =
        (SourceName::new("bank").expect("a name"), ChunkStore::open(objects.clone()).expect("chunks"));
    populate(&Archive::new(objects.clone(), name.clone()), &dir.path().join("bank"));
    let history = History::load(&objects, &name, None).expect("a history");
    let plan = history.plan_for(&Target::latest()).expect("a plan");
    let restorer = Restorer::new(&history, &chunks, &ReferenceEngine);
    let mut group = c.benchmark_group("redo");
    group.sample_size(10);
    group.throughput(Throughput::Elements(RECORDS));
    for workers in [1, 2, 4] {
        group.bench_function(format!("restore, {workers} workers"), |b| {
            b.iter_batched(
                || drop(std::fs::remove_dir_all(dir.path().join("restored"))),
                |()| {
                    let workers = NonZeroUsize::new(workers);
                    let options =
                        RestoreOptions { workers, ..RestoreOptions::to(dir.path().join("restored")) };
                    let restored = restorer.restore(&plan, &options).expect("a restore");
                    assert!(restored.stats.logical_records <= RECORDS);
                    restored.stats.phases
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
