//! Damage below a durable point is refused, wherever it is (FAILURES 11, 12, 29).

use crate::help::{batches, env, folded, options, scanned, start};
use crate::workload::{history, transaction};
use pitr_format::{Lsn, Severity, Timestamp};
use pitr_vfs::sim::{Disk, Rng, SimClock, SimFs};
use pitr_wal::{Damage, Error, LogBatch, Wal, Witness};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEGMENT_BYTES: u32 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:016x}.seg"))
}

const COMMITS: usize = 83;

/// A closed log of several segments with more than one batch in the last; its batches, and the last
/// durable point that a batch states.
fn log() -> (Disk, Vec<LogBatch>, Lsn) {
    let fs = SimFs::new();
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let wal =
        Wal::create(&env(Arc::new(fs.clone()), clock), dir(), &start(SEGMENT_BYTES), &options()).unwrap();
    for tx in 1..=COMMITS as u64 {
        wal.commit(transaction(tx)).unwrap();
    }
    let all = batches(&mut wal.reader(Lsn::ORIGIN).unwrap()).unwrap();
    let stated = all.last().unwrap().header.durable;
    assert!(all.last().unwrap().segment.get() > 4);
    (fs.durable_disk(), all, stated)
}

/// Opens the log and reads all of it: the first error, or the number of transactions.
fn judge(disk: &Disk, archived_to: Lsn) -> Result<usize, Error> {
    let fs = SimFs::on(disk.clone());
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let (wal, _) = Wal::open(&env(Arc::new(fs), clock), dir(), archived_to, &options())?;
    let read = history(&mut wal.reader(Lsn::ORIGIN).unwrap());
    // A scan finds the same fault.
    for read_in_place in [scanned, folded] {
        let scan = wal.scan(Lsn::ORIGIN, wal.durable()).and_then(|scan| read_in_place(&scan));
        let (one, other) = (scan.err().map(|e| e.to_string()), read.as_ref().err().map(|e| e.to_string()));
        assert_eq!(one, other);
    }
    Ok(read?.visible.len())
}

fn refused(outcome: Result<usize, Error>) -> (Lsn, Damage, Witness) {
    match outcome {
        Err(error @ Error::Hole { .. }) => {
            assert_eq!(error.severity(), Severity::Fatal);
            let Error::Hole { lsn, segment, offset, damage, durable, witness } = error else {
                unreachable!()
            };
            assert_eq!(lsn.get(), segment.get() * u64::from(SEGMENT_BYTES) + u64::from(offset));
            assert!(durable > lsn || damage == Damage::FileMissing);
            (lsn, damage, witness)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_flipped_bit_below_a_stated_durable_point_is_a_hole_at_its_batch() {
    let (disk, all, stated) = log();
    assert_eq!(judge(&disk, Lsn::ORIGIN).unwrap(), COMMITS);
    let mut rng = Rng::new(1);
    for batch in &all {
        for _ in 0..3 {
            let at = rng.below(batch.bytes.len() as u64);
            let offset = batch.header.lsn.get() % u64::from(SEGMENT_BYTES) + at;
            let flipped = batch.bytes[at as usize] ^ (1 << rng.below(8));
            let mut bad = disk.clone();
            assert!(bad.damage(&file(batch.segment.get()), offset, &[flipped]));
            // The archive is a witness for everything, later batches for all but the last.
            assert_eq!(refused(judge(&bad, all.last().unwrap().end())).0, batch.header.lsn);
            if batch.header.lsn < stated {
                assert_eq!(refused(judge(&bad, Lsn::ORIGIN)).0, batch.header.lsn);
            } else {
                assert!(judge(&bad, Lsn::ORIGIN).unwrap() < COMMITS, "a torn tail is cut");
            }
        }
    }
}

#[test]
fn a_zeroed_batch_is_a_hole_that_names_its_witness() {
    let (disk, all, _) = log();
    let [.., last_but_one, last] = &all[..] else { panic!("too few batches") };
    assert_eq!(last_but_one.segment, last.segment);
    let offset = last_but_one.header.lsn.get() % u64::from(SEGMENT_BYTES);
    let mut bad = disk.clone();
    bad.damage(&file(last.segment.get()), offset, &vec![0; last_but_one.bytes.len()]);
    let hole = refused(judge(&bad, Lsn::ORIGIN));
    assert_eq!(hole, (last_but_one.header.lsn, Damage::Zeros, Witness::Batch(last.header.lsn)));
    let mut short = disk.clone();
    short.damage(&file(last.segment.get()), offset, &vec![0; SEGMENT_BYTES as usize - offset as usize]);
    let hole = refused(judge(&short, last.end()));
    assert_eq!(hole, (last_but_one.header.lsn, Damage::Zeros, Witness::Archive));
    assert!(judge(&short, last_but_one.header.lsn).unwrap() < COMMITS);
}

#[test]
fn a_missing_segment_is_a_hole_and_a_damaged_one_is_named() {
    let (disk, all, _) = log();
    let (first, newest) = (all[0].segment.get(), all.last().unwrap().segment.get());
    for segment in first + 1..newest {
        let mut bad = disk.clone();
        assert!(bad.lose(&file(segment)));
        let (lsn, damage, _) = refused(judge(&bad, Lsn::ORIGIN));
        assert_eq!((lsn.get(), damage), (segment * u64::from(SEGMENT_BYTES), Damage::FileMissing));
    }
    let mut bad = disk.clone();
    assert!(bad.lose(&file(newest)));
    assert!(matches!(
        judge(&bad, all.last().unwrap().end()),
        Err(Error::Hole { witness: Witness::Archive, .. })
    ));
    for segment in first..=newest {
        let mut bad = disk.clone();
        bad.damage(&file(segment), 40, &[0xff]);
        assert!(
            matches!(judge(&bad, Lsn::ORIGIN), Err(Error::Header { segment: s, .. }) if s.get() == segment)
        );
        let mut bad = disk.clone();
        bad.damage_len(&file(segment), 9_000);
        assert!(
            matches!(judge(&bad, Lsn::ORIGIN), Err(Error::Header { segment: s, .. }) if s.get() == segment)
        );
    }
}

#[test]
fn a_segment_of_another_log_is_refused() {
    // FAILURES 13: the same name, other bytes.
    let (disk, ..) = log();
    let fs = SimFs::new();
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let other = pitr_wal::Start { log_id: [8; 16], ..start(SEGMENT_BYTES) };
    let wal = Wal::create(&env(Arc::new(fs.clone()), clock), dir(), &other, &options()).unwrap();
    (1..=80).for_each(|tx| drop(wal.commit(transaction(tx)).unwrap()));
    let theirs = fs.durable_disk().read(&file(3)).unwrap();
    let mut mixed = disk.clone();
    mixed.damage(&file(3), 0, &theirs);
    assert!(
        matches!(judge(&mixed, Lsn::ORIGIN), Err(Error::Foreign { segment, what: "log identity", .. }) if segment.get() == 3)
    );
    let renamed = disk.read(&file(4)).unwrap();
    let mut moved = disk.clone();
    moved.damage(&file(3), 0, &renamed);
    assert!(matches!(judge(&moved, Lsn::ORIGIN), Err(Error::Foreign { what: "number", .. })));
}
