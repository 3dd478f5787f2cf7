//! Small models of a log's design choices, one choice each, without pitr's crates.
//! `docs/choices.md` has the results.

use crate::Result;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Bytes that a commit takes in a log: a record of 128 bytes with its header.
const COMMIT_BYTES: usize = 152;
const FILE_BYTES: u64 = 64 << 20;
const BLOCK: usize = 4096;
/// Size of the buffer into which the threads of an append model copy, words.
const RING_WORDS: usize = 1 << 20;

/// Operations per second of the trial with this name.
pub fn run(name: &str, threads: usize, dir: &Path, time: Duration) -> Result<f64> {
    let file = |room, flags| prepared(dir, room, flags);
    match name {
        "growing" => sync_loop(&file(Room::None, 0)?, COMMIT_BYTES, true, time),
        "allocated" => sync_loop(&file(Room::Allocated, 0)?, COMMIT_BYTES, true, time),
        "zeros" => sync_loop(&file(Room::Zeros, 0)?, COMMIT_BYTES, true, time),
        "padded" => sync_loop(&file(Room::Zeros, 0)?, BLOCK, true, time),
        "dsync" => sync_loop(&file(Room::Zeros, O_DSYNC)?, COMMIT_BYTES, false, time),
        "direct" => direct_loop(&file(Room::Zeros, O_DSYNC | O_DIRECT)?, time),
        "locked-sync" => locked_sync(&file(Room::Zeros, 0)?, threads, time),
        "herd" => group(&file(Room::Zeros, 0)?, Wake::Herd, threads, time),
        "gate" => group(&file(Room::Zeros, 0)?, Wake::Gate { yields: 0 }, threads, time),
        "gate-yields" => group(&file(Room::Zeros, 0)?, Wake::Gate { yields: 5 }, threads, time),
        "gate-yields-more" => group(&file(Room::Zeros, 0)?, Wake::Gate { yields: 20 }, threads, time),
        "one-by-one" => group(&file(Room::Zeros, 0)?, Wake::OneByOne, threads, time),
        "copy-locked" => copy_locked(threads, time),
        "copy-reserved" => copy_reserved(threads, time),
        other => Err(format!("no trial {other}").into()),
    }
}

const O_DSYNC: i32 = 0o10000;
const O_DIRECT: i32 = 0o40000;

#[derive(Clone, Copy, PartialEq)]
enum Room {
    None,
    Allocated,
    Zeros,
}

/// A file with room for the trial, opened with these flags.
fn prepared(dir: &Path, room: Room, flags: i32) -> Result<File> {
    let path = dir.join("file");
    let file = File::options().create_new(true).write(true).open(&path)?;
    match room {
        Room::None => {}
        Room::Allocated => {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)?;
        }
        Room::Zeros => {
            (0..FILE_BYTES >> 20).try_for_each(|nth| file.write_all_at(&[0; 1 << 20], nth << 20))?;
        }
    }
    file.sync_all()?;
    Ok(File::options().write(true).custom_flags(flags).open(path)?)
}

/// Calls `operation` with growing numbers until the time has passed; calls per second.
fn rate(time: Duration, mut operation: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (begun, mut count) = (Instant::now(), 0);
    while count % 16 != 0 || begun.elapsed() < time {
        operation(count)?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Like [`rate`], by several threads.
fn rate_of(threads: usize, time: Duration, operation: impl Fn(u64) -> Result<()> + Sync) -> Result<f64> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| rate(time, &operation))).collect();
        let rates = workers.into_iter().map(|worker| worker.join().map_err(|_| "a thread panicked")?);
        rates.sum()
    })
}

fn sync_loop(file: &File, bytes: usize, sync: bool, time: Duration) -> Result<f64> {
    let payload = vec![7; bytes];
    rate(time, |nth| {
        file.write_all_at(&payload, nth * bytes as u64 % (FILE_BYTES - BLOCK as u64))?;
        if sync {
            file.sync_data()?;
        }
        Ok(())
    })
}

/// Writes whole blocks from an aligned buffer. Each commit fills a block.
fn direct_loop(file: &File, time: Duration) -> Result<f64> {
    let bytes = vec![7; 2 * BLOCK];
    let begin = bytes.as_ptr().align_offset(BLOCK);
    rate(time, |nth| Ok(file.write_all_at(&bytes[begin..begin + BLOCK], nth * BLOCK as u64 % FILE_BYTES)?))
}

/// Each thread writes and syncs under the lock that appending takes.
fn locked_sync(file: &File, threads: usize, time: Duration) -> Result<f64> {
    let at = Mutex::new(0);
    rate_of(threads, time, |_| {
        let mut at = at.lock().map_err(|_| "poisoned")?;
        file.write_all_at(&[7; COMMIT_BYTES], *at % (FILE_BYTES - BLOCK as u64))?;
        *at += COMMIT_BYTES as u64;
        Ok(file.sync_data()?)
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Wake {
    /// Wakes all threads by one condition variable. Each then takes the lock.
    Herd,
    /// Wakes each thread individually, the next leader first.
    OneByOne,
    /// Wakes the next leader individually, and the other threads by a condition variable without
    /// the lock. Before it sleeps, a thread yields this number of times.
    Gate { yields: u32 },
}

#[derive(Default)]
struct Group {
    waiting: Vec<u8>,
    at: u64,
    round: u64,
    done: u64,
    leading: bool,
    /// The thread that leads next.
    heir: Option<Thread>,
    /// The waiting threads of the round that is being written, and of the next round.
    asleep: [Vec<Thread>; 2],
}

#[derive(Default)]
struct Gate {
    lock: Mutex<()>,
    opened: Condvar,
}

/// One leader writes and syncs for all threads, without holding the lock.
fn group(file: &File, wake: Wake, threads: usize, time: Duration) -> Result<f64> {
    let (group, changed, done) = (Mutex::new(Group::default()), Condvar::new(), AtomicU64::new(0));
    let gates: [Gate; 2] = Default::default();
    rate_of(threads, time, |_| {
        let mut held = group.lock().map_err(|_| "poisoned")?;
        held.waiting.extend_from_slice(&[7; COMMIT_BYTES]);
        let mine = held.round;
        let is_done = || done.load(Ordering::Acquire) > mine;
        while held.done <= mine {
            if !held.leading {
                held.leading = true;
                let (bytes, at) = (std::mem::take(&mut held.waiting), held.at % (FILE_BYTES / 2));
                held.at += bytes.len() as u64;
                held.round += 1;
                let round = held.round;
                drop(held);
                file.write_all_at(&bytes, at)?;
                file.sync_data()?;
                held = group.lock().map_err(|_| "poisoned")?;
                (held.leading, held.done) = (false, round);
                done.store(round, Ordering::Release);
                let next = held.heir.take().or_else(|| held.asleep[(round % 2) as usize].pop());
                let woken = std::mem::take(&mut held.asleep[((round - 1) % 2) as usize]);
                drop(held);
                next.iter().chain(&woken).for_each(Thread::unpark);
                match wake {
                    Wake::Herd => changed.notify_all(),
                    Wake::OneByOne => {}
                    Wake::Gate { .. } => {
                        let gate = &gates[((round - 1) % 2) as usize];
                        drop(gate.lock.lock().map_err(|_| "poisoned")?);
                        gate.opened.notify_all();
                    }
                }
                return Ok(());
            }
            match wake {
                Wake::Herd => {
                    held = changed.wait(held).map_err(|_| "poisoned")?;
                    continue;
                }
                Wake::Gate { yields } if mine < held.round || held.heir.is_some() => {
                    drop(held);
                    (0..yields).take_while(|_| !is_done()).for_each(|_| std::thread::yield_now());
                    let gate = &gates[(mine % 2) as usize];
                    let asleep = gate.lock.lock().map_err(|_| "poisoned")?;
                    drop(gate.opened.wait_while(asleep, |()| !is_done()).map_err(|_| "poisoned")?);
                }
                Wake::Gate { .. } => {
                    held.heir = Some(std::thread::current());
                    drop(held);
                    std::thread::park();
                }
                Wake::OneByOne => {
                    held.asleep[(mine % 2) as usize].push(std::thread::current());
                    drop(held);
                    std::thread::park();
                }
            }
            if is_done() {
                return Ok(());
            }
            held = group.lock().map_err(|_| "poisoned")?;
        }
        Ok(())
    })
}

/// Appends under a lock, which is held during the copy.
fn copy_locked(threads: usize, time: Duration) -> Result<f64> {
    let buffer = Mutex::new(Vec::with_capacity(RING_WORDS * 8));
    rate_of(threads, time, |_| {
        let mut buffer = buffer.lock().map_err(|_| "poisoned")?;
        if buffer.len() + COMMIT_BYTES > RING_WORDS * 8 {
            buffer.clear();
        }
        buffer.extend_from_slice(std::hint::black_box(&[7; COMMIT_BYTES]));
        Ok(())
    })
}

/// Appends without a lock: reserves space with one atomic operation, then copies while other
/// threads copy too.
fn copy_reserved(threads: usize, time: Duration) -> Result<f64> {
    let ring: Vec<AtomicU64> = (0..RING_WORDS).map(|_| AtomicU64::new(0)).collect();
    let (reserved, published) = (AtomicUsize::new(0), AtomicUsize::new(0));
    rate_of(threads, time, |_| {
        let words = std::hint::black_box([7; COMMIT_BYTES / 8]);
        let at = reserved.fetch_add(words.len(), Ordering::Relaxed);
        for (nth, word) in words.iter().enumerate() {
            ring[(at + nth) % RING_WORDS].store(*word, Ordering::Relaxed);
        }
        published.fetch_add(words.len(), Ordering::Release);
        Ok(())
    })
}
