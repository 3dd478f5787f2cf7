//! When a commit returns, and the work of the log's own thread.

use crate::help::{env, start, transaction};
use pitr_format::{Lsn, SegmentNo, Timestamp};
use pitr_vfs::sim::{Fault, SimClock, SimFs};
use pitr_vfs::{Env, FileSystem, SystemClock};
use pitr_wal::{Error, SyncPolicy, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u32 = 1 << 20;

fn dir() -> &'static Path {
    Path::new("/log")
}

/// A clock on which time passes by itself.
fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::new())
}

fn create(fs: &SimFs, sync: SyncPolicy, background: bool) -> Result<Wal, Error> {
    let options = WalOptions { sync, background, ..WalOptions::default() };
    Wal::create(&env(Arc::new(fs.clone()), clock()), dir(), &start(SEGMENT_BYTES), &options)
}

/// Waits until another thread makes `holds` true. Fails after a long time.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_commit_without_a_sync_policy_returns_at_once_and_is_durable_after_sync() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Never, true).unwrap();
    let (syncs, durable) = (fs.syncs(), wal.durable());
    let end = wal.commit(transaction(1, &[b"x"])).unwrap().end;
    until("written", || fs.writes() > 2);
    assert_eq!((fs.syncs(), wal.durable()), (syncs, durable));
    assert!(
        wal.reader(durable).unwrap().next_batch().unwrap().is_none(),
        "FAILURES 42: a reader returned a batch that is not durable"
    );
    assert!(wal.sync().unwrap() >= end);
    assert!(fs.syncs() > syncs && wal.reader(durable).unwrap().next_batch().unwrap().is_some());
}

#[test]
fn waiting_bytes_stay_below_the_setting() {
    const RECORD_BYTES: usize = 10_000;
    let most = |waiting_bytes_max| {
        let options = WalOptions { background: false, waiting_bytes_max, ..WalOptions::default() };
        let wal = Wal::create(&env(Arc::new(SimFs::new()), clock()), dir(), &start(SEGMENT_BYTES), &options)
            .unwrap();
        let waiting = (1..=200).map(|tx| {
            wal.append(transaction(tx, &[&[7; RECORD_BYTES]])).unwrap();
            wal.stats().waiting_bytes
        });
        waiting.max().unwrap()
    };
    for told in [1, 50_000, 700_000] {
        let most = most(told);
        assert!(most >= told && most < told + 2 * RECORD_BYTES, "{most} bytes instead of {told}");
    }
}

#[test]
fn a_segment_is_sealed_durably_whatever_the_policy() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Never, true).unwrap();
    let first = wal.end();
    let payload = [7; 300 << 10];
    (1..=8).for_each(|tx| drop(wal.commit(transaction(tx, &[&payload])).unwrap()));
    until("the first segment's end is durable", || wal.durable() > first);
    // The thread that seals goes on: the disk is looked at after the position.
    let durable = wal.durable();
    assert!(durable < wal.end());
    let cold = pitr_wal::LogReader::open(Arc::new(SimFs::on(fs.durable_disk())), dir(), first, durable);
    assert!(!crate::help::batches(&mut { cold }).unwrap().is_empty());
}

#[test]
fn a_periodic_log_becomes_durable_by_itself() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Periodic(Duration::from_millis(5)), true).unwrap();
    for tx in 1..=3 {
        let end = wal.commit(transaction(tx, &[])).unwrap().end;
        until("a period passed", || wal.durable() >= end);
    }
    let syncs = fs.syncs();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(fs.syncs(), syncs, "synced with nothing to sync");
}

#[test]
fn a_gathering_leader_waits_the_whole_delay() {
    let delay = Duration::from_millis(30);
    let wal = create(&SimFs::new(), SyncPolicy::Within(delay), false).unwrap();
    let begun = Instant::now();
    let end = wal.commit(transaction(1, &[])).unwrap().end;
    assert!(wal.durable() >= end && begun.elapsed() >= delay);
}

#[test]
fn commits_during_the_delay_join_the_leaders_round() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Within(Duration::from_secs(2)), true).unwrap();
    let (syncs, ready) = (fs.syncs(), std::sync::Barrier::new(8));
    std::thread::scope(|scope| {
        for tx in 1..=8 {
            let (wal, ready) = (&wal, &ready);
            scope.spawn(move || {
                ready.wait();
                wal.commit(transaction(tx, &[])).unwrap();
            });
        }
    });
    assert_eq!(fs.syncs(), syncs + 1);
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    let wrong = [
        (SyncPolicy::Within(zero), true),
        (SyncPolicy::Periodic(zero), true),
        (SyncPolicy::Periodic(second), false),
        (SyncPolicy::Never, false),
    ];
    for (sync, background) in wrong {
        let fs = SimFs::new();
        assert!(matches!(create(&fs, sync, background), Err(Error::Options { .. })), "{sync:?}");
        assert_eq!(fs.writes(), 0);
        create(&fs, SyncPolicy::Each, false).unwrap();
        let options = WalOptions { sync, background, ..WalOptions::default() };
        let opened = Wal::open(&env(Arc::new(fs), clock()), dir(), Lsn::ORIGIN, &options);
        assert!(matches!(opened, Err(Error::Options { .. })), "{sync:?}");
    }
    assert!(WalOptions { waiting_bytes_max: 0, ..WalOptions::default() }.validate().is_err());
}

#[test]
fn the_logs_own_thread_writes_unawaited_records() {
    for background in [true, false] {
        let fs = SimFs::new();
        let wal = create(&fs, SyncPolicy::Each, background).unwrap();
        let (writes, syncs) = (fs.writes(), fs.syncs());
        let payload = [7; 100 << 10];
        // Enough bytes for a round, but too few to fill the segment.
        (1..=10).for_each(|tx| drop(wal.append(transaction(tx, &[&payload])).unwrap()));
        if background {
            let plenty = transaction(11, &[&[7; 32 << 10]]);
            wal.append(plenty).unwrap();
            until("written", || fs.writes() > writes);
        } else {
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(fs.writes(), writes);
        }
        assert!(fs.syncs() <= syncs + 8, "only the end of a segment is synced");
        assert!(wal.durable() < wal.end());
    }
}

#[test]
fn flushed_records_survive_the_process_but_not_the_machine() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Each, false).unwrap();
    let syncs = fs.syncs();
    wal.append(transaction(1, &[])).unwrap();
    wal.flush().unwrap();
    wal.flush().unwrap();
    assert!(fs.syncs() == syncs && wal.durable() < wal.end());
    let trace = fs.trace();
    for (disk, survives) in
        [(SimFs::after_kill(&trace, trace.ops.len()), true), (SimFs::on(fs.durable_disk()), false)]
    {
        let options = WalOptions { background: false, ..WalOptions::default() };
        let (again, _) = Wal::open(&env(Arc::new(disk), clock()), dir(), Lsn::ORIGIN, &options).unwrap();
        assert_eq!(again.end() == wal.end(), survives);
    }
}

#[test]
fn dropping_the_last_handle_syncs_the_rest() {
    for background in [true, false] {
        let fs = SimFs::new();
        let wal = create(&fs, SyncPolicy::Each, background).unwrap();
        let other = wal.clone();
        let ticket = wal.submit(transaction(1, &[])).unwrap();
        drop(wal);
        assert!(!ticket.is_durable());
        drop(other);
        assert_eq!(ticket.is_durable(), background);
    }
}

#[test]
fn the_next_segments_file_is_ready_before_it_is_needed() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Each, true).unwrap();
    let payload = [7; 9_000];
    let spare = dir().join("spare.seg.free");
    let there = |fs: &SimFs| fs.durable_disk().names().any(|name| name == spare);
    let mut tx = 0;
    let mut commit = || {
        tx += 1;
        wal.commit(transaction(tx, &[&payload])).unwrap().end
    };
    // Too few syncs to justify writing zeros: no spare is prepared.
    while commit() < Lsn::new(u64::from(SEGMENT_BYTES) * 3 / 2 - 10_000) {}
    assert!(!there(&fs));
    until("a spare was made", || {
        commit();
        there(&fs)
    });
    let len = fs.durable_disk().read(&spare).unwrap().len();
    assert_eq!(len, SEGMENT_BYTES as usize);
    while commit() < Lsn::new(2 * u64::from(SEGMENT_BYTES)) {}
    assert!(!there(&fs), "it became the segment");
    let second =
        fs.durable_disk().read(&dir().join(format!("{:016x}.seg", SegmentNo::new(2).get()))).unwrap();
    let header = pitr_format::log::SegmentHeader::decode(&second).unwrap();
    assert!(!header.recycled && second[20_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_spare_that_cannot_be_created_does_no_harm() {
    let fs = SimFs::new();
    let wal = create(&fs, SyncPolicy::Each, true).unwrap();
    let taken: Arc<dyn FileSystem> = Arc::new(fs.clone());
    taken.create_new(&dir().join("spare.seg.free")).unwrap();
    let payload = [7; 9_000];
    let ends: Vec<_> =
        (1..=300).map(|tx| wal.commit(transaction(tx, &[&payload])).unwrap().commits[0].lsn).collect();
    let seen = crate::help::everything(&wal, &taken, dir());
    assert_eq!(seen.iter().filter(|seen| ends.contains(&seen.end)).count(), 300);
}

#[test]
fn after_a_failure_the_logs_own_thread_acknowledges_nothing_and_ends() {
    // FAILURES 18
    for sync in [SyncPolicy::Each, SyncPolicy::Never, SyncPolicy::Periodic(Duration::from_millis(1))] {
        let fs = SimFs::new();
        let wal = create(&fs, sync, true).unwrap();
        let durable = wal.durable();
        fs.inject(Fault::Sync { nth: 0 });
        let ticket = wal.submit(transaction(1, &[])).unwrap();
        if matches!(sync, SyncPolicy::Periodic(_)) {
            until("refused", || wal.append(transaction(2, &[])).is_err());
        }
        assert!(matches!(wal.sync(), Err(Error::Poisoned { .. })), "{sync:?}");
        assert!(wal.commit(transaction(3, &[])).is_err() && wal.durable() == durable);
        assert!(!ticket.is_durable() && ticket.wait().is_err());
    }
}

/// A log in an environment without threads, with its clock.
fn inline(fs: &SimFs, sync: SyncPolicy) -> (Wal, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let env = Env::simulated(Arc::new(fs.clone()), Arc::clone(&clock) as _, 1);
    let options = WalOptions { sync, ..WalOptions::default() };
    (Wal::create(&env, dir(), &start(SEGMENT_BYTES), &options).unwrap(), clock)
}

#[test]
fn without_threads_appends_do_the_periodic_work_on_the_simulated_clock() {
    let period = Duration::from_secs(3_600);
    let (wal, clock) = inline(&SimFs::new(), SyncPolicy::Periodic(period));
    let first = wal.commit(transaction(1, &[])).unwrap().end;
    assert!(wal.durable() < first, "the period has not passed");
    clock.pass(period);
    let second = wal.commit(transaction(2, &[])).unwrap().end;
    assert_eq!(wal.durable(), second);
    let third = wal.commit(transaction(3, &[])).unwrap().end;
    assert!(wal.durable() < third, "the next period has not passed");

    let fs = SimFs::new();
    let (wal, clock) = inline(&fs, SyncPolicy::Never);
    let (writes, syncs) = (fs.writes(), fs.syncs());
    wal.commit(transaction(1, &[])).unwrap();
    assert_eq!(fs.writes(), writes);
    clock.pass(Duration::from_millis(100));
    wal.commit(transaction(2, &[])).unwrap();
    assert!(fs.writes() > writes && fs.syncs() == syncs);
}

#[test]
fn without_threads_a_wait_takes_simulated_time_and_the_last_handle_syncs() {
    let (wal, clock) = inline(&SimFs::new(), SyncPolicy::Within(Duration::from_secs(60)));
    let end = wal.commit(transaction(1, &[])).unwrap().end;
    assert!(wal.durable() >= end && pitr_vfs::Clock::monotonic(clock.as_ref()) == Duration::from_secs(60));
    let hour = Duration::from_secs(3_600);
    assert_eq!(wal.wait_past(end, hour).unwrap(), end);
    assert_eq!(pitr_vfs::Clock::monotonic(clock.as_ref()), hour + Duration::from_secs(60));
    let ticket = wal.submit(transaction(2, &[])).unwrap();
    drop(wal);
    assert!(ticket.is_durable());
}

#[test]
fn a_wait_ends_though_the_clock_stands_still() {
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    let env = env(Arc::new(SimFs::new()), clock);
    let wal = Wal::create(&env, dir(), &start(SEGMENT_BYTES), &WalOptions::default()).unwrap();
    assert_eq!(wal.wait_past(wal.durable(), Duration::from_millis(20)).unwrap(), wal.durable());
}

#[cfg(feature = "future")]
mod awaited {
    use super::*;
    use std::future::{Future, IntoFuture};
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    #[test]
    fn an_awaited_ticket_becomes_durable_without_a_waiting_thread() {
        let fs = SimFs::new().with_slow_syncs();
        let wal = create(&fs, SyncPolicy::Each, true).unwrap();
        let all: Vec<_> =
            (1..=20).map(|tx| wal.submit(transaction(tx, &[])).unwrap().into_future()).collect();
        let ends: Vec<Lsn> = block_on(async {
            let mut ends = Vec::new();
            for future in all {
                ends.push(future.await.unwrap().end);
                assert!(wal.durable() >= ends[ends.len() - 1]);
            }
            ends
        });
        assert!(ends.is_sorted());
    }

    #[test]
    fn a_dropped_future_is_forgotten_and_one_after_a_failure_gets_the_error() {
        // FAILURES 18
        let fs = SimFs::new();
        let wal = create(&fs, SyncPolicy::Each, true).unwrap();
        let mut given_up = Box::pin(wal.submit(transaction(1, &[])).unwrap().into_future());
        let _ = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(given_up);
        wal.sync().unwrap();
        fs.inject(Fault::Sync { nth: 0 });
        let told = block_on(wal.submit(transaction(2, &[])).unwrap().into_future());
        assert!(matches!(told, Err(Error::Poisoned { .. })));
    }

    #[test]
    fn without_threads_awaiting_a_ticket_syncs() {
        let (wal, _) = inline(&SimFs::new(), SyncPolicy::Each);
        let ticket = wal.submit(transaction(1, &[])).unwrap();
        let end = block_on(ticket.into_future()).unwrap().end;
        assert!(wal.durable() >= end);
    }

    #[test]
    fn without_the_logs_own_thread_awaiting_is_refused() {
        let wal = create(&SimFs::new(), SyncPolicy::Each, false).unwrap();
        let ticket = wal.submit(transaction(1, &[])).unwrap();
        assert!(matches!(block_on(ticket.into_future()), Err(Error::Options { .. })));
    }
}
