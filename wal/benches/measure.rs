//! A replay of 2 GB of log, compared with a plain scan. `cargo xtask measure replay` records the
//! output.
//!
//! The log is in the page cache. Ten logical records of 100 bytes make a transaction, in eight
//! partitions; every tenth is aborted.

use pitr_format::log::{SegmentHeader, WholeRecord};
use pitr_format::record::Record;
use pitr_format::{Incarnation, PartitionId, TxId};
use pitr_vfs::Env;
use pitr_wal::{Analysis, BatchBuilder, Error, LogScan, Start, Wal, WalOptions};
use std::ops::Bound;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PAYLOAD: [u8; 100] = [7; 100];
const RECORDS_OF_TX: u64 = 10;
const PARTITIONS: u64 = 8;
/// Number of logical records: with headers and commits they are 2 GB of log.
const RECORDS: u64 = 15_600_000;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    // Cargo passes `--bench` to every bench.
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    let dir = tempfile::tempdir()?;
    let wal = log(&dir.path().join("log"))?;
    let bytes = wal.end().since(wal.first());
    let committed = RECORDS / 10 * 9;
    let (mut scanned, mut analysed, mut replayed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        assert!(count(&scan(&wal)?)? > RECORDS);
        scanned.push(rate(begun));
        let begun = Instant::now();
        let analysis = analysis(&scan(&wal)?)?;
        analysed.push(rate(begun));
        let sum = |(count, sum): &mut (u64, u64), record: &WholeRecord<'_>| {
            *count += 1;
            *sum += record.payload.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            Ok::<(), Error>(())
        };
        let partitions = scan(&wal)?.replay(&analysis.winners(), |_| (0, 0), sum)?;
        replayed.push(rate(begun));
        let total = partitions.values().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert_eq!((total, partitions.len() as u64), ((committed, committed * 700), PARTITIONS));
    }
    println!("| {RECORDS} records of 100 B, {bytes} bytes of log | unit | median | least | most |");
    println!("| --- | --- | ---: | ---: | ---: |");
    let rows = [
        ("read and checked", scanned),
        ("analysis", analysed),
        ("analysis, then every committed record to its partition", replayed),
    ];
    for (name, mut rates) in rows {
        rates.sort_by(f64::total_cmp);
        let (median, least, most) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
        println!("| {name} | million records/s | {median:.2} | {least:.2} | {most:.2} |");
    }
    Ok(())
}

/// Million logical records a second since then.
fn rate(begun: Instant) -> f64 {
    RECORDS as f64 / begun.elapsed().as_secs_f64() / 1e6
}

fn log(dir: &std::path::Path) -> Result<Wal> {
    let start = Start::first([1; 16]);
    let wal = Wal::create(&Env::system(), dir, &start, &WalOptions::default())?;
    let mut batch = BatchBuilder::new();
    for tx in 1..=RECORDS / RECORDS_OF_TX {
        for nth in 0..RECORDS_OF_TX {
            let partition = PartitionId::new(((tx + nth) % PARTITIONS) as u32);
            batch.push(partition, TxId::new(tx), &Record::Data(&PAYLOAD))?;
        }
        let first_lsn = wal.end();
        match tx % 10 {
            0 => batch.push_abort(PartitionId::FIRST, TxId::new(tx), Some(first_lsn))?,
            _ => batch.push_commit(PartitionId::FIRST, TxId::new(tx), None, None, b"")?,
        };
        wal.append(&mut batch)?;
    }
    wal.sync()?;
    Ok(wal)
}

fn scan(wal: &Wal) -> Result<LogScan> {
    Ok(wal.scan(wal.first(), wal.durable())?)
}

fn count(scan: &LogScan) -> Result<u64> {
    let each = |count: &mut u64, _: &WholeRecord<'_>| {
        *count += 1;
        Ok::<(), Error>(())
    };
    Ok(scan.fold(|_| 0, each, |a, b| a + b)?.unwrap_or_default())
}

fn analysis(scan: &LogScan) -> Result<Analysis> {
    let new = |header: &SegmentHeader| (Analysis::new(Bound::Unbounded), header.incarnation);
    let each = |(analysis, life): &mut (Analysis, Incarnation), record: &WholeRecord<'_>| {
        analysis.push(record, *life)
    };
    let merge = |(before, life), (behind, _)| (Analysis::merge(before, behind), life);
    let (analysis, _) = scan.fold(new, each, merge)?.ok_or("the log is empty")?;
    Ok(analysis)
}
