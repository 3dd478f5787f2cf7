//! The log on files of the operating system.

use crate::help::{batches, env, everything, options, records, start, transaction};
use pitr_format::record::{Record, RecordKind};
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_vfs::{FileSystem, OsFs, SystemClock};
use pitr_wal::{BatchBuilder, Error, Recovered, Wal, WholeRecord};
use std::path::Path;
use std::sync::Arc;

fn fs() -> Arc<dyn FileSystem> {
    Arc::new(OsFs)
}

fn create(dir: &Path) -> Wal {
    Wal::create(&env(fs(), Arc::new(SystemClock::new())), dir, &start(16 << 10), &options()).unwrap()
}

fn reopen(dir: &Path) -> (Wal, Recovered) {
    Wal::open(&env(fs(), Arc::new(SystemClock::new())), dir, Lsn::ORIGIN, &options()).unwrap()
}

#[test]
fn committed_records_are_read_back_also_after_reopening() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a/log");
    let wal = create(&dir);
    let large = vec![5; 70_000]; // FAILURES 17: records larger than a segment and of zero bytes
    let mut ends = Vec::new();
    for (tx, payloads) in [&[&b"one"[..]][..], &[&large, b""], &[], &[&large[..700]]].iter().enumerate() {
        let appended = wal.commit(transaction(tx as u64 + 1, payloads)).unwrap();
        assert!(wal.durable() >= appended.end && appended.commits[0].lsn == appended.end);
        ends.push(appended.end);
    }
    let before = everything(&wal, &fs(), &dir);
    let commits: Vec<Lsn> =
        before.iter().filter(|r| r.kind == RecordKind::Commit as u8).map(|r| r.end).collect();
    assert_eq!(commits, ends);
    assert_eq!(
        before.iter().map(|r| r.payload.len()).collect::<Vec<_>>(),
        [3, 24, 70_000, 0, 24, 24, 700, 24]
    );
    let (end, time) = (wal.end(), wal.last_time());
    assert!(matches!(
        Wal::open(&env(fs(), Arc::new(SystemClock::new())), &dir, Lsn::ORIGIN, &options()),
        Err(Error::Locked { .. })
    ));
    drop(wal);
    let (wal, recovered) = reopen(&dir);
    assert_eq!((recovered.end, recovered.time, recovered.cut), (end, time, None));
    assert_eq!(everything(&wal, &fs(), &dir), before);
    wal.commit(transaction(5, &[b"more"])).unwrap();
    assert_eq!(everything(&wal, &fs(), &dir).len(), before.len() + 2);
}

#[test]
fn appended_records_are_seen_after_a_sync() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    let mut reader = wal.reader(Lsn::ORIGIN).unwrap();
    let appended = wal.append(transaction(1, &[b"x"])).unwrap();
    assert!(reader.next_batch().unwrap().is_none());
    assert!(wal.durable() < appended.end && wal.end() >= appended.end);
    assert_eq!(wal.sync().unwrap(), wal.end());
    assert_eq!(records(&mut reader).unwrap().len(), 2);
    assert_eq!(wal.append(BatchBuilder::new()).unwrap().first, wal.end());
}

#[test]
fn a_ticket_is_durable_when_it_or_a_later_one_was_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    let mut batch = transaction(1, &[b"x"]);
    let first = wal.submit(&mut batch).unwrap();
    assert!(batch.is_empty() && batch.bytes() == 0, "a lent builder comes back empty");
    let second = wal.submit(transaction(2, &[b"y"])).unwrap();
    assert!(!first.is_durable() && !second.is_durable());
    assert!(first.appended().end <= second.appended().first);
    let end = second.wait().unwrap().end;
    assert!(first.is_durable() && wal.durable() >= end);
    assert_eq!(first.wait().unwrap().commits[0].tx.get(), 1);
    assert_eq!(everything(&wal, &fs(), temp.path()).len(), 4);
}

#[test]
fn a_builder_can_be_reused_and_forgets_its_transactions() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    let mut batch = BatchBuilder::new();
    let mut firsts = Vec::new();
    for round in 0..3 {
        // Transactions 1 and 2 interleave. Each commit names the first record of its own
        // transaction.
        for tx in [1, 2, 1] {
            batch.push(crate::help::P, pitr_format::TxId::new(tx), &Record::Data(b"r")).unwrap();
        }
        for tx in [2, 1] {
            batch.push_commit(crate::help::P, pitr_format::TxId::new(tx), None, None, b"").unwrap();
        }
        let appended = wal.commit(&mut batch).unwrap();
        assert_eq!(appended.commits.len(), 2, "round {round}");
        firsts.push(appended.first);
    }
    let all = everything(&wal, &fs(), temp.path());
    for (round, records) in all.chunks(5).enumerate() {
        let first_of = |index: usize| match Record::decode(records[index].kind, &records[index].payload) {
            Ok(Record::Commit(commit)) => commit.first_lsn,
            other => panic!("{other:?}"),
        };
        assert_eq!(first_of(3), records[1].lsn);
        assert_eq!((first_of(4), records[0].lsn), (records[0].lsn, firsts[round]));
    }
}

#[test]
fn every_waiter_of_many_is_woken() {
    const THREADS: u64 = 64;
    const EACH: u64 = 40;
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let wal = &wal;
            scope.spawn(move || {
                for n in 0..EACH {
                    let batch = transaction(thread * EACH + n + 1, &[b"x"]);
                    // Some threads wait immediately, some by ticket, some not at all.
                    let end = match n % 3 {
                        0 => wal.commit(batch).unwrap().end,
                        1 => wal.submit(batch).unwrap().wait().unwrap().end,
                        _ => {
                            wal.append(batch).unwrap();
                            continue;
                        }
                    };
                    assert!(wal.durable() >= end);
                }
            });
        }
    });
    wal.sync().unwrap();
    assert_eq!(everything(&wal, &fs(), temp.path()).len() as u64, 2 * THREADS * EACH);
}

#[test]
fn a_skip_leaves_a_gap_of_one_segment_number() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    wal.commit(transaction(1, &[b"before"])).unwrap();
    let seal = wal.durable();
    let on = wal.skip().unwrap();
    assert_eq!((on, wal.durable()), (Lsn::new((3 << 14) + 4096), on));
    wal.commit(transaction(2, &[b"behind"])).unwrap();
    let from_seal = batches(&mut wal.reader(seal).unwrap()).unwrap();
    let follows = from_seal[0].follows.unwrap();
    assert!(follows.gap && follows.end == seal && from_seal[0].header.lsn == on);
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    assert_eq!(all.iter().map(|b| b.follows.is_some_and(|f| f.gap)).collect::<Vec<_>>(), [false, true]);
    wal.skip().unwrap();
    drop(wal);
    let (wal, recovered) = reopen(temp.path());
    assert_eq!(recovered.end, Lsn::new((5 << 14) + 4096));
    assert_eq!(everything(&wal, &fs(), temp.path()).len(), 4);
}

#[test]
fn removed_segments_are_gone_and_asking_for_them_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    let mut slow = wal.reader(Lsn::ORIGIN).unwrap();
    for tx in 1..=10 {
        wal.commit(transaction(tx, &[&[1; 9_000]])).unwrap();
    }
    assert!(slow.next_batch().unwrap().is_some());
    assert_eq!(wal.remove_below(Lsn::ORIGIN).unwrap(), 0);
    let removed = wal.remove_below(Lsn::MAX).unwrap();
    assert!(removed >= 6 * (16 << 10) && removed.is_multiple_of(16 << 10));
    assert!(wal.first() > Lsn::new(6 << 14) && wal.first() <= wal.durable());
    let first = wal.first();
    assert!(matches!(batches(&mut slow), Err(Error::Removed { first: f, .. }) if f == first));
    let gone = wal.reader(Lsn::ORIGIN).unwrap().next_batch();
    assert!(matches!(gone, Err(Error::Removed { lsn: Lsn::ORIGIN, first: f }) if f == first));
    assert!(matches!(wal.reader(Lsn::MAX), Err(Error::Beyond { .. })));
    drop((wal, slow));
    let (wal, recovered) = reopen(temp.path());
    assert_eq!((recovered.first, recovered.cut), (first, None));
    wal.commit(transaction(11, &[b"x"])).unwrap();
}

#[test]
fn removed_segments_are_recycled_and_their_old_records_stay_dead() {
    // FAILURES 12: recycled segments full of old valid records.
    let temp = tempfile::tempdir().unwrap();
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(temp.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let free = || names().iter().filter(|name| name.ends_with(".free")).count();
    let wal = create(temp.path());
    let fill = |wal: &Wal, txs: std::ops::Range<u64>| {
        txs.for_each(|tx| drop(wal.commit(transaction(tx, &[&[7; 500]])).unwrap()));
    };
    fill(&wal, 1..201);
    let mut overtaken = wal.reader(Lsn::ORIGIN).unwrap();
    assert!(overtaken.next_batch().unwrap().is_some());
    // Ten segments were begun: only their files are kept.
    wal.remove_below(wal.durable()).unwrap();
    let kept = free();
    assert!((5..=10).contains(&kept), "{:?}", names());
    fill(&wal, 201..301);
    assert!(free() < kept, "{:?}", names());
    // A reader whose file became another segment was overtaken; it found no hole.
    assert!(matches!(batches(&mut overtaken), Err(Error::Removed { .. })));
    let before = everything(&wal, &fs(), temp.path());
    let (end, time) = (wal.end(), wal.last_time());
    drop((wal, overtaken));
    let (wal, recovered) = reopen(temp.path());
    // Bytes after the end are of an earlier incarnation: no torn tail is reported, and none of them
    // count.
    assert_eq!((recovered.time, recovered.cut), (time, None));
    assert!(recovered.end >= end);
    assert_eq!(free(), 0);
    assert_eq!(everything(&wal, &fs(), temp.path()), before);
    fill(&wal, 301..303);
    assert_eq!(everything(&wal, &fs(), temp.path()).len(), before.len() + 4);
}

#[test]
fn a_reader_in_a_recycled_file_gets_removed_and_no_hole() {
    let temp = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let wal = Wal::create(&env(fs(), clock), temp.path(), &start(4 << 20), &options()).unwrap();
    let large = vec![7; 1_000_000];
    let fill = |txs: std::ops::Range<u64>| {
        txs.for_each(|tx| drop(wal.commit(transaction(tx, &[&large])).unwrap()));
    };
    fill(1..9);
    let mut reader = wal.reader(Lsn::ORIGIN).unwrap();
    assert!(reader.next_batch().unwrap().is_some());
    wal.remove_below(wal.durable()).unwrap();
    fill(9..20);
    assert!(!temp.path().join("0000000000000001.seg.free").exists(), "it was not used again");
    // This is no hole: the segments before were removed.
    assert!(matches!(batches(&mut reader), Err(Error::Removed { .. })));
}

#[test]
fn an_idle_log_deletes_its_free_files() {
    let temp = tempfile::tempdir().unwrap();
    let wal = create(temp.path());
    let files = || std::fs::read_dir(temp.path()).unwrap().count();
    wal.commit(transaction(1, &[&vec![7; 40 * 16_000]])).unwrap();
    wal.remove_below(wal.durable()).unwrap();
    // At most 16, the segment in use, and the lock.
    assert!((10..=18).contains(&files()), "{}", files());
    for tx in 2..12 {
        wal.commit(transaction(tx, &[&[7; 18_000]])).unwrap();
        wal.remove_below(wal.durable()).unwrap();
    }
    assert!(files() <= 4, "{}", files());
}

#[test]
fn a_log_is_created_once_and_opened_only_if_it_exists() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let clock = || Arc::new(SystemClock::new());
    assert!(matches!(
        Wal::open(&env(fs(), clock()), &dir, Lsn::ORIGIN, &options()),
        Err(Error::NoLog { .. })
    ));
    drop(create(&dir));
    let again = Wal::create(&env(fs(), clock()), &dir, &start(16 << 10), &options());
    assert!(matches!(again, Err(Error::Exists { .. })));
    std::fs::remove_file(dir.join("0000000000000001.seg")).unwrap();
    assert!(matches!(
        Wal::open(&env(fs(), clock()), &dir, Lsn::ORIGIN, &options()),
        Err(Error::NoLog { .. })
    ));
}

#[test]
fn a_folder_is_enough_for_a_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    for tx in 1..=3 {
        let wal = Wal::open_or_create(&dir).unwrap();
        assert!(matches!(Wal::open_or_create(&dir), Err(Error::Locked { .. })));
        let committed = wal.commit_data(TxId::new(tx), &[tx as u8]).unwrap();
        assert!(committed.tx == TxId::new(tx) && wal.durable() >= committed.lsn);
        let mut payloads = Vec::new();
        let scan = wal.scan(wal.first(), wal.durable()).unwrap();
        let each = |record: &WholeRecord<'_>| {
            payloads.push(record.payload.to_vec());
            Ok::<(), Error>(())
        };
        scan.for_each_committed(each).unwrap();
        assert_eq!(payloads, (1..=tx as u8).map(|tx| [tx]).collect::<Vec<_>>());
    }
    // Two logs have different identities, and a damaged one is never replaced by a new one.
    let (_, one) = reopen(&dir);
    let other = temp.path().join("other");
    drop(Wal::open_or_create(&other).unwrap());
    assert_ne!(one.log_id, reopen(&other).1.log_id);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::metadata(&path).unwrap().len() >= 16 << 20 {
            std::fs::write(&path, b"damaged").unwrap();
        }
    }
    assert!(matches!(Wal::open_or_create(&dir), Err(Error::Header { .. })));
}

#[test]
fn a_fork_starts_after_the_segment_with_its_fork_point() {
    let temp = tempfile::tempdir().unwrap();
    let follows = Lsn::new((4 << 14) + 5_000);
    let fork =
        pitr_wal::Start { follows, time: Timestamp::from_micros(i64::MAX - 1), gap: true, ..start(16 << 10) };
    let wal = Wal::create(&env(fs(), Arc::new(SystemClock::new())), temp.path(), &fork, &options()).unwrap();
    assert_eq!(wal.end(), Lsn::new((5 << 14) + 4096));
    let stamped = wal.commit(transaction(1, &[])).unwrap().commits[0].time;
    assert_eq!(stamped, fork.time);
    let first = wal.reader(follows).unwrap().next_batch().unwrap().unwrap();
    assert!(first.follows.is_some_and(|f| f.gap && f.end == follows && f.segment.is_none()));
}

#[test]
fn records_that_could_not_be_read_back_are_refused() {
    let mut batch = BatchBuilder::new();
    let note = vec![0; pitr_format::record::NOTE_BYTES_MAX + 1];
    let refused = batch.push_commit(crate::help::P, pitr_format::TxId::new(1), None, None, &note);
    assert!(matches!(refused, Err(Error::Record { kind: RecordKind::Commit, .. })));
    let huge = vec![0; (64 << 20) + 1];
    let refused = batch.push(crate::help::P, pitr_format::TxId::new(1), &Record::Data(&huge));
    assert!(matches!(refused, Err(Error::Record { kind: RecordKind::Data, .. })));
    assert!(batch.is_empty() && batch.bytes() == 0);
}
