//! Power loss at every point of a run, and what transactions that did not commit leave.

use crate::lab::{Lab, STORE, machine};
use crate::writer::{State, States, Writer, compare};
use crate::{Failure, Rule, Subject, Suite};
use pitr::Hint;
use pitr::recovery::Target;
use pitr::vfs::sim::{Mode, Op, SimFs, Survivors};
use std::path::Path;

const STEPS: u64 = 12;
/// Commits that may be in flight at a cut: the long transaction and the short one of a step.
const IN_FLIGHT_MAX: usize = 2;

/// A run with checkpoints, and an end and a new begin in the middle. Marks what returned, by its
/// place among the states.
fn run<S: Subject>(lab: &Lab<'_, S>, seed: u64) -> Result<States, Failure> {
    let mut states = vec![State::default()];
    let mut store = lab.create()?;
    lab.fs.ack(0);
    for part in 0..2 {
        let mut writer = Writer::new(lab.subject, &store, &lab.env, seed + part, states);
        for step in 1..=STEPS / 2 {
            writer.step()?;
            lab.fs.ack(writer.states.len() as u64 - 1);
            if step % 3 == 0 {
                lab.checkpoint(&store)?;
            }
        }
        states = std::mem::take(&mut writer.states);
        drop(writer);
        drop(store);
        store = lab.reopen()?;
    }
    Ok(states)
}

pub(crate) fn power_loss<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let states = run(&lab, suite.seed)?;
    let trace = lab.fs.trace();
    let (mut survivors, mut returned) = (Survivors::new(&trace), None);
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().zip(cut as u64..) {
            let tx = returned.and_then(|place: u64| states.get(place as usize)).map_or(0, |state| state.tx);
            let place = format!("power loss after {cut} operations ({mode:?}), transaction {tx}");
            let fs = SimFs::on(survivors.disk(mode, seed));
            after(suite, &fs, returned, &states, &place)?;
        }
        match survivors.advance() {
            None => return Ok(()),
            Some(Op::Ack(place)) => returned = Some(*place),
            Some(_) => {}
        }
    }
}

/// Opens what survived. `returned` is the place of the last state whose commit returned; `None` if
/// the store was not created yet.
fn after<S: Subject>(
    suite: &Suite<'_, S>,
    fs: &SimFs,
    returned: Option<u64>,
    states: &[State],
    place: &str,
) -> Result<(), Failure> {
    let (env, subject) = (machine(fs, suite.seed), suite.subject);
    let opened = match returned {
        None => subject.create(&env, Path::new(STORE)),
        Some(_) => subject.open(&env, Path::new(STORE)),
    };
    let found = opened.and_then(|store| subject.rows(&store));
    let found = found.map_err(|error| Failure::new(Rule::Durable, place, error))?;
    let mut possible =
        states.iter().skip(returned.unwrap_or(0) as usize).take(1 + IN_FLIGHT_MAX).map(|state| &state.rows);
    let Some(expected) = possible.next() else { return Ok(()) };
    if possible.any(|rows| *rows == found) {
        return Ok(());
    }
    compare(&found, expected, Rule::Durable, place)
}

pub(crate) fn aborted<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, States::new());
    for _ in 0..STEPS {
        writer.abort_one()?;
        let place = format!("after transaction {}", writer.last());
        compare(&lab.rows(&store, Rule::Aborted, &place)?, &writer.rows(), Rule::Aborted, &place)?;
        writer.commit_one()?;
    }
    writer.abort_one()?;
    lab.checkpoint(&store)?;
    let expected = writer.rows();
    drop(writer);
    drop(store);
    let place = "opened again after a checkpoint";
    compare(&lab.rows(&lab.reopen()?, Rule::Aborted, place)?, &expected, Rule::Aborted, place)
}

pub(crate) fn uncommitted<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, States::new());
    let snapshot_failed = |error: &pitr::Error| crate::lab::failed(Rule::Uncommitted, "a snapshot", error);
    for round in 0..4 {
        for _ in 0..3 {
            if lab.subject.limits().is_interleaved {
                writer.write_long()?;
            }
            writer.commit_one()?;
        }
        let place = format!("a checkpoint beside an open transaction, after transaction {}", writer.last());
        lab.checkpoint(&store)?;
        let crashed = machine(&SimFs::on(lab.fs.durable_disk()), suite.seed);
        let found = lab.subject.open(&crashed, Path::new(STORE)).and_then(|store| lab.subject.rows(&store));
        let found = found.map_err(|error| Failure::new(Rule::Uncommitted, &place, error))?;
        compare(&found, &writer.rows(), Rule::Uncommitted, &place)?;

        let source = lab.subject.begin_snapshot(&store);
        let source = source.map_err(|error| Failure::new(Rule::Uncommitted, "a snapshot", error))?;
        attached.snapshot(source.as_ref(), Hint::Full).map_err(|error| snapshot_failed(&error))?;
        let output = format!("/restored-{round}");
        let (found, _) = lab.restore(&Target::latest(), &output, Rule::Uncommitted)?;
        let place = format!("a snapshot beside an open transaction, after transaction {}", writer.last());
        compare(&found, &writer.rows(), Rule::Uncommitted, &place)?;
    }
    drop(writer);
    attached.stop().map_err(|error| snapshot_failed(&error))?;
    Ok(())
}
