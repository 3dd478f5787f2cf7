//! Measures each figure of the tracker together with its bound, and prints one table. `cargo xtask
//! measure tracker` saves it.
//!
//! Times are CPU times of a thread. Each round measures every case once, so that disturbances of
//! the machine affect all cases alike. The ratio to the bound is the median of the rounds' ratios.

#[allow(dead_code)]
mod work;

use pitr_format::Lsn;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use work::{Content, Flat};

/// Size of each log, bytes.
const LOG_BYTES: usize = 256 << 20;
/// Number of marks per timing. They take less than a scheduler time slice.
const SHARE: usize = 4096;

/// A row of the table with one value per round. Smaller is better, except for rates.
struct Row {
    title: String,
    unit: &'static str,
    /// Index of the row that is the bound of this one.
    bound: Option<usize>,
    values: Vec<f64>,
}

/// The table during the measurement. Rows are in the order in which a round reaches them.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    next: usize,
}

impl Table {
    /// Adds a value of this round. Returns the index of its row.
    fn take(&mut self, title: String, unit: &'static str, bound: Option<usize>, value: f64) -> usize {
        if self.next == self.rows.len() {
            self.rows.push(Row { title, unit, bound, values: Vec::new() });
        }
        self.rows[self.next].values.push(value);
        self.next += 1;
        self.next - 1
    }

    fn print(&self) {
        println!("| what | unit | median | least | most | to the bound above |");
        println!("| --- | --- | ---: | ---: | ---: | ---: |");
        for row in &self.rows {
            let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.values.iter().copied().fold(0.0, f64::max);
            let ratio = row.bound.map_or_else(String::new, |bound| {
                let pairs = row.values.iter().zip(&self.rows[bound].values);
                format!("{:.2}", median(pairs.map(|(own, bound)| own / bound).collect()))
            });
            let middle = median(row.values.clone());
            println!("| {} | {} | {middle:.2} | {least:.2} | {most:.2} | {ratio} |", row.title, row.unit);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread for `run`, seconds. Excludes the time of other threads on the same core.
fn core_seconds(run: impl FnOnce()) -> f64 {
    let now = || clock_gettime(ClockId::ThreadCPUTime);
    let begin = now();
    run();
    let end = now();
    (end.tv_sec - begin.tv_sec) as f64 + (end.tv_nsec - begin.tv_nsec) as f64 / 1e9
}

/// Nanoseconds per mark when `threads` threads each mark all blocks: the median over all shares.
fn per_mark(threads: u64, blocks: &[u64], run: impl Fn(&[u64]) + Sync) -> f64 {
    let shares = || {
        let per_share = |share: &[u64]| core_seconds(|| run(share)) * 1e9 / share.len() as f64;
        blocks.chunks(SHARE).map(per_share).collect::<Vec<f64>>()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(shares)).collect();
        let own = shares();
        let others = others.into_iter().flat_map(|other| other.join().expect("the marking thread finishes"));
        median(own.into_iter().chain(others).collect())
    })
}

fn marks(table: &mut Table) {
    let (flat, tracker) = (Flat::new(), work::full());
    let mark_flat = |blocks: &[u64]| flat.mark(blocks.iter().copied());
    let mark = |blocks: &[u64]| work::mark(&tracker, blocks.iter().copied());
    for (order, blocks) in work::orders() {
        for (first, state) in [(false, "set before"), (true, "first time")] {
            for threads in [1, 2] {
                let title = |who: &str| format!("mark, {order}, {state}, {threads} threads: {who}");
                if first {
                    flat.clear()
                } else {
                    mark_flat(&blocks)
                }
                let bound =
                    table.take(title("bare array"), "ns", None, per_mark(threads, &blocks, mark_flat));
                if first {
                    work::begin_epoch(&tracker)
                } else {
                    mark(&blocks)
                }
                table.take(title("tracker"), "ns", Some(bound), per_mark(threads, &blocks, mark));
            }
        }
    }
}

/// A pass with one mark in one file: the cost for a small transaction.
fn pass(table: &mut Table) {
    let tracker = work::full();
    let passes = |blocks: &[u64]| blocks.iter().for_each(|block| work::mark(&tracker, [*block]));
    let spent = per_mark(1, &[77; SHARE], passes);
    table.take("pass with one mark".into(), "ns", None, spent);
}

/// Resident memory of the process, bytes.
fn resident_bytes() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = stat.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    (pages * 4096) as f64
}

fn freeze(table: &mut Table) {
    let tracker = work::full();
    let spent = core_seconds(|| _ = tracker.freeze(|| Lsn::ORIGIN).expect("a freeze"));
    table.take("freeze of 100 GB, all changed".into(), "ms", None, spent * 1e3);
}

fn deltas(table: &mut Table, logs: &[(&str, Vec<u8>)]) {
    for (what, log) in logs {
        let rate = |extracting| {
            log.len() as f64 / 1e9 / core_seconds(|| _ = black_box(work::extract(log, extracting)))
        };
        let bound = table.take(format!("{what}: read and checked only"), "GB/s", None, rate(false));
        table.take(format!("{what}: delta"), "GB/s", Some(bound), rate(true));
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(15);
    let mut table = Table::default();
    let before = resident_bytes();
    let tracker = work::full();
    let memory = (resident_bytes() - before) / 1e6;
    drop(tracker);
    let logs = [
        ("log of 4 KiB images", work::log(LOG_BYTES, Content::Images(4096))),
        ("log of 512 B images", work::log(LOG_BYTES, Content::Images(512))),
        ("log of 128 B data", work::log(LOG_BYTES, Content::Data(128))),
    ];
    for _ in 0..rounds {
        table.next = 0;
        marks(&mut table);
        pass(&mut table);
        freeze(&mut table);
        deltas(&mut table, &logs);
    }
    table.next = table.rows.len();
    table.take("memory of 100 GB tracked, all changed".into(), "MB", None, memory);
    table.print();
}
