//! Concurrent writers and freezes on real threads.

use crate::help::{Log, assert_promise, transact};
use pitr_format::{FileId, Lsn};
use pitr_tracker::{BlockSize, Changes, LsnRange, Tracker};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Rng, SimFs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

const WRITERS: u64 = 3;
/// Writers stop after this many freezes with records, or after [`TXS`] transactions each.
const BUSY: usize = 60;
const TXS: u64 = 3_000;

fn write(thread: u64, tracker: &Tracker, log: &Mutex<Log>, enough: &AtomicBool) {
    let mut rng = Rng::new(thread);
    for _ in (0..TXS).take_while(|_| !enough.load(Ordering::Relaxed)) {
        transact(&mut rng, 3, tracker, log, |_| {});
    }
}

#[test]
fn no_mark_is_lost_between_epochs() {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let log = Mutex::new(Log::create(&fs, Path::new("/d/log")));
    let tracker = Tracker::new(Log::BEGIN);
    let (mut frozen, mut busy, enough) = (Vec::<Changes>::new(), 0, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|thread| {
                let (tracker, log, enough) = (&tracker, &log, &enough);
                scope.spawn(move || write(thread, tracker, log, enough))
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let changes = tracker.freeze(|| log.lock().unwrap().durable()).unwrap();
            busy += usize::from(!changes.range.is_empty());
            frozen.push(changes);
            enough.store(busy >= BUSY, Ordering::Relaxed);
        }
    });
    let log = log.into_inner().unwrap();
    frozen.push(tracker.freeze(|| log.durable()).unwrap());

    let mut at = Log::BEGIN;
    for changes in &frozen {
        assert_eq!(changes.range.from(), at);
        at = changes.range.to();
    }
    assert_eq!(at, log.durable());
    let busy: Vec<&Changes> = frozen.iter().filter(|changes| !changes.range.is_empty()).collect();
    println!("{} freezes, {} of them with records", frozen.len(), busy.len());
    assert!(busy.len() > 5, "writers and freezes must overlap");
    for changes in busy.iter() {
        assert!(changes.set.is_superset(&log.extract(changes.range).set), "{}", changes.range);
    }
    for pair in busy.windows(2).step_by(9) {
        let range = LsnRange::new(pair[0].range.from(), pair[1].range.to()).unwrap();
        let mut union = pair[0].set.clone();
        union.union(&pair[1].set);
        assert_promise(&log, range, &union);
    }
}

#[test]
fn every_mark_is_in_the_epoch_of_its_position() {
    // The log is a counter: each pass takes one position and marks the block with that number.
    const FREEZES: usize = 100;
    let (tracker, next, stop) = (Tracker::new(Lsn::ORIGIN), AtomicU64::new(0), AtomicBool::new(false));
    let (file, size) = (FileId::FIRST, BlockSize::DEFAULT);
    let frozen = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let pass = tracker.enter();
                    let position = next.fetch_add(1, Ordering::SeqCst);
                    pass.file(file, size).mark(position);
                    pass.done(Lsn::new(position + 1));
                    if position.is_multiple_of(64) {
                        std::thread::yield_now(); // needed with fewer cores than threads
                    }
                }
            });
        }
        let mut frozen: Vec<Changes> = Vec::new();
        while frozen.len() < FREEZES {
            let changes = tracker.freeze(|| Lsn::new(next.load(Ordering::SeqCst))).unwrap();
            frozen.extend((!changes.range.is_empty()).then_some(changes));
        }
        stop.store(true, Ordering::SeqCst);
        frozen
    });
    let rest = tracker.freeze(|| Lsn::new(next.load(Ordering::SeqCst))).unwrap();
    let mut at = 0;
    for changes in frozen.iter().chain([&rest]) {
        assert_eq!(changes.range.from().get(), at);
        at = changes.range.to().get();
        for block in changes.range.from().get()..at {
            assert!(changes.set.contains(file, size, block), "{block} is missing in {}", changes.range);
        }
    }
    assert_eq!(at, next.load(Ordering::SeqCst));
    println!("{FREEZES} freezes among {at} passes");
}

#[test]
fn writers_do_not_wait_for_a_freeze() {
    let tracker = Tracker::new(Lsn::ORIGIN);
    let (file, size, begun) = (FileId::FIRST, BlockSize::DEFAULT, Barrier::new(2));
    let slow = tracker.enter();
    std::thread::scope(|scope| {
        let freezer = scope.spawn(|| {
            begun.wait();
            tracker.freeze(|| Lsn::new(2_000)).unwrap()
        });
        begun.wait();
        // The freeze waits for the slow pass, while a thousand others begin and end.
        for position in 0..1_000 {
            let pass = tracker.enter();
            pass.file(file, size).mark(position);
            pass.done(Lsn::new(position + 1));
        }
        assert!(!freezer.is_finished());
        slow.done(Lsn::ORIGIN);
        let changes = freezer.join().unwrap();
        assert_eq!(changes.range.to(), Lsn::new(2_000));
        assert!(changes.set.blocks(file, size, 1_000 * 4096).eq(0..1_000));
    });
}
