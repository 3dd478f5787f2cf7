//! Loom models: the commit queue under every order of its threads' steps.

use super::*;
use crate::BatchBuilder;
use crate::append::{End, Layout};
use loom::sync::Arc;
use pitr_format::index::SegmentIndex;
use pitr_format::record::Record;
use pitr_format::{Incarnation, PartitionId, SegmentNo, SegmentSize, TimelineId, Timestamp, TxId};

/// So small that a few appends wait for each other.
const WAITING_BYTES_MAX: usize = 50;

fn rounds() -> Arc<Rounds> {
    let end = End {
        timeline: TimelineId::FIRST,
        log_id: [1; 16],
        size: SegmentSize::DEFAULT,
        segment: SegmentNo::FIRST,
        incarnation: Incarnation::FIRST,
        next: Lsn::new((16 << 20) + 4096),
        last_batch: Lsn::ORIGIN,
        time: Timestamp::MIN,
        checkpoint: None,
    };
    Arc::new(Rounds::new(Queue::new(Layout::new(end, SegmentIndex::default()))))
}

fn place(queue: &mut Queue) -> Result<(Lsn, Round)> {
    let mut batch = BatchBuilder::new();
    batch.push(PartitionId::FIRST, TxId::new(1), &Record::Data(b"x"))?;
    let (appended, round) = queue.place(&mut batch, || Timestamp::MIN)?;
    Ok((appended.end, round))
}

/// Tries all orders with up to three preemptions: as many as a few minutes allow.
fn model(run: impl Fn() + Sync + Send + 'static) {
    model_up_to(3, run);
}

fn model_up_to(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

fn commit(rounds: &Rounds, write: impl Fn(Work) -> Result<Lsn>) -> Result<Lsn> {
    let mut queue = rounds.queue();
    let (end, round) = place(&mut queue)?;
    rounds.wait(queue, round, None, write)?;
    assert!(rounds.queue().durable() >= end, "acknowledged and not durable");
    Ok(end)
}

#[test]
fn every_committer_returns_and_what_it_placed_is_durable() {
    model(|| {
        let rounds = rounds();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let rounds = Arc::clone(&rounds);
                thread::spawn(move || commit(&rounds, |work| Ok(work.end)).unwrap())
            })
            .collect();
        commit(&rounds, |work| Ok(work.end)).unwrap();
        threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    });
}

#[test]
fn all_threads_that_wait_for_one_round_return() {
    // Three threads wait for the same round, and one leads the previous round.
    model_up_to(2, || {
        let rounds = rounds();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let rounds = Arc::clone(&rounds);
                thread::spawn(move || commit(&rounds, |work| Ok(work.end)).unwrap())
            })
            .collect();
        commit(&rounds, |work| Ok(work.end)).unwrap();
        threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    });
}

#[test]
fn the_only_waiter_for_a_ticket_leads_its_round() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let thread = thread::spawn(move || {
            let (_, first) = place(&mut other.queue()).unwrap();
            let (_, second) = place(&mut other.queue()).unwrap();
            let queue = other.queue();
            other.wait(queue, second, None, |work| Ok(work.end)).unwrap();
            assert!(other.is_done(first) && other.is_done(second));
        });
        commit(&rounds, |work| Ok(work.end)).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn threads_that_wait_for_a_round_in_progress_are_woken() {
    model(|| {
        let rounds = rounds();
        let (_, round) = place(&mut rounds.queue()).unwrap();
        let wait = move |rounds: &Rounds| {
            rounds.wait(rounds.queue(), round, None, |work| Ok(work.end)).unwrap();
            assert!(rounds.is_done(round));
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let rounds = Arc::clone(&rounds);
                thread::spawn(move || wait(&rounds))
            })
            .collect();
        wait(&rounds);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Places without waiting for durability. `write` only writes, so nothing becomes durable.
fn append(rounds: &Rounds) -> Lsn {
    let mut queue = rounds.queue_with_room(WAITING_BYTES_MAX, |work| Ok(work.durable)).unwrap();
    let (end, _) = place(&mut queue).unwrap();
    queue.placed();
    end
}

/// The log's own thread, until it is asked to stop.
fn help(rounds: &Rounds) {
    loop {
        let asked = rounds.idle(None);
        if asked.sync || asked.stop {
            let queue = rounds.queue();
            let newest = queue.newest();
            rounds.wait(queue, newest, None, |work| Ok(work.end)).unwrap();
        } else {
            rounds.flush(false, |work| Ok(work.durable));
        }
        if asked.stop {
            return;
        }
    }
}

#[test]
fn a_round_that_is_only_written_loses_no_wake_up_and_makes_nothing_durable() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let writer = thread::spawn(move || other.flush(true, |work| Ok(work.durable)));
        let other = Arc::clone(&rounds);
        let committer = thread::spawn(move || commit(&other, |work| Ok(work.end)).unwrap());
        commit(&rounds, |work| Ok(work.end)).unwrap();
        writer.join().unwrap();
        committer.join().unwrap();
    });
}

#[test]
fn write_out_returns_when_the_records_are_written() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let thread = thread::spawn(move || {
            let (_, round) = place(&mut other.queue()).unwrap();
            other.write_out(|work| Ok(work.durable)).unwrap();
            assert!(other.queue().is_written(round));
        });
        commit(&rounds, |work| Ok(work.end)).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn an_append_without_room_continues_when_there_is_room() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        // The third append finds no room while the other thread's round is written.
        let thread = thread::spawn(move || (0..3).for_each(|_| _ = append(&other)));
        commit(&rounds, |work| Ok(work.end)).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn the_logs_own_thread_writes_unawaited_records_and_leaves_none_when_it_ends() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let helper = thread::spawn(move || help(&other));
        let end = append(&rounds);
        rounds.queue().ask(|asked| asked.stop = true);
        helper.join().unwrap();
        assert!(rounds.queue().durable() >= end);
    });
}

#[test]
fn a_ticket_that_is_polled_is_woken() {
    use std::task::Waker;
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let helper = thread::spawn(move || help(&other));
        let woken = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let waker = Waker::from(std::sync::Arc::new(Flag(Arc::clone(&woken), thread::current())));
        let (_, round) = place(&mut rounds.queue()).unwrap();
        let mut queue = rounds.queue();
        let number = queue.number();
        queue.poll(number, round, waker);
        drop(queue);
        while !rounds.is_done(round) {
            thread::park();
        }
        rounds.queue().ask(|asked| asked.stop = true);
        helper.join().unwrap();
        assert!(woken.load(Ordering::Relaxed));
    });
}

struct Flag(Arc<loom::sync::atomic::AtomicBool>, Thread);

impl std::task::Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

#[test]
fn after_a_failure_every_thread_gets_the_error() {
    model(|| {
        let rounds = rounds();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let rounds = Arc::clone(&rounds);
                thread::spawn(move || commit(&rounds, |_| Err(Error::Panicked)).unwrap_err())
            })
            .collect();
        commit(&rounds, |_| Err(Error::Panicked)).unwrap_err();
        threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
    });
}
