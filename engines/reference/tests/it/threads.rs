//! Transactions of several threads.

use crate::life::options;
use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_format::SourceName;
use pitr_objects::Objects;
use pitr_recovery::{History, RestoreOptions, Restorer, Target};
use pitr_reference::{Env, ReferenceEngine, Store};
use pitr_snapshot::write_full;

const THREADS: u64 = 4;
const COMMITS: u64 = 50;

#[test]
fn commits_of_several_threads_in_one_page_are_all_kept() {
    // Law 5: a snapshot is taken, and checkpoints are made, while threads commit.
    let dir = tempfile::tempdir().unwrap();
    let (bank, output) = (dir.path().join("bank"), dir.path().join("restored"));
    let store = Store::open(&Env::system(), &bank, &options()).unwrap();
    let objects = Objects::memory().unwrap();
    let name = SourceName::new("bank").unwrap();
    let chunks = ChunkStore::open(objects.clone()).unwrap();
    let archive = Archive::new(objects.clone(), name.clone());
    let table = store.create_table("counters", 8).unwrap();
    let mut shipper = Shipper::claim(&archive, store.wal(), ShipOptions::default()).unwrap();
    // A checkpoint removes no log that the archiver still needs.
    let slot = store.wal().slot("archiver", store.wal().first()).unwrap();
    let count = |row: u64| {
        for number in 1..=COMMITS {
            let mut transaction = store.begin();
            transaction.put(table, row, &number.to_le_bytes()).unwrap();
            transaction.put(table, 2000 + row, &number.to_le_bytes()).unwrap();
            transaction.commit().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|row| scope.spawn(move || count(row))).collect();
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let source = store.begin_snapshot().unwrap();
            let mut taken = write_full(&chunks, &source, source.meta(name.clone()), None).unwrap();
            source.complete(&mut taken.snapshot.meta).unwrap();
            shipper.ship(store.wal()).unwrap();
            taken.publish(&chunks).unwrap();
            slot.advance(shipper.archived().unwrap()).unwrap();
            store.checkpoint().unwrap();
        }
    });
    let expected = (0..THREADS).chain(2000..2000 + THREADS);
    let expected = expected.map(|row| (row, COMMITS.to_le_bytes().to_vec())).collect();
    assert_eq!(store.rows(table).unwrap(), expected);
    shipper.ship(store.wal()).unwrap();
    drop((slot, store)); // the slot has the log open too
    let store = Store::open(&Env::system(), &bank, &options()).unwrap();
    assert_eq!(store.rows(table).unwrap(), expected);

    // Every state that can be restored has whole transactions.
    let history = History::load(&objects, &name, None).unwrap();
    for commit in (history.snapshots().iter().map(|snapshot| snapshot.meta.tx)).take(5) {
        let output = output.with_extension(commit.to_string());
        let plan = history.plan_for(&Target::at(commit)).unwrap();
        let restorer = Restorer::new(&history, &chunks, &ReferenceEngine);
        restorer.restore(&plan, &RestoreOptions::to(&output)).unwrap();
        let rows = Store::open_or_create(&output).unwrap().rows(table).unwrap();
        for row in 0..THREADS {
            assert_eq!(rows.get(&row), rows.get(&(2000 + row)), "transaction {commit}");
        }
        let counted: u64 = (0..THREADS)
            .filter_map(|row| rows.get(&row))
            .map(|row| u64::from_le_bytes(row.as_slice().try_into().unwrap()))
            .sum();
        assert_eq!(counted + 1, commit.get(), "each transaction counts one, after that of the table");
    }
}
