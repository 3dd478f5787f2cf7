//! Power loss at every point of a run, and again while tracking resumes (law 10).
//!
//! One run is recorded: three threads log and mark, and one freezes, stores and sometimes removes.
//! For every cut of its trace and every survival mode, the test builds the disk and compares the
//! known changes with the log on it.

use crate::help::{LOG, Log, assert_promise, transact};
use pitr_format::Lsn;
use pitr_tracker::{Changes, LsnRange, Store, Tracker};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Disk, Mode, Op, Rng, SimFs, Survivors, Synced, Trace};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const WRITERS: u64 = 3;
/// Writers stop after this many claims. No writer is ahead by more than [`TXS_PER_CLAIM`]
/// transactions per claim.
const CLAIMS: usize = 14;
const TXS_PER_CLAIM: usize = 5;
/// After this many claims the first of them are removed.
const REMOVED_AT: usize = 6;
const REMOVED_BELOW: usize = 2;
/// Trace marks: from this value on, mark - CLAIMED is the index of a durable claim. Below it, the
/// mark is the durable LSN of the log.
const CLAIMED: u64 = 1 << 40;
/// Trace mark: tracking has resumed.
const OPENED: u64 = 1 << 50;
/// One disk in this many resumes tracking and loses power again.
const SECOND_EVERY: u64 = 61;

fn log_path() -> &'static Path {
    Path::new("/d/log")
}

fn dir() -> &'static Path {
    Path::new("/d/tracker")
}

fn open(fs: &SimFs, log: &Log) -> Store {
    Store::open(Arc::new(fs.clone()), dir(), LOG, log.durable()).unwrap()
}

fn freeze_and_keep(
    fs: &SimFs,
    tracker: &Tracker,
    log: &Mutex<Log>,
    store: &mut Store,
    kept: &mut Vec<LsnRange>,
) {
    let changes = tracker.freeze(|| log.lock().unwrap().durable()).unwrap();
    if changes.range.is_empty() {
        return;
    }
    store.put(&changes).unwrap();
    kept.push(changes.range);
    fs.ack(CLAIMED + kept.len() as u64 - 1);
}

/// Records the run. Returns the trace and the claimed ranges.
fn record() -> (Trace, Vec<LsnRange>) {
    let fs = SimFs::new().with_slow_syncs();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let log = Mutex::new(Log::create(&fs, log_path()));
    let tracker = Tracker::new(Log::BEGIN);
    let mut store = open(&fs, &log.lock().unwrap());
    let (mut kept, claims) = (Vec::new(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|thread| {
                let (fs, tracker, log) = (&fs, &tracker, &log);
                let claims = &claims;
                scope.spawn(move || {
                    let (mut rng, mut txs) = (Rng::new(thread), 0);
                    while claims.load(Ordering::Relaxed) < CLAIMS {
                        if txs > TXS_PER_CLAIM * claims.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                            continue;
                        }
                        transact(&mut rng, 4, tracker, log, |durable| fs.ack(durable.get()));
                        txs += 1;
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            freeze_and_keep(&fs, &tracker, &log, &mut store, &mut kept);
            if kept.len() == REMOVED_AT {
                store.remove_below(kept[REMOVED_BELOW].to()).unwrap();
            }
            claims.store(kept.len(), Ordering::Relaxed);
        }
    });
    freeze_and_keep(&fs, &tracker, &log, &mut store, &mut kept);
    (fs.trace(), kept)
}

/// The claims and log that must be present after a cut.
#[derive(Debug, Default, Clone)]
struct Demands {
    durable: Lsn,
    claimed: BTreeSet<LsnRange>,
    /// Claims below this LSN were removed, or are being removed.
    removed_below: Lsn,
    opened: bool,
}

impl Demands {
    fn note(&mut self, op: &Op, kept: &[LsnRange]) {
        match op {
            Op::Ack(OPENED) => self.opened = true,
            Op::Ack(mark) if *mark >= CLAIMED => drop(self.claimed.insert(kept[(mark - CLAIMED) as usize])),
            Op::Ack(lsn) => self.durable = self.durable.max(Lsn::new(*lsn)),
            Op::Remove { .. } => {
                self.removed_below = kept.get(REMOVED_BELOW).map_or(Lsn::ORIGIN, LsnRange::to)
            }
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    disks: u64,
    second: u64,
    claims: u64,
    missing: u64,
}

/// Opens the disk. Everything demanded must be present, and no change may be missing.
fn check(disk: &Disk, demands: &Demands, count: &mut Count) -> (SimFs, Log, Store) {
    let fs = SimFs::on(disk.clone());
    let log = Log::open(&fs, log_path());
    assert!(log.durable() >= demands.durable, "the test log lost records");
    let store = open(&fs, &log);
    assert!(store.damaged().is_empty(), "an incomplete claim: {:?}", store.damaged());
    let claims: BTreeSet<LsnRange> = store.claims().collect();
    for claim in demands.claimed.iter().filter(|claim| claim.to() > demands.removed_below) {
        assert!(claims.contains(claim), "the claim of {claim} is lost");
    }
    count.claims += claims.len() as u64;
    for claim in claims {
        let coverage = store.coverage(claim).unwrap();
        assert!(coverage.missing().is_empty() && coverage.damaged().is_empty());
        let truth = log.extract(claim);
        assert!(coverage.into_set().is_superset(&truth.set), "the claim of {claim} lacks a block");
    }
    let all = LsnRange::new(Log::BEGIN, log.durable()).unwrap();
    let mut coverage = store.coverage(all).unwrap();
    count.missing += coverage.missing().len() as u64;
    for part in coverage.missing().to_vec() {
        coverage.add(&log.extract(part));
    }
    let set = coverage.into_set();
    assert!(!set.is_whole(), "no part is missing after reading the log");
    assert!(set.is_superset(&log.extract(all).set));
    assert_promise(&log, all, &set);
    (fs, log, store)
}

/// Resumes tracking, and loses power again at every point of that.
fn second_life((fs, log, mut store): (SimFs, Log, Store), demands: &Demands, count: &mut Count) {
    fs.ack(OPENED);
    let tail_from = store.claims().map(|claim| claim.to()).max().unwrap_or(Log::BEGIN);
    let tail: Changes = log.extract(LsnRange::new(tail_from, log.durable()).unwrap());
    let (tracker, log, mut rng) = (Tracker::resume(&tail), Mutex::new(log), Rng::new(count.disks));
    let mut kept = Vec::new();
    for _ in 0..3 {
        transact(&mut rng, 4, &tracker, &log, |durable| fs.ack(durable.get()));
        freeze_and_keep(&fs, &tracker, &log, &mut store, &mut kept);
    }
    assert_eq!(kept[0].from(), tail_from, "the first claim covers the part read from the log");
    let trace = fs.trace();
    let mut demands = Demands { opened: false, ..demands.clone() };
    let mut survivors = Survivors::new(&trace);
    while let Some(op) = survivors.advance() {
        demands.note(op, &kept);
        for mode in [Mode::Synced, Mode::Subset, Mode::TornSector] {
            count.second += 1;
            check(&survivors.disk(mode, count.second), &demands, &mut Count::default());
        }
    }
    assert!(demands.opened && kept.iter().all(|claim| demands.claimed.contains(claim)));
}

#[test]
fn power_loss_at_any_point_never_hides_a_change() {
    // FAILURES 23, 26, 42
    let (trace, kept) = record();
    let (mut survivors, mut demands, mut count) =
        (Survivors::new(&trace), Demands::default(), Count::default());
    let log_named = |op: &Op| matches!(op, Op::Sync { what: Synced::Dir(_), .. });
    let begin = 1 + trace.ops.iter().position(log_named).unwrap();
    while let Some(op) = survivors.advance() {
        demands.note(op, &kept);
        let same_as_next = matches!(trace.ops.get(survivors.cut()), Some(Op::Ack(_)));
        if same_as_next || survivors.cut() < begin {
            continue;
        }
        for mode in Mode::ALL {
            if survivors.pending() == 0 && mode != Mode::Synced {
                continue;
            }
            count.disks += 1;
            let disk = survivors.disk(mode, count.disks);
            let checked = check(&disk, &demands, &mut count);
            if count.disks.is_multiple_of(SECOND_EVERY) {
                second_life(checked, &demands, &mut count);
            }
        }
    }
    assert_eq!(demands.claimed.len(), kept.len());
    assert!(kept.len() >= CLAIMS && count.missing > count.disks / 4, "{} {count:?}", kept.len());
    println!("{} claims, {} ops; {count:?}", kept.len(), trace.ops.len());
}

#[test]
fn claims_seen_after_a_kill_survive_a_power_loss() {
    // FAILURES 26: claims that the successor saw must not disappear later.
    let (trace, _) = record();
    for cut in (0..trace.ops.len()).step_by(7) {
        let fs = SimFs::after_kill(&trace, cut);
        if !fs.exists(log_path()).unwrap() {
            continue;
        }
        let log = Log::open(&fs, log_path());
        let seen: Vec<LsnRange> = open(&fs, &log).claims().collect();
        let after = SimFs::on(fs.durable_disk());
        if !after.exists(log_path()).unwrap() {
            continue;
        }
        let log = Log::open(&after, log_path());
        let store = open(&after, &log);
        assert!(store.claims().eq(seen.iter().copied()), "seen, then lost, at {cut}");
        for claim in seen {
            assert!(store.coverage(claim).unwrap().into_set().is_superset(&log.extract(claim).set));
        }
    }
}
