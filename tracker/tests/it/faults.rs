//! Failing syncs and full disks at every point of a put (FAILURES 18).

use crate::help::{LOG, Write, changes, range};
use pitr_format::{FileId, Lsn};
use pitr_tracker::{Changes, Error, Store};
use pitr_vfs::sim::{Fault, Mode, SimFs, Survivors};
use std::path::Path;
use std::sync::Arc;

fn open(fs: &SimFs) -> Store {
    Store::open(Arc::new(fs.clone()), Path::new("/d"), LOG, Lsn::new(1_000)).unwrap()
}

fn one() -> Changes {
    changes(range(10, 20), &[Write::Image(FileId::FIRST, 3, 1), Write::SetLength(FileId::new(1), 90)])
}

/// Checks every surviving disk: a claim that is present is complete.
fn nothing_half_survives(fs: &SimFs, acked: bool) {
    let trace = fs.trace();
    let survivors = Survivors::at(&trace, trace.ops.len());
    for mode in Mode::ALL {
        for seed in 0..8 {
            let store = open(&SimFs::on(survivors.disk(mode, seed)));
            assert!(store.damaged().is_empty());
            let coverage = store.coverage(range(10, 20)).unwrap();
            assert!(coverage.damaged().is_empty());
            assert!(!acked || coverage.missing().is_empty(), "an acknowledged claim is lost");
            let set = coverage.into_set();
            assert!(set == one().set || set.is_whole());
        }
    }
}

#[test]
fn a_failed_put_claims_nothing_and_can_be_retried() {
    let faults: [fn(u64) -> Fault; 2] = [|nth| Fault::Sync { nth }, |nth| Fault::Full { nth }];
    for fault in faults {
        let mut failed = 0;
        for nth in 0.. {
            let fs = SimFs::new();
            let mut store = open(&fs);
            fs.inject(fault(nth));
            let outcome = store.put(&one());
            if outcome.is_ok() {
                assert!(nth > 0);
                break;
            }
            failed += 1;
            assert!(matches!(outcome, Err(Error::Io { .. })));
            assert_eq!(store.claims().count(), 0);
            assert!(store.coverage(range(10, 20)).unwrap().into_set().is_whole());
            nothing_half_survives(&fs, false);
            fs.mend();
            store.put(&one()).unwrap();
            assert!(store.claims().eq([range(10, 20)]));
            assert_eq!(store.coverage(range(10, 20)).unwrap().into_set(), one().set);
            nothing_half_survives(&fs, true);
        }
        assert!(failed >= 2, "{failed}");
    }
}

#[test]
fn a_repeated_claim_keeps_the_first_and_an_empty_range_claims_nothing() {
    let fs = SimFs::new();
    let mut store = open(&fs);
    store.put(&one()).unwrap();
    let more = changes(range(10, 20), &[Write::Image(FileId::FIRST, 8, 1)]);
    store.put(&more).unwrap();
    assert_eq!(store.coverage(range(10, 20)).unwrap().into_set(), one().set);
    store.put(&changes(range(20, 20), &[])).unwrap();
    assert_eq!(store.claims().count(), 1);
}

#[test]
fn a_failed_sync_on_open_is_an_error() {
    let fs = SimFs::new();
    fs.inject(Fault::Sync { nth: 0 });
    let opened = Store::open(Arc::new(fs), Path::new("/d"), LOG, Lsn::ORIGIN);
    assert!(matches!(opened, Err(Error::Io { op: "sync", .. })));
}
