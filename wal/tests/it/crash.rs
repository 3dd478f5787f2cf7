//! Power loss at every point of a run, and again while the log recovers (law 10).
//!
//! Records one run: four threads, 2,000 commits, segments of 64 KiB. Builds the disk for every cut
//! of its trace and every survival mode, and opens the log on it. Skips cuts right before an
//! acknowledgement: the disk is the same as right after it, where the test demands more.

use crate::help::{env, options, start};
use crate::workload::{History, history, numbers, transaction};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::{Disk, Mode, Op, Rng, SimClock, SimFs, Survivors, Synced, Trace};
use pitr_wal::{BatchBuilder, Recovered, Wal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DIR: &str = "/log";
const THREADS: u64 = 4;
const COMMITS: u64 = 2_000;
/// In the trace, a mark of at least this number means that a reader returned a batch.
const HANDED_OUT: u64 = 1 << 32;
/// Mark: the log was opened.
const OPENED: u64 = 1 << 40;
/// Transactions of a second life are numbered from here.
const SECOND_LIFE: u64 = 1_000_000;
/// The whole log is read on one disk in this many. On the others, only the part near the cut is
/// read: earlier cuts covered the rest.
const WHOLE_EVERY: u64 = 23;
/// The log is written again, and power lost a second time, on one disk in this many.
const SECOND_EVERY: u64 = 29;
/// At one cut in this many, the process dies first, and then the power is lost.
const KILL_EVERY: u64 = 29;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(Timestamp::from_micros(1_000)))
}

fn open(fs: &SimFs, archived_to: Lsn) -> (Wal, Recovered) {
    Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), archived_to, &options()).unwrap()
}

/// The knowledge of the threads in the recorded run.
#[derive(Debug, Default)]
struct Known {
    /// Start and end of each transaction.
    placed: BTreeMap<u64, (Lsn, Lsn)>,
    /// Batches that a reader returned, in order.
    handed_out: Vec<(Lsn, Vec<u8>)>,
}

/// Records the run.
fn record() -> (Trace, Known) {
    let fs = SimFs::new().with_slow_syncs();
    let time = clock();
    let wal =
        Wal::create(&env(Arc::new(fs.clone()), Arc::clone(&time) as _), dir(), &start(64 << 10), &options())
            .unwrap();
    let known = Mutex::new(Known::default());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (wal, fs, time, known) = (wal.clone(), fs.clone(), Arc::clone(&time), &known);
                scope.spawn(move || write(thread, &wal, &fs, &time, known))
            })
            .collect();
        // A thread follows the log while it is written.
        let mut reader = wal.reader(Lsn::ORIGIN).unwrap();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            while let Some(batch) = reader.next_batch().unwrap() {
                let mut known = known.lock().unwrap();
                fs.ack(HANDED_OUT + known.handed_out.len() as u64);
                known.handed_out.push((batch.header.lsn, batch.bytes));
            }
            std::thread::yield_now();
        }
    });
    (fs.trace(), known.into_inner().unwrap())
}

fn write(thread: u64, wal: &Wal, fs: &SimFs, time: &SimClock, known: &Mutex<Known>) {
    let mut rng = Rng::new(thread);
    let mut unsynced = Vec::new();
    for nth in 0..COMMITS / THREADS {
        let tx = 1 + nth * THREADS + thread;
        // FAILURES 15: set forward and back.
        time.set(Timestamp::from_micros(1_000 + rng.below(5_000) as i64));
        let only_append = rng.once_in(6);
        let builder = transaction(tx);
        let appended = if only_append { wal.append(builder) } else { wal.commit(builder) }.unwrap();
        known.lock().unwrap().placed.insert(tx, (appended.first, appended.end));
        unsynced.push(tx);
        if only_append && rng.once_in(2) {
            wal.flush().unwrap();
        }
        if !only_append {
            assert!(wal.durable() >= appended.end);
            unsynced.drain(..).for_each(|tx| fs.ack(tx));
        }
    }
    wal.sync().unwrap();
    unsynced.into_iter().for_each(|tx| fs.ack(tx));
}

/// Demands on the log on a surviving disk.
#[derive(Debug, Default, Clone)]
struct Demands {
    /// Acknowledged transactions of the recorded run: number and end, by their start.
    acked: BTreeMap<Lsn, (u64, Lsn)>,
    /// Acknowledged transactions of the second life.
    acked_later: Vec<u64>,
    /// Number of batches that a reader had returned.
    handed_out: usize,
    opened: bool,
}

impl Demands {
    fn note(&mut self, op: &Op, known: &Known) {
        match op {
            Op::Ack(OPENED) => self.opened = true,
            Op::Ack(mark) if *mark >= HANDED_OUT => self.handed_out += 1,
            Op::Ack(tx) if *tx >= SECOND_LIFE => self.acked_later.push(*tx),
            Op::Ack(tx) => {
                let (first, end) = known.placed[tx];
                self.acked.insert(first, (*tx, end));
            }
            _ => {}
        }
    }

    /// The start of a batch some way before the newest acknowledged transaction, where a record
    /// starts.
    fn near(&self, known: &Known) -> Lsn {
        self.handed_out.checked_sub(12).map_or(Lsn::ORIGIN, |index| known.handed_out[index].0)
    }
}

/// Counts of the test's operations.
#[derive(Debug, Default)]
struct Count {
    disks: u64,
    cuts: u64,
    second: u64,
    kills: u64,
}

/// Opens the log on `disk`, reads it from about `from` on, and checks the demands.
fn check(disk: &Disk, known: &Known, demands: &Demands, from: Lsn) -> (SimFs, Wal, Recovered, History) {
    let fs = SimFs::on(disk.clone());
    let (wal, recovered) = open(&fs, Lsn::ORIGIN);
    let found = history(&mut wal.reader(from).unwrap()).unwrap();
    demand(&found, known, demands, from);
    assert_eq!(wal.durable(), recovered.end);
    (fs, wal, recovered, found)
}

fn demand(found: &History, known: &Known, demands: &Demands, from: Lsn) {
    for (tx, end) in demands.acked.range(from..).map(|(_, acked)| acked) {
        assert_eq!(found.visible.get(tx), Some(end), "acknowledged transaction {tx} is lost");
    }
    // FAILURES 42: a returned batch never changes its content.
    let handed_out = &known.handed_out[..demands.handed_out];
    let near = handed_out.partition_point(|(lsn, _)| *lsn < from);
    for (lsn, bytes) in &handed_out[near..] {
        assert!(found.batches.get(lsn) == Some(bytes), "the batch at {lsn} was handed out too early");
    }
}

#[test]
fn power_loss_at_every_point_loses_nothing_acknowledged_and_shows_nothing_half() {
    let begin = Instant::now();
    let (trace, known) = record();
    let recorded = begin.elapsed();
    let (mut survivors, mut demands, mut count) =
        (Survivors::new(&trace), Demands::default(), Count::default());
    while let Some(op) = survivors.advance() {
        demands.note(op, &known);
        let same_as_next = matches!(trace.ops.get(survivors.cut()), Some(Op::Ack(_)));
        if same_as_next || survivors.cut() < made_at(&trace) {
            continue;
        }
        count.cuts += 1;
        for mode in Mode::ALL {
            if survivors.pending() == 0 && mode != Mode::Synced {
                continue; // no unsynced writes: every mode leaves the same disk
            }
            count.disks += 1;
            let disk = survivors.disk(mode, count.disks);
            let whole = count.disks.is_multiple_of(WHOLE_EVERY);
            let from = if whole { Lsn::ORIGIN } else { demands.near(&known) };
            let checked = check(&disk, &known, &demands, from);
            if count.disks.is_multiple_of(SECOND_EVERY) {
                second_crash(checked, &known, &demands, from, &mut count);
            }
        }
        if count.cuts.is_multiple_of(KILL_EVERY) {
            kill(&trace, survivors.cut(), &known, &demands, &mut count);
        }
    }
    assert_eq!(demands.acked.len() as u64, COMMITS);
    let Count { disks, cuts, second, kills } = count;
    println!(
        "{COMMITS} commits recorded in {:.1} s, {} ops; {disks} disks at {cuts} cuts opened and checked; every {SECOND_EVERY}th \
         written on and cut again: {second} disks; {kills} disks after a killed process (every {KILL_EVERY}th cut); {:.1} s in all",
        recorded.as_secs_f64(),
        trace.ops.len(),
        begin.elapsed().as_secs_f64(),
    );
    assert!(begin.elapsed() < Duration::from_secs(600), "far too slow");
}

/// Number of ops that created the log.
fn made_at(trace: &Trace) -> usize {
    let synced = |op: &Op| matches!(op, Op::Sync { what: Synced::Dir(_), .. });
    1 + trace.ops.iter().position(synced).unwrap()
}

/// Continues writing after a crash, then loses power at every point of that second life (FAILURES
/// 41).
fn second_crash(
    (fs, wal, _, before): (SimFs, Wal, Recovered, History),
    known: &Known,
    demands: &Demands,
    from: Lsn,
    count: &mut Count,
) {
    second_life(&fs, &wal);
    let trace = fs.trace();
    let mut demands = Demands { opened: false, ..demands.clone() };
    let mut survivors = Survivors::new(&trace);
    while let Some(op) = survivors.advance() {
        demands.note(op, known);
        for mode in [Mode::Synced, Mode::Subset, Mode::TornSector] {
            count.second += 1;
            let disk = survivors.disk(mode, count.second);
            let (_, _, _, after) = check(&disk, known, &demands, from);
            check_second(&before, &after, &demands);
        }
    }
}

fn second_life(fs: &SimFs, wal: &Wal) {
    fs.ack(OPENED);
    for nth in 0..3 {
        let tx = SECOND_LIFE + nth;
        wal.commit(transaction(tx)).unwrap();
        fs.ack(tx);
    }
}

/// The records that the first recovery found are kept, and no others appear.
fn check_second(before: &History, after: &History, demands: &Demands) {
    let (before, after) = (numbers(before), numbers(after));
    for tx in &demands.acked_later {
        assert!(after.contains(tx), "acknowledged transaction {tx} of the second life is lost");
    }
    if demands.opened {
        assert!(after.is_superset(&before), "recovered, then lost: {:?}", before.difference(&after));
        let risen: BTreeSet<_> = after.difference(&before).filter(|tx| **tx < SECOND_LIFE).collect();
        assert!(risen.is_empty(), "came back to life: {risen:?}");
    }
}

/// The process is killed, its successor opens the log from the page cache and continues; then the
/// power is lost.
fn kill(trace: &Trace, cut: usize, known: &Known, demands: &Demands, count: &mut Count) {
    let fs = SimFs::after_kill(trace, cut);
    let (wal, _) = open(&fs, Lsn::ORIGIN);
    let from = demands.near(known);
    let before = history(&mut wal.reader(from).unwrap()).unwrap();
    second_life(&fs, &wal);
    let trace = fs.trace();
    let mut demands = Demands { opened: false, ..demands.clone() };
    let mut survivors = Survivors::at(&trace, cut);
    while let Some(op) = survivors.advance() {
        demands.note(op, known);
        for mode in [Mode::Synced, Mode::Reordered] {
            count.kills += 1;
            let disk = survivors.disk(mode, count.kills);
            let (_, _, _, after) = check(&disk, known, &demands, from);
            check_second(&before, &after, &demands);
        }
    }
}

#[test]
fn power_loss_while_segments_are_skipped_and_removed() {
    let fs = SimFs::new();
    let wal = Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(16 << 10), &options()).unwrap();
    for tx in 1..=120 {
        wal.commit(transaction(tx)).unwrap();
        fs.ack(tx);
        match tx % 12 {
            5 => drop(wal.skip().unwrap()),
            11 => drop(wal.remove_below(wal.durable()).unwrap()),
            _ => {}
        }
    }
    let ends: BTreeMap<u64, Lsn> = history(&mut wal.reader(wal.first()).unwrap()).unwrap().visible;
    let trace = fs.trace();
    let (mut survivors, mut acked, mut disks) = (Survivors::new(&trace), Vec::new(), 0);
    while let Some(op) = survivors.advance() {
        if let Op::Ack(tx) = op {
            acked.push(*tx);
        }
        if survivors.cut() < made_at(&trace) {
            continue;
        }
        for mode in Mode::ALL {
            disks += 1;
            let fs = SimFs::on(survivors.disk(mode, disks));
            let (wal, recovered) = open(&fs, Lsn::ORIGIN);
            let found = history(&mut wal.reader(wal.first()).unwrap()).unwrap();
            for tx in &acked {
                let removed = ends.get(tx).is_none_or(|end| *end <= recovered.first);
                assert!(removed || found.visible.contains_key(tx), "{tx} is lost");
            }
        }
    }
    println!("{disks} disks with skips and removals");
}

#[test]
fn power_loss_while_a_log_is_made_leaves_none_or_a_whole_one() {
    // FAILURES 26
    let fs = SimFs::new();
    drop(Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(16 << 10), &options()).unwrap());
    let trace = fs.trace();
    let mut survivors = Survivors::new(&trace);
    let (mut none, mut whole) = (0, 0);
    while survivors.advance().is_some() {
        for mode in Mode::ALL {
            let fs = SimFs::on(survivors.disk(mode, 3));
            match Wal::open(&env(Arc::new(fs.clone()), clock()), dir(), Lsn::ORIGIN, &options()) {
                Ok((wal, recovered)) => {
                    whole += 1;
                    assert_eq!((recovered.cut, wal.end()), (None, Lsn::new((16 << 10) + 4096)));
                }
                Err(pitr_wal::Error::NoLog { .. }) => {
                    none += 1;
                    let wal = Wal::create(&env(Arc::new(fs), clock()), dir(), &start(16 << 10), &options())
                        .unwrap();
                    wal.commit(BatchBuilder::new()).unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(none > 3 && whole > 3, "{none} {whole}");
    assert!(fs.exists(dir()).unwrap());
}
