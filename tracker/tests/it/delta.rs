//! The extractor compared with the files, and the bitmap compared with the extractor.

use crate::help::{Log, Write, assert_promise, range, size_of};
use pitr_format::log::WholeRecord;
use pitr_format::record::RecordKind;
use pitr_format::{FileId, Lsn, PartitionId, TxId};
use pitr_tracker::{Error, Extractor, LsnRange, Tracker};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::SimFs;
use proptest::prelude::*;
use std::path::Path;

fn log() -> Log {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    Log::create(&fs, Path::new("/d/log"))
}

fn write() -> impl Strategy<Value = Write> {
    let file = || (0u32..2).prop_map(FileId::new);
    prop_oneof![
        5 => (file(), 0u64..40, 1u8..).prop_map(|(file, block, fill)| Write::Image(file, block, fill)),
        1 => (file(), 0u64..2_000).prop_map(|(file, len)| Write::SetLength(file, len)),
    ]
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Write>>> {
    prop::collection::vec(prop::collection::vec(write(), 0..5), 0..25)
}

proptest! {
    #[test]
    fn blocks_outside_a_delta_did_not_change(txs in transactions(), a: prop::sample::Index, b: prop::sample::Index) {
        // FAILURES 5, 45: files shrink and grow in between.
        let mut log = log();
        let mut ends = vec![Log::BEGIN];
        ends.extend(txs.iter().map(|tx| log.append(tx)));
        log.sync().unwrap();
        let (a, b) = (ends[a.index(ends.len())], ends[b.index(ends.len())]);
        let between = LsnRange::new(a.min(b), a.max(b)).unwrap();
        let set = log.extract(between).set;
        assert_promise(&log, between, &set);

        // The delta reports no more than it must: the images, and everything after the shortest
        // length.
        let inside = ends.iter().zip(&txs).filter(|(begin, _)| between.contains(**begin));
        let writes: Vec<&Write> = inside.flat_map(|(_, tx)| tx).collect();
        for file in [0, 1].map(FileId::new) {
            let bytes = u64::from(size_of(file).bytes());
            for block in 0..45 {
                let expected = writes.iter().any(|write| match write {
                    Write::Image(of, image, _) => (*of, *image) == (file, block),
                    Write::SetLength(of, len) => *of == file && (block + 1) * bytes > *len,
                });
                prop_assert_eq!(set.contains(file, size_of(file), block), expected);
            }
        }
    }

    #[test]
    fn the_bitmap_of_each_epoch_matches_the_log(
        txs in transactions(),
        freezes in prop::collection::vec(any::<bool>(), 25),
    ) {
        let mut log = log();
        let tracker = Tracker::new(log.durable());
        let mut at = log.durable();
        for (tx, freeze) in txs.iter().zip(&freezes) {
            let pass = tracker.enter();
            let end = log.append(tx);
            log.sync().unwrap();
            tx.iter().for_each(|write| write.with_record(|record| pass.record(record)));
            pass.done(end);
            if *freeze {
                let changes = tracker.freeze(|| log.durable()).unwrap();
                prop_assert_eq!(changes.range, LsnRange::new(at, end).unwrap());
                at = end;
                let truth = log.extract(changes.range);
                prop_assert!(changes.set.is_superset(&truth.set));
                prop_assert!(truth.set.is_superset(&changes.set), "with one writer it reports no more than the log");
                assert_promise(&log, changes.range, &changes.set);
            }
        }
    }
}

#[test]
fn an_incomplete_read_is_refused() {
    // FAILURES 11: a log that ends too early must not look like one without changes.
    let wanted = range(100, 200);
    let finish = |from, to| Extractor::new(wanted).finish(range(from, to));
    assert!(finish(100, 200).is_ok() && finish(0, 900).is_ok());
    for (from, to) in [(101, 200), (100, 199), (0, 0), (300, 400)] {
        let refused = finish(from, to);
        assert!(matches!(refused, Err(Error::Incomplete { range, .. }) if range == wanted), "{from} {to}");
    }
}

#[test]
fn repeated_and_undecodable_records_are_refused() {
    let record = |lsn, kind: u8, payload: &'static [u8]| WholeRecord {
        lsn: Lsn::new(lsn),
        end: Lsn::new(lsn + 30),
        kind,
        partition: PartitionId::FIRST,
        tx: TxId::NONE,
        payload,
    };
    let refused = |records: &[WholeRecord<'_>]| {
        let mut extractor = Extractor::new(range(100, 200));
        let error = records.iter().map(|record| extractor.push(record)).find_map(Result::err).unwrap();
        assert!(
            extractor.finish(range(0, 900)).unwrap().set.is_whole(),
            "after an error everything counts as changed"
        );
        error
    };
    let data = record(100, RecordKind::Data as u8, b"x");
    assert!(matches!(refused(&[data, record(129, 3, b"x")]), Error::OutOfOrder { .. }));
    assert!(matches!(refused(&[WholeRecord { end: Lsn::new(99), ..data }]), Error::OutOfOrder { .. }));
    for (kind, payload) in [(RecordKind::Image as u8, &b"short"[..]), (77, b"")] {
        let unread = refused(&[data, record(130, kind, payload)]);
        assert!(matches!(unread, Error::Record { lsn, .. } if lsn == Lsn::new(130)), "{kind}");
    }
    let mut outside = Extractor::new(range(100, 200));
    outside.push(&record(99, 77, b"")).unwrap();
    outside.push(&record(200, 77, b"")).unwrap();
}
