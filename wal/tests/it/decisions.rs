//! The fields of commits and aborts that the log fills in, and the values that it refuses.

use crate::help::{P, env, options, records, start};
use pitr_format::record::{Commit, Record};
use pitr_format::{Lsn, Timestamp, TxId};
use pitr_vfs::sim::{SimClock, SimFs};
use pitr_wal::{BatchBuilder, Error, Wal};
use std::path::Path;
use std::sync::Arc;

const TX: TxId = TxId::new(7);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn log(fs: &SimFs) -> (Wal, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new(at(1_000)));
    let wal = Wal::create(
        &env(Arc::new(fs.clone()), Arc::clone(&clock) as _),
        Path::new("/log"),
        &start(64 << 10),
        &options(),
    );
    (wal.unwrap(), clock)
}

fn builder(build: impl FnOnce(&mut BatchBuilder) -> Result<(), Error>) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    build(&mut batch).unwrap();
    batch
}

/// Earliest and stamped time of each commit in the log.
fn times(wal: &Wal) -> Vec<(i64, i64)> {
    let all = records(&mut wal.reader(wal.first()).unwrap()).unwrap();
    let times = all.iter().filter_map(|seen| match Record::decode(seen.kind, &seen.payload).unwrap() {
        Record::Commit(commit) => Some((commit.earliest.micros(), commit.time.micros())),
        _ => None,
    });
    times.collect()
}

#[test]
fn an_unknown_earliest_time_is_that_of_the_previous_commit_or_watermark() {
    let fs = SimFs::new();
    let (wal, clock) = log(&fs);
    let commit = |batch: &mut BatchBuilder, tx| batch.push_commit(P, TxId::new(tx), None, None, b"");
    wal.commit(builder(|batch| commit(batch, 1))).unwrap();
    clock.set(at(2_000));
    // Two commits of one builder get one stamp: the second follows the first.
    wal.commit(builder(|batch| commit(batch, 2).and_then(|()| commit(batch, 3)))).unwrap();
    wal.append(builder(|batch| batch.push(P, TxId::NONE, &Record::Watermark(at(2_500))))).unwrap();
    clock.set(at(3_000));
    wal.commit(builder(|batch| commit(batch, 4))).unwrap();
    clock.set(at(4_000));
    wal.commit(builder(|batch| batch.push_commit(P, TxId::new(5), Some(at(3_900)), None, b""))).unwrap();
    wal.commit(builder(|batch| batch.push_commit(P, TxId::new(6), Some(Timestamp::MAX), None, b""))).unwrap();
    let begin = Timestamp::MIN.micros();
    let expected =
        [(begin, 1_000), (1_000, 2_000), (2_000, 2_000), (2_500, 3_000), (3_900, 4_000), (4_000, 4_000)];
    assert_eq!(times(&wal), expected);

    // The log knows the earlier commit's time after a reopen.
    drop(wal);
    let (wal, _) = Wal::open(&env(Arc::new(fs), clock), Path::new("/log"), Lsn::ORIGIN, &options()).unwrap();
    wal.commit(builder(|batch| commit(batch, 7))).unwrap();
    assert_eq!(times(&wal).last(), Some(&(4_000, 4_000)));
}

/// The first LSN of each commit and abort in the log.
fn firsts(wal: &Wal) -> Vec<Lsn> {
    let all = records(&mut wal.reader(wal.first()).unwrap()).unwrap();
    let firsts = all.iter().filter_map(|seen| match Record::decode(seen.kind, &seen.payload).unwrap() {
        Record::Commit(Commit { first_lsn, .. }) | Record::Abort { first_lsn } => Some(first_lsn),
        _ => None,
    });
    firsts.collect()
}

#[test]
fn an_abort_finds_its_first_record_as_a_commit_does() {
    let (wal, _) = log(&SimFs::new());
    let data = |batch: &mut BatchBuilder| batch.push(P, TX, &Record::Data(b"x"));
    let inside =
        wal.append(builder(|batch| data(batch).and_then(|()| batch.push_abort(P, TX, None)))).unwrap();
    let before = wal.append(builder(data)).unwrap();
    wal.append(builder(|batch| data(batch).and_then(|()| batch.push_abort(P, TX, Some(before.first)))))
        .unwrap();
    let alone = wal.append(builder(|batch| batch.push_abort(P, TX, None))).unwrap();
    wal.sync().unwrap();
    assert_eq!(firsts(&wal), [inside.first, before.first, alone.first]);
}

#[test]
fn a_reused_number_in_one_builder_is_a_new_transaction() {
    let (wal, _) = log(&SimFs::new());
    let data = |batch: &mut BatchBuilder| batch.push(P, TX, &Record::Data(b"x"));
    wal.commit(builder(|batch| {
        data(batch)?;
        batch.push_abort(P, TX, None)?;
        data(batch)?;
        batch.push_commit(P, TX, None, None, b"")
    }))
    .unwrap();
    let all = records(&mut wal.reader(wal.first()).unwrap()).unwrap();
    assert_eq!(firsts(&wal), [all[0].lsn, all[2].lsn], "what was aborted does not count for the commit");
}

#[test]
fn a_first_record_ahead_of_the_log_is_refused_and_one_in_the_builder_counts() {
    let (wal, _) = log(&SimFs::new());
    wal.commit(builder(|batch| batch.push(P, TX, &Record::Data(b"x")))).unwrap();
    let (end, ahead) = (wal.end(), Lsn::new(wal.end().get() + 1));
    let refused = [
        builder(|batch| batch.push_commit(P, TX, None, Some(ahead), b"")),
        builder(|batch| batch.push_abort(P, TX, Some(ahead))),
        builder(|batch| batch.push(P, TX, &Record::Abort { first_lsn: ahead })),
    ];
    for batch in refused {
        match wal.commit(batch) {
            Err(Error::FirstAhead { tx, first, end: at }) => assert_eq!((tx, first, at), (TX, ahead, end)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((wal.end(), wal.stats().waiting_bytes), (end, 0), "a refused builder changes nothing");

    // The end of the log that the caller saw may be after the position that the first record gets
    // in an open batch.
    let open = wal.append(builder(|batch| batch.push(P, TxId::new(8), &Record::Data(b"odd")))).unwrap();
    let seen = wal.end();
    let placed = wal
        .append(builder(|batch| {
            batch.push(P, TX, &Record::Data(b"y"))?;
            batch.push_commit(P, TX, None, Some(seen), b"")
        }))
        .unwrap();
    wal.sync().unwrap();
    assert!(open.end <= placed.first && placed.first < seen);
    assert_eq!(firsts(&wal), [placed.first], "no record of the transaction is left out");
}
