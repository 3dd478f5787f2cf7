//! Snapshots while transactions go on, and what they and the log give.

use crate::lab::{Lab, failed};
use crate::writer::{State, States, Writer, compare};
use crate::{Failure, Rows, Rule, Subject, Suite};
use pitr::format::{FileId, Lsn, TxId};
use pitr::recovery::Target;
use pitr::snapshot::{BlockSource, BoxError, ConsistentAt, FileShape, FuzzySource, Snapshot};
use pitr::tracker::ChangeSet;
use pitr::{Attached, Hint};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Transactions during one snapshot.
const DURING_MAX: u32 = 8;

/// A source with a transaction before each block is read.
struct Busy<'a> {
    source: &'a dyn FuzzySource,
    before: &'a (dyn Fn() + Sync),
}

impl BlockSource for Busy<'_> {
    fn files(&self) -> Vec<FileShape> {
        self.source.files()
    }

    fn read_at(&self, file: FileId, offset: u64, buf: &mut [u8]) -> Result<(), BoxError> {
        let shape = self.source.files().into_iter().find(|shape| shape.file == file);
        let block = shape.map_or(4096, |shape| shape.block_bytes.max(512)) as usize;
        for (part, offset) in buf.chunks_mut(block).zip((offset..).step_by(block)) {
            (self.before)();
            self.source.read_at(file, offset, part)?;
        }
        Ok(())
    }
}

impl FuzzySource for Busy<'_> {
    fn redo_from(&self) -> Lsn {
        self.source.redo_from()
    }

    fn consistent_at(&self) -> Result<ConsistentAt, BoxError> {
        (self.before)();
        self.source.consistent_at()
    }

    fn changes_since(&self, since: Lsn) -> Result<Option<ChangeSet>, BoxError> {
        self.source.changes_since(since)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take<S: Subject>(
    lab: &Lab<'_, S>,
    attached: &Attached,
    store: &S::Store,
    hint: Hint<'_>,
    rule: Rule,
) -> Result<Snapshot, Failure> {
    let place = format!("a snapshot with the hint {hint:?}");
    let source = lab.subject.begin_snapshot(store).map_err(|error| Failure::new(rule, &place, error))?;
    attached.snapshot(source.as_ref(), hint).map_err(|error| failed(rule, &place, &error))
}

/// Takes a snapshot with transactions before each block that is read.
fn take_busy<S: Subject>(
    lab: &Lab<'_, S>,
    attached: &Attached,
    store: &S::Store,
    hint: Hint<'_>,
    writer: &Mutex<Writer<'_, S>>,
) -> Result<Snapshot, Failure> {
    let place = format!("a snapshot with the hint {hint:?}, while transactions go on");
    let source =
        lab.subject.begin_snapshot(store).map_err(|error| Failure::new(Rule::Exact, &place, error))?;
    let outcome = Mutex::new((0, Ok(())));
    let before = || {
        let mut outcome = lock(&outcome);
        if outcome.0 < DURING_MAX && outcome.1.is_ok() {
            *outcome = (outcome.0 + 1, lock(writer).step());
        }
    };
    let taken = attached.snapshot(&Busy { source: source.as_ref(), before: &before }, hint);
    lock(&outcome).1.clone()?;
    taken.map_err(|error| failed(Rule::Exact, &place, &error))
}

pub(crate) fn exact<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let begin = vec![State::default()];
    let writer = Mutex::new(Writer::new(lab.subject, &store, &lab.env, suite.seed, begin));
    for hint in [Hint::Full, Hint::Tracked, Hint::Tracked, Hint::Log, Hint::Compare] {
        for step in 0..5 {
            // The newest changes are in no file when the snapshot begins.
            if step == 3 {
                lab.checkpoint(&store)?;
            }
            lock(&writer).step()?;
        }
        take_busy(&lab, &attached, &store, hint, &writer)?;
    }
    lock(&writer).step()?;
    let states = std::mem::take(&mut lock(&writer).states);
    drop(writer);
    attached.stop().map_err(|error| failed(Rule::Exact, "archiving the rest", &error))?;
    each_state(&lab, &states, Rule::Exact)
}

/// Restores each state, some of them by time and position, and by the transaction after it.
pub(crate) fn each_state<S: Subject>(lab: &Lab<'_, S>, states: &[State], rule: Rule) -> Result<(), Failure> {
    let mut before: Option<(u64, &Rows)> = None;
    for (place, State { tx: number, rows, committed }) in states.iter().enumerate() {
        let Some(committed) = committed else { continue };
        let by_number = Target::at(TxId::new(*number));
        let mut wanted = vec![(by_number, *number, rows)];
        if place % 4 == 0 {
            wanted.push((Target::at(committed.time), *number, rows));
            wanted.push((Target::at(committed.lsn), *number, rows));
            let excluded = Target::just_before(committed.tx);
            wanted.extend(before.map(|(number, rows)| (excluded, number, rows)));
        }
        for (no, (target, number, rows)) in wanted.into_iter().enumerate() {
            let (output, place) =
                (format!("/restored-{number}-{no}-{}", committed.tx), format!("the restore to {target}"));
            let (found, reached) = lab.restore(&target, &output, rule)?;
            compare(&found, rows, rule, &place)?;
            if reached != number {
                let what = format!("it reached transaction {reached}, expected {number}");
                return Err(Failure::new(rule, place, what));
            }
        }
        before = Some((*number, rows));
    }
    Ok(())
}

pub(crate) fn own_changes<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    if !suite.subject.limits().is_interleaved {
        return Ok(());
    }
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, States::new());
    for _ in 0..8 {
        writer.write_long()?;
        writer.commit_one()?;
    }
    let states = std::mem::take(&mut writer.states);
    drop(writer);
    attached.stop().map_err(|error| failed(Rule::OwnChanges, "archiving the rest", &error))?;
    each_state(&lab, &states, Rule::Exact)
}

/// After a snapshot with `hint`, all blocks are compared with it. A difference breaks `rule`.
fn is_complete<S: Subject>(suite: &Suite<'_, S>, hint: Hint<'_>, rule: Rule) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let (mut store, mut states) = (lab.create()?, States::new());
    for round in 0..3 {
        let attached = lab.attach(&store)?;
        let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed + round, states);
        for _ in 0..6 {
            writer.step()?;
        }
        if round == 0 {
            take(&lab, &attached, &store, Hint::Full, rule)?;
            writer.step()?;
        }
        if round == 1 {
            lab.checkpoint(&store)?;
        }
        take(&lab, &attached, &store, hint, rule)?;
        let compared = take(&lab, &attached, &store, Hint::Compare, rule)?;
        if compared.sizes.changed > 0 {
            let place = format!("the snapshot after transaction {}", writer.last());
            let what = format!("{} bytes of changed blocks are missing", compared.sizes.changed);
            return Err(Failure::new(rule, place, what));
        }
        states = std::mem::take(&mut writer.states);
        drop(writer);
        attached.stop().map_err(|error| failed(rule, "archiving the rest", &error))?;
        drop(store);
        store = lab.reopen()?;
    }
    Ok(())
}

pub(crate) fn tracked<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    is_complete(suite, Hint::Tracked, Rule::Tracked)
}

pub(crate) fn logged<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    is_complete(suite, Hint::Log, Rule::Logged)
}
