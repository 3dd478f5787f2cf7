//! Runs one log once under one workload: `pitr-peers LOG WORKLOAD THREADS BYTES SECONDS DIR` prints
//! one JSON line.
//!
//! Each log runs as a release build with its documented fast settings. A commit is acknowledged
//! after `fdatasync`; an append is not synced. A scan reads a gigabyte back after reopening. With
//! the workload `trial`, LOG names one of the small models of [`trials`]. The caller repeats and
//! pairs the runs, and makes the table.

mod logs;
mod scans;
mod trials;

use logs::Log;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [log, workload, threads, bytes, seconds, dir] = &args[..] else {
        return Err("usage: pitr-peers LOG WORKLOAD THREADS BYTES SECONDS DIR".into());
    };
    let (threads, bytes): (usize, usize) = (threads.parse()?, bytes.parse()?);
    let time = Duration::from_secs_f64(seconds.parse()?);
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir)?;
    if workload == "trial" {
        println!(
            r#"{{"log":"{log}","threads":{threads},"rate":{:.0}}}"#,
            trials::run(log, threads, dir, time)?
        );
        return Ok(());
    }
    let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect();
    let (count, took) = match workload.as_str() {
        "commit" => run(logs::open(log, dir)?.as_ref(), threads, time, |log, n| log.commit(n, &payload))?,
        "append" => run(logs::open(log, dir)?.as_ref(), threads, time, |log, n| log.append(n, &payload))?,
        "scan" => scans::run(log, dir, &payload)?,
        "tickets" => logs::pitr_tickets(dir, &payload, time)?,
        other => return Err(format!("no workload {other}").into()),
    };
    let rate = count as f64 / took.as_secs_f64();
    // The operations before the clock was started count here too.
    let operations = count + WARM_UP;
    println!(
        r#"{{"log":"{log}","workload":"{workload}","threads":{threads},"bytes":{bytes},"rate":{rate:.0},"operations":{operations}}}"#
    );
    Ok(())
}

/// Number of operations before the clock is started. The first ones create files.
const WARM_UP: u64 = 100;

/// The number of operations that `threads` performed in about `time`, and the time until the last
/// one ended.
fn run(
    log: &dyn Log,
    threads: usize,
    time: Duration,
    operation: impl Fn(&dyn Log, u64) -> Result<()> + Sync,
) -> Result<(u64, Duration)> {
    for n in 0..WARM_UP {
        operation(log, n)?;
    }
    let (next, begun) = (AtomicU64::new(WARM_UP), Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Result<u64> {
                    let mut done = 0;
                    // The clock is read rarely, because reading it takes time too.
                    while done % 16 != 0 || begun.elapsed() < time {
                        operation(log, next.fetch_add(1, Ordering::Relaxed))?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        let mut count = 0;
        for worker in workers {
            count += worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok((count, begun.elapsed()))
    })
}
