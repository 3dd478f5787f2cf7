//! Following a log while it is written: a follower sees every batch and misses no wake-up.

use crate::help::{env, options, start, transaction};
use pitr_format::{Lsn, Timestamp};
use pitr_vfs::sim::{Fault, SimClock, SimFs};
use pitr_wal::{Error, Wal};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A timeout far longer than any of these tests takes: a test that misses a wake-up hangs.
const FOR_EVER: Duration = Duration::from_secs(3_600);
const COMMITS: u64 = 400;

fn log(fs: &SimFs) -> Wal {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    Wal::create(&env(Arc::new(fs.clone()), clock), Path::new("/log"), &start(16 << 10), &options()).unwrap()
}

#[test]
fn followers_see_every_commit_and_miss_no_wake_up() {
    // FAILURES 11: a reader that follows never stalls silently.
    let wal = log(&SimFs::new().with_slow_syncs());
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut reader, mut frames) = (wal.reader(Lsn::ORIGIN).unwrap(), 0);
                    while frames < 4 * COMMITS as usize {
                        match reader.next_batch().unwrap() {
                            Some(batch) => frames += batch.frames().unwrap().count(),
                            None => drop(wal.wait_past(reader.position(), FOR_EVER).unwrap()),
                        }
                    }
                    frames
                })
            })
            .collect();
        for half in 0..2 {
            let wal = &wal;
            scope.spawn(move || {
                (0..COMMITS)
                    .for_each(|tx| drop(wal.commit(transaction(2 * tx + half + 1, &[b"a"])).unwrap()));
            });
        }
        let seen = followers.into_iter().map(|follower| follower.join().unwrap());
        assert!(seen.into_iter().all(|frames| frames == 4 * COMMITS as usize));
    });
}

#[test]
fn a_wait_returns_the_durable_point_and_a_failure_ends_it() {
    // FAILURES 18
    let fs = SimFs::new();
    let wal = log(&fs);
    let begin = wal.durable();
    wal.append(transaction(1, &[b"not synced"])).unwrap();
    assert_eq!(wal.wait_past(begin, Duration::ZERO).unwrap(), begin);
    let end = wal.sync().unwrap();
    assert_eq!(wal.wait_past(begin, FOR_EVER).unwrap(), end);
    fs.inject(Fault::Sync { nth: 0 });
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| wal.wait_past(end, FOR_EVER));
        assert!(wal.commit(transaction(2, &[b"lost"])).is_err());
        assert!(matches!(waits.join().unwrap(), Err(Error::Poisoned { .. })));
    });
    assert_eq!(wal.wait_past(begin, FOR_EVER).unwrap(), end);
}
