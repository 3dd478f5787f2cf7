//! Marks against freezes under every order of their threads' steps.
//!
//! A log of two positions: a pass takes a place by appending, and what was appended is durable at once. An epoch is one
//! word of bits, set as those of the live bitmap: bit n for the record at position n.

use super::*;
use crate::page::set;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use loom::thread;

type Model = Phases<AtomicU64>;

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn phases() -> Arc<Model> {
    Arc::new(Phases::new(Lsn::ORIGIN, AtomicU64::new(0)))
}

/// A pass with one record. `done` is told as [`Pass::done`](crate::Pass::done) does.
fn pass(phases: &Model, log: &AtomicU64) {
    let phase = phases.present();
    let position = log.fetch_add(1, SeqCst);
    set(&phase.epoch, position);
    if let Some(next) = &phase.next {
        set(next, position);
    }
    phase.shared.done(Lsn::new(position + 1));
}

/// Freezes; what was marked for a position of the range must be in it.
fn freeze(phases: &Model, log: &AtomicU64) -> LsnRange {
    let ended = phases.freeze(|| AtomicU64::new(0), || Lsn::new(log.load(SeqCst))).unwrap();
    let Ended { range, epoch } = ended;
    let bits = epoch.unwrap().load(Relaxed);
    for position in range.from().get()..range.to().get() {
        assert!(bits & 1 << position != 0, "the mark of {position} is not in {range}");
    }
    range
}

/// Passes on so many threads against freezes on this one, and a last freeze for what is left: the ranges follow each other to
/// the end of the log, and each mark is in the epoch of its position.
fn passes_and_freezes(threads: usize, freezes: usize) {
    let (phases, log) = (phases(), Arc::new(AtomicU64::new(0)));
    let passes: Vec<_> = (0..threads)
        .map(|_| {
            let (phases, log) = (Arc::clone(&phases), Arc::clone(&log));
            thread::spawn(move || pass(&phases, &log))
        })
        .collect();
    let mut at = Lsn::ORIGIN;
    for _ in 0..freezes {
        let range = freeze(&phases, &log);
        assert_eq!(range.from(), at);
        at = range.to();
    }
    passes.into_iter().for_each(|pass| pass.join().unwrap());
    let range = freeze(&phases, &log);
    assert_eq!((range.from(), range.to()), (at, Lsn::new(threads as u64)));
}

#[test]
fn a_mark_is_in_the_epoch_of_its_position() {
    model(|| passes_and_freezes(2, 1));
}

#[test]
fn a_mark_is_in_the_epoch_of_its_position_while_freezes_follow_each_other() {
    model(|| passes_and_freezes(1, 2));
}

#[test]
fn a_pass_that_was_dropped_blinds_every_freeze_that_ends_after_it() {
    model(|| {
        let (phases, log) = (phases(), Arc::new(AtomicU64::new(0)));
        let (dropped, appended) = (Arc::clone(&phases), Arc::clone(&log));
        let thread = thread::spawn(move || {
            let phase = dropped.present();
            appended.fetch_add(1, SeqCst);
            phase.shared.lose_sight();
        });
        let ended = phases.freeze(|| AtomicU64::new(0), || Lsn::new(log.load(SeqCst))).unwrap();
        assert!(ended.range.is_empty() || ended.epoch.is_none(), "a record of which nothing was marked");
        thread.join().unwrap();
    });
}
