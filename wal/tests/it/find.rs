//! Commits are found by time and by transaction, from any position, without reading the log.

use crate::help::{P, batches, env, options, start};
use pitr_format::record::Record;
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_testkit::TestFs;
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Mode, SimClock, SimFs, Survivors};
use pitr_wal::{BatchBuilder, Committed, LogReader, LogScan, Wal};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn dir() -> &'static Path {
    Path::new("/log")
}

/// The result of `f`, and the number of bytes that it read from `fs`.
fn count<T>(fs: &TestFs, f: impl FnOnce() -> T) -> (T, u64) {
    let before = fs.bytes_read();
    let returned = f();
    (returned, fs.bytes_read() - before)
}

fn transaction(tx: u64, len: usize, note: usize) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.push(P, TxId::new(tx), &Record::Data(&vec![1; len])).unwrap();
    batch.push_commit(P, TxId::new(tx), None, None, &vec![2; note]).unwrap();
    batch
}

fn commit(wal: &Wal, tx: u64, len: usize, note: usize) -> Committed {
    wal.commit(transaction(tx, len, note)).unwrap().commits[0]
}

fn agrees(scan: &LogScan, commits: &[Committed], time: i64, tx: u64) {
    let (time, tx) = (Timestamp::from_micros(time), TxId::new(tx));
    let by_time = commits.iter().find(|commit| commit.time >= time).copied();
    assert_eq!(scan.first_commit_at(time).unwrap(), by_time, "{time:?}");
    let by_tx = commits.iter().find(|commit| commit.tx == tx).copied();
    assert_eq!(scan.commit_of(tx).unwrap(), by_tx, "{tx}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn find_agrees_with_a_search_of_every_record(
        acts in prop::collection::vec((1u64..40, 0usize..9_000, 0i64..4, 0u8..12), 1..60),
    ) {
        // Numbers go up and down, notes cross segments, times repeat, the log has gaps and is
        // reopened.
        let fs: Arc<dyn FileSystem> = Arc::new(SimFs::new());
        let clock = Arc::new(SimClock::new(Timestamp::from_micros(10)));
        let mut wal = Wal::create(&env(Arc::clone(&fs), clock.clone()), dir(), &start(16 << 10), &options()).unwrap();
        let mut commits = Vec::new();
        for (tx, len, step, act) in acts {
            clock.pass(std::time::Duration::from_micros(step as u64));
            commits.push(match act {
                0..=2 => commit(&wal, tx, len, len * 3),
                // These commits share a batch, and so a stretch of the index.
                3..=6 => wal.append(transaction(tx, len % 50, 0)).unwrap().commits[0],
                _ => commit(&wal, tx, len, 0),
            });
            if act == 10 {
                wal.skip().unwrap();
            } else if act == 11 {
                wal.sync().unwrap();
                drop(wal);
                wal = Wal::open(&env(Arc::clone(&fs), clock.clone()), dir(), Lsn::ORIGIN, &options()).unwrap().0;
            }
        }
        wal.sync().unwrap();
        let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
        (5..200).step_by(7).for_each(|time| agrees(&scan, &commits, time, time as u64 % 42));
        // A range that starts in the middle contains the records that start in it.
        let begin = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
        let begin = begin[begin.len() / 2].header.lsn;
        let scan = wal.scan(begin, wal.durable()).unwrap();
        let mut behind = Vec::new();
        scan.for_each::<pitr_wal::Error>(|record| {
            behind.extend(commits.iter().filter(|commit| commit.lsn == record.end));
            Ok(())
        }).unwrap();
        (5..200).step_by(31).for_each(|time| agrees(&scan, &behind, time, time as u64 % 42));
    }
}

#[test]
fn a_find_reads_only_headers_and_one_stretch() {
    let fs = TestFs::around(Arc::new(SimFs::new()));
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(0)));
    let wal =
        Wal::create(&env(Arc::new(fs.clone()), clock.clone()), dir(), &start(1 << 20), &options()).unwrap();
    let commits: Vec<Committed> = (1..=3_000)
        .map(|tx| {
            clock.pass(std::time::Duration::from_micros(10));
            commit(&wal, tx, 8_000, 0)
        })
        .collect();
    let log_bytes = wal.durable().get() - wal.first().get();
    let (scan, to_begin) = count(&fs, || wal.scan(Lsn::ORIGIN, wal.durable()).unwrap());
    assert!(scan.len() > 20 && to_begin <= (scan.len() as u64 + 4) * 4096, "{to_begin}");
    for nth in [0, 1, 700, 1_500, 2_222, 2_999] {
        let (found, bytes) = count(&fs, || scan.first_commit_at(commits[nth].time).unwrap());
        assert!(found == Some(commits[nth]) && bytes < log_bytes / 20, "{bytes} of {log_bytes}");
        let (found, bytes) = count(&fs, || scan.commit_of(commits[nth].tx).unwrap());
        assert!(found == Some(commits[nth]) && bytes < log_bytes / 20, "{bytes} of {log_bytes}");
        // From a position within a batch only its stretch is read.
        let within = Lsn::new(commits[nth].lsn.get() - 5);
        let mut reader = LogReader::open(Arc::new(fs.clone()), dir(), within, wal.durable());
        let (batch, bytes) = count(&fs, || reader.next_batch().unwrap().unwrap());
        assert!(batch.header.lsn < within && within < batch.end() && bytes < log_bytes / 20, "{bytes}");
    }
    assert_eq!(scan.commit_of(TxId::new(9_999)).unwrap(), None);
}

#[test]
fn a_damaged_index_is_ignored_and_a_cut_segment_indexes_its_kept_part() {
    // FAILURES 12, 29
    let fs = SimFs::new();
    let clock = || Arc::new(SimClock::new(Timestamp::from_micros(50)));
    let wal = Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(64 << 10), &options()).unwrap();
    let mut commits: Vec<Committed> = (1..=9).map(|tx| commit(&wal, tx, 3_000, 0)).collect();
    let torn = wal.append(crate::help::transaction(10, &[&[4; 3_000]])).unwrap().first;
    drop(wal);
    let trace = fs.trace();
    let mut disk = Survivors::at(&trace, trace.ops.len()).disk(Mode::Synced, 0);
    let path = Path::new("/log/0000000000000001.seg");
    assert!(disk.damage(path, torn.get() % (64 << 10), b"torn"));
    let fs = SimFs::on(disk);
    let (wal, recovered) =
        Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, &options()).unwrap();
    assert!(recovered.cut.is_some());
    commits.push(commit(&wal, 11, 3_000, 0));
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    (1..=11).for_each(|tx| agrees(&scan, &commits, 50, tx));
    let second = Path::new("/log/0000000000000002.seg");
    let count = fs.durable_disk().read(second).unwrap()[116];
    assert!(count >= 9, "the header behind the cut has the index of {count} stretches");
    drop(scan);
    drop(wal);
    let mut disk = fs.durable_disk();
    assert!(disk.damage(second, 125, &[0x55]));
    let (wal, _) =
        Wal::open(&env(Arc::new(SimFs::on(disk)), clock()), dir(), Lsn::ORIGIN, &options()).unwrap();
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    (1..=11).for_each(|tx| agrees(&scan, &commits, 50, tx));
}
