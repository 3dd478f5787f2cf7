//! Marks against freezes in every order of the threads' steps.
//!
//! The log has two positions. A pass takes a position by appending, and the record is durable at
//! once. An epoch is one word of bits, set like those of the live bitmap: bit n for the record at
//! position n.

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

/// A pass with one record. It calls `done` like [`Pass::done`](crate::Pass::done).
fn pass(phases: &Model, log: &AtomicU64) {
    let phase = phases.present();
    let position = log.fetch_add(1, SeqCst);
    set(&phase.epoch, position);
    if let Some(next) = &phase.next {
        set(next, position);
    }
    phase.shared.done(Lsn::new(position + 1));
}

/// Freezes, and checks that every position of the range is marked.
fn freeze(phases: &Model, log: &AtomicU64) -> LsnRange {
    let ended = phases.freeze(|| AtomicU64::new(0), || Lsn::new(log.load(SeqCst))).unwrap();
    let Ended { range, epoch } = ended;
    let bits = epoch.unwrap().load(Relaxed);
    for position in range.from().get()..range.to().get() {
        assert!(bits & 1 << position != 0, "the mark of {position} is missing in {range}");
    }
    range
}

/// Runs passes on `threads` threads against freezes on this one, and a last freeze for the rest.
///
/// The ranges must be contiguous up to the end of the log, and each mark must be in the epoch of
/// its position.
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
fn a_mark_is_in_the_epoch_of_its_position_across_two_freezes() {
    model(|| passes_and_freezes(1, 2));
}

#[test]
fn every_freeze_after_a_dropped_pass_reports_unknown_changes() {
    model(|| {
        let (phases, log) = (phases(), Arc::new(AtomicU64::new(0)));
        let (dropped, appended) = (Arc::clone(&phases), Arc::clone(&log));
        let thread = thread::spawn(move || {
            let phase = dropped.present();
            appended.fetch_add(1, SeqCst);
            phase.shared.set_blind();
        });
        let ended = phases.freeze(|| AtomicU64::new(0), || Lsn::new(log.load(SeqCst))).unwrap();
        assert!(ended.range.is_empty() || ended.epoch.is_none(), "a record without a mark");
        thread.join().unwrap();
    });
}
