//! The commit queue under every order of its threads' steps.

use super::*;
use crate::BatchBuilder;
use crate::end::End;
use crate::layout::Layout;
use loom::sync::Arc;
use pitr_format::record::Record;
use pitr_format::{Incarnation, PartitionId, SegmentNo, SegmentSize, TimelineId, Timestamp, TxId};

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
    };
    Arc::new(Rounds::new(Queue::new(Layout::new(end))))
}

fn place(queue: &mut Queue) -> Result<(Lsn, Round)> {
    let mut batch = BatchBuilder::new();
    batch.push(PartitionId::FIRST, TxId::new(1), &Record::Data(b"x"))?;
    let (appended, round) = queue.place(&mut batch, || Timestamp::MIN)?;
    Ok((appended.end, round))
}

/// As many orders as a few minutes allow: all of them with up to three preemptions.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn commit(rounds: &Rounds, write: impl Fn(Work) -> Result<Lsn>) -> Result<Lsn> {
    let mut queue = rounds.queue();
    let (end, round) = place(&mut queue)?;
    rounds.wait(queue, round, write)?;
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
fn a_ticket_that_nobody_else_waits_for_is_led_by_its_waiter() {
    model(|| {
        let rounds = rounds();
        let other = Arc::clone(&rounds);
        let thread = thread::spawn(move || {
            let (_, first) = place(&mut other.queue()).unwrap();
            let (_, second) = place(&mut other.queue()).unwrap();
            let queue = other.queue();
            other.wait(queue, second, |work| Ok(work.end)).unwrap();
            assert!(other.is_done(first) && other.is_done(second));
        });
        commit(&rounds, |work| Ok(work.end)).unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn after_a_failure_everyone_is_told_and_nobody_sleeps() {
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
