//! Scans return the same records and errors as a reader, for any assignment of segments to threads,
//! and their bytes don't change.

use crate::help::{P, batches, env, everything, folded, options, records, scanned, start, transaction};
use pitr_format::log::{BATCH_HEADER_BYTES, BatchHeader, Part, Seed};
use pitr_format::record::Record;
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_vfs::{FileSystem, OsFs};
use pitr_wal::{BatchBuilder, Error, LogBatch, LogReader, LogScan, Wal};
use std::path::Path;
use std::sync::Arc;

const SEGMENT_BYTES: u32 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(Timestamp::from_micros(1)))
}

fn create(fs: &SimFs) -> Wal {
    Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(SEGMENT_BYTES), &options()).unwrap()
}

/// The result of `f` in a pool of this number of threads.
fn with_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn records_of_any_size_are_whole_with_any_number_of_threads() {
    // FAILURES 16, 17: empty records, records of segment size and larger than several segments; any
    // number of threads.
    let fs = SimFs::new();
    let wal = create(&fs);
    let sizes = [0, 1, SEGMENT_BYTES as usize, 0, 5 * SEGMENT_BYTES as usize + 3, 12_000, 12_000, 0, 90_000];
    for (nth, size) in sizes.iter().enumerate() {
        wal.commit(transaction(nth as u64 + 1, &[&vec![nth as u8; *size], b""])).unwrap();
    }
    let fs: Arc<dyn FileSystem> = Arc::new(fs);
    let all = everything(&wal, &fs, dir());
    assert_eq!(all.len(), 3 * sizes.len());
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    assert!(scan.len() > 12);
    for threads in 1..=4 {
        assert!(with_threads(threads, || folded(&scan).unwrap()) == all, "{threads} threads");
    }
}

#[test]
fn any_range_between_batches_gives_what_a_reader_gives() {
    let fs = SimFs::new();
    let wal = create(&fs);
    for tx in 1..=9 {
        wal.commit(transaction(tx, &[&vec![tx as u8; tx as usize * 3_000]])).unwrap();
    }
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    for from in &all {
        for until in &all {
            let (from, until) = (from.header.lsn, until.end());
            let scan = wal.scan(from, until).unwrap();
            let in_place: Result<Vec<Vec<u8>>, Error> = scan
                .segments()
                .flat_map(|segment| {
                    let segment = segment.unwrap();
                    segment.batches().map(|batch| Ok(batch?.bytes().to_vec())).collect::<Vec<_>>()
                })
                .collect();
            let expected = all.iter().filter(|batch| from <= batch.header.lsn && batch.end() <= until);
            assert_eq!(in_place.unwrap(), expected.map(|batch| batch.bytes.clone()).collect::<Vec<_>>());
            match (scanned(&scan), folded(&scan)) {
                (Ok(one), Ok(other)) => assert_eq!(one, other),
                (Err(Error::Unfinished { lsn: one }), Err(Error::Unfinished { lsn: other })) => {
                    assert!(one == other && until < wal.durable());
                }
                other => panic!("{from} to {until}: {other:?}"),
            }
        }
    }
    let until = Lsn::new(wal.durable().get() + 8);
    assert!(matches!(wal.scan(Lsn::ORIGIN, until), Err(Error::Beyond { .. })));
    assert!(wal.scan(wal.durable(), wal.durable()).unwrap().is_empty());
}

#[test]
fn only_durable_records_are_scanned() {
    // FAILURES 42
    let fs = SimFs::new();
    let wal = create(&fs);
    wal.commit(transaction(1, &[b"durable"])).unwrap();
    wal.append(transaction(2, &[b"not yet"])).unwrap();
    assert!(matches!(wal.scan(Lsn::ORIGIN, wal.end()), Err(Error::Beyond { .. })));
    assert_eq!(scanned(&wal.scan(Lsn::ORIGIN, wal.durable()).unwrap()).unwrap().len(), 2);
}

#[test]
fn a_closed_log_is_locked_while_it_is_scanned() {
    let fs = SimFs::new();
    let wal = create(&fs);
    wal.commit(transaction(1, &[&[1; 40_000]])).unwrap();
    let (all, until) = (records(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap(), wal.durable());
    let open = || LogScan::open(Arc::new(fs.clone()), dir(), Lsn::ORIGIN, until);
    assert!(matches!(open(), Err(Error::Locked { .. })));
    drop(wal);
    let scan = open().unwrap();
    let opened = Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, &options());
    assert!(matches!(opened, Err(Error::Locked { .. })));
    assert_eq!(folded(&scan).unwrap(), all);
    drop(scan);
    Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, &options()).unwrap();
    let nowhere = LogScan::open(Arc::new(fs), Path::new("/no"), Lsn::ORIGIN, until);
    assert!(matches!(nowhere, Err(Error::NoLog { .. })));
}

#[test]
fn a_segment_is_not_recycled_while_a_scan_reads_it() {
    // On real files, which are mapped. A recycled file would change the mapped bytes during the
    // scan.
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let wal = Wal::create(&env(Arc::new(OsFs), clock()), &dir, &start(SEGMENT_BYTES), &options()).unwrap();
    let fill = |from: u64| {
        (from..from + 12).for_each(|tx| drop(wal.commit(transaction(tx, &[&[1; 6_000]])).unwrap()))
    };
    fill(1);
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    let looked_at = scan.segments().next().unwrap().unwrap();
    let before: Vec<Vec<u8>> = looked_at.batches().map(|batch| batch.unwrap().bytes().to_vec()).collect();
    let end = wal.durable();
    assert!(wal.remove_below(end).unwrap() >= 3 * u64::from(SEGMENT_BYTES));
    let free = || {
        let names = OsFs.list(&dir).unwrap();
        names.iter().filter(|name| name.to_str().unwrap().ends_with(".free")).count()
    };
    let spare = free();
    assert!(spare >= 2, "the others are recycled");
    fill(100);
    assert_eq!(free(), 0, "and used");
    let after: Vec<Vec<u8>> = looked_at.batches().map(|batch| batch.unwrap().bytes().to_vec()).collect();
    assert!(before == after && !before.is_empty());
    // Segments that were not read yet are removed, and the scan reports it.
    assert!(matches!(scanned(&scan), Err(Error::Removed { .. })));
    drop(looked_at);
    wal.remove_below(wal.durable()).unwrap();
    assert!(free() > 0);
}

/// Rewrites a batch with other bytes in its body and matching checksums.
fn forge(fs: &SimFs, batch: &LogBatch, change: impl FnOnce(&mut [u8])) {
    let seed = Seed::new(batch.timeline, batch.segment, batch.incarnation);
    let mut bytes = batch.bytes.clone();
    change(&mut bytes[BATCH_HEADER_BYTES..]);
    let body_crc = seed.crc(&bytes[BATCH_HEADER_BYTES..]);
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&BatchHeader { body_crc, ..batch.header }.encode(seed));
    let path = dir().join(format!("{:016x}.seg", batch.segment.get()));
    let file = fs.open(&path, pitr_vfs::Access::ReadWrite).unwrap();
    file.write_all_at(&bytes, batch.header.lsn.get() % u64::from(SEGMENT_BYTES)).unwrap();
}

#[test]
fn fragments_of_a_record_without_a_start_are_an_error_for_every_reader() {
    // FAILURES 11: the first fragment of a record across two segments is changed to look whole.
    let fs = SimFs::new();
    let wal = create(&fs);
    let mut batch = BatchBuilder::new();
    batch.push(P, TxId::new(1), &Record::Data(&[5; 20_000])).unwrap();
    wal.commit(batch).unwrap();
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    let part = all[0].frames().unwrap().next().unwrap().unwrap();
    assert!(all.len() == 2 && part.part == Part::First && all[0].segment != all[1].segment);
    let len = part.bytes.len() as u32;
    forge(&fs, &all[0], |body| {
        body[4..8].copy_from_slice(&len.to_le_bytes());
        body[9] = 0;
    });
    let scan = wal.scan(Lsn::ORIGIN, wal.durable()).unwrap();
    let read = records(&mut LogReader::open(Arc::new(fs.clone()), dir(), Lsn::ORIGIN, wal.durable()));
    for outcome in [read, scanned(&scan), folded(&scan)] {
        let second = all[1].header.lsn;
        assert!(matches!(outcome, Err(Error::Frames { lsn, .. }) if lsn == second), "{outcome:?}");
    }
    // A scan from the second segment on can't detect the change.
    let behind = wal.scan(all[1].header.lsn, wal.durable()).unwrap();
    assert_eq!(scanned(&behind).unwrap().len(), 0);
}
