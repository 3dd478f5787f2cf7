//! The replay of logical records: by restores, and step by step in ways that restores of short
//! histories do not come to.

use crate::checks::restores::{files_below, long_history};
use crate::checks::snapshots::each_state;
use crate::driven::{Driven, Kept, Order, Run};
use crate::lab::{Lab, STORE, failed, machine};
use crate::writer::{State, Writer, compare};
use crate::{Failure, Rule, Subject, Suite};
use pitr::Hint;
use pitr::dedup::ChunkStore;
use pitr::format::record::{Record, RecordKind};
use pitr::format::{PartitionId, TxId};
use pitr::recovery::{RestoreOptions, Restorer, Target};
use pitr::snapshot::BoxError;
use pitr::vfs::sim::SimFs;
use pitr::wal::{BatchBuilder, Wal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Steps of a history: rows are overwritten and deleted, too.
const STEPS: u64 = 30;
/// Places at which a replay is killed, at most.
const KILLS_MAX: usize = 16;

pub(crate) fn replayed<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::Replayed;
    let lab = Lab::new(suite)?;
    let states = long_history(&lab, suite.seed, STEPS, rule)?;
    each_state(&lab, &states, rule)?;
    // A replay that had nothing to do shows nothing.
    let (mut records, last) = (0, states.last().map_or(0, |state| state.tx));
    let count = |found: &[Kept], run: &Run<'_>| {
        records = found.len();
        run.whole(found)
    };
    drive(&lab, last, "/counted", rule, count)?;
    match records {
        0 => Err(Failure::new(rule, "the log", "it has no logical record")),
        _ => Ok(()),
    }
}

/// Some transactions log their changes, then are aborted or stay open.
pub(crate) fn logged_early<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::LoggedEarly;
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, vec![State::default()]);
    for round in 0..8 {
        writer.abort_one()?;
        if lab.subject.limits().is_interleaved {
            writer.write_long()?;
        }
        writer.commit_one()?;
        if round == 3 {
            let source = lab.subject.begin_snapshot(&store);
            let source = source.map_err(|error| Failure::new(rule, "a snapshot", error))?;
            let taken = attached.snapshot(source.as_ref(), Hint::Full);
            taken.map_err(|error| failed(rule, "a snapshot", &error))?;
        }
        let place = format!("power loss after transaction {}", writer.last());
        let crashed = machine(&SimFs::on(lab.fs.durable_disk()), suite.seed);
        let found = lab.subject.open(&crashed, Path::new(STORE)).and_then(|store| lab.subject.rows(&store));
        let found = found.map_err(|error| Failure::new(rule, &place, error))?;
        compare(&found, &writer.rows(), rule, &place)?;
    }
    let states = std::mem::take(&mut writer.states);
    drop(writer);
    attached.stop().map_err(|error| failed(rule, "archiving the rest", &error))?;
    each_state(&lab, &states, rule)
}

/// Restores a transaction, with a replay that the suite carries out. Returns all files.
fn drive<S: Subject>(
    lab: &Lab<'_, S>,
    tx: u64,
    output: &str,
    rule: Rule,
    replay: impl FnMut(&[Kept], &Run<'_>) -> Result<(), BoxError> + Send,
) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let place = format!("the restore to transaction {tx}");
    let engine = lab.subject.engine();
    let target = engine.restore_target();
    let target = target.ok_or_else(|| Failure::new(rule, &place, "the engine has no restore target"))?;
    let driven = Driven::new(target, replay);
    let restore = || -> pitr::Result<()> {
        let history = lab.pitr.history(&lab.source, None)?;
        let plan = history.plan_for(&Target::at(TxId::new(tx)))?;
        let chunks = ChunkStore::open(lab.pitr.objects().clone())?;
        Restorer::new(&history, &chunks, &driven).restore(&plan, &RestoreOptions::to(output))?;
        Ok(())
    };
    restore().map_err(|error| failed(rule, &place, &error))?;
    Ok(files_below(&lab.fs.durable_disk(), Path::new(output)))
}

/// The states that are replayed step by step: one from before the snapshot, and the last one.
fn some(states: &[State]) -> impl Iterator<Item = &State> {
    states.get(states.len() / 3).into_iter().chain(states.last())
}

pub(crate) fn partition_order<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::PartitionOrder;
    let lab = Lab::new(suite)?;
    let states = long_history(&lab, suite.seed, STEPS, rule)?;
    for State { tx, rows, .. } in some(&states) {
        let mut first = None;
        let orders = [Order::OfLog, Order::Ascending, Order::Descending, Order::Mixed(suite.seed)];
        for (number, order) in orders.into_iter().enumerate() {
            let output = format!("/restored-{tx}-{number}");
            let place = format!("the replay to transaction {tx}, {order}");
            let files = drive(&lab, *tx, &output, rule, |records, run| {
                let records = order.of(records, |record| run.is_barrier(record))?;
                run.whole(&records)
            })?;
            let opened = lab.subject.open(&lab.env, Path::new(&output));
            let found = opened.and_then(|store| lab.subject.rows(&store));
            compare(&found.map_err(|error| Failure::new(rule, &place, error))?, rows, rule, &place)?;
            let first = first.get_or_insert_with(|| files.clone());
            let mut names = first.keys().chain(files.keys());
            if let Some(name) = names.find(|name| first.get(*name) != files.get(*name)) {
                let what =
                    format!("{} differs from that of a replay in the order of the log", name.display());
                return Err(Failure::new(rule, place, what));
            }
        }
    }
    Ok(())
}

pub(crate) fn run_again<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::RunAgain;
    let lab = Lab::new(suite)?;
    let states = long_history(&lab, suite.seed, STEPS, rule)?;
    for State { tx, rows, .. } in some(&states) {
        let (mut kill, mut count) = (1, usize::MAX);
        while kill <= count {
            let output = format!("/restored-{tx}-{kill}");
            let place = format!("the replay to transaction {tx}, killed after {kill} records and run again");
            drive(&lab, *tx, &output, rule, |records, run| {
                count = records.len();
                // The second attempt comes further than the first, the third one ends.
                run.until(kill, records)?;
                run.until(kill + (count - kill.min(count)) / 2, records)?;
                run.whole(records)
            })?;
            let opened = lab.subject.open(&lab.env, Path::new(&output));
            let found = opened.and_then(|store| lab.subject.rows(&store));
            compare(&found.map_err(|error| Failure::new(rule, &place, error))?, rows, rule, &place)?;
            kill += count.div_ceil(KILLS_MAX).max(1);
        }
    }
    Ok(())
}

/// The partition of the first logical record in the log.
fn logical_partition(wal: &Wal) -> pitr::wal::Result<Option<PartitionId>> {
    let mut found = None;
    wal.scan(wal.first(), wal.durable())?.for_each::<pitr::wal::Error>(|record| {
        if record.kind == RecordKind::Data as u8 {
            found.get_or_insert(record.partition);
        }
        Ok(())
    })?;
    Ok(found)
}

pub(crate) fn unknown_record<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::UnknownRecord;
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, vec![State::default()]);
    for _ in 0..6 {
        writer.step()?;
    }
    let (last, rows) = (writer.last(), writer.rows());
    drop(writer);
    let wal = lab.subject.wal(&store);
    let log = |error: pitr::wal::Error| Failure::new(rule, "the log", error);
    let partition = logical_partition(wal).map_err(log)?;
    let partition = partition.ok_or_else(|| Failure::new(rule, "the log", "it has no logical record"))?;
    let (tx, mut batch) = (TxId::new(last + 1_000), BatchBuilder::new());
    let unknown = lab.subject.unknown_record();
    batch.push(partition, tx, &Record::Data(&unknown)).map_err(log)?;
    batch.push_commit(PartitionId::FIRST, tx, None, None, b"").map_err(log)?;
    let lsn = wal.commit(batch).map_err(log)?.first;
    attached.stop().map_err(|error| failed(rule, "archiving the rest", &error))?;
    drop(store);

    let place = format!("the record at {lsn}, which the engine does not know");
    let skipped = |what| Err(Failure::new(rule, &place, what));
    if lab.pitr.restore_to(&lab.source, &Target::at(tx), "/restored-unknown").is_ok() {
        return skipped("a restore skipped it");
    }
    let crashed = machine(&SimFs::on(lab.fs.durable_disk()), suite.seed);
    if lab.subject.open(&crashed, Path::new(STORE)).is_ok() {
        return skipped("an opening after a crash skipped it");
    }
    // The state before it can be restored.
    let (found, _) = lab.restore(&Target::at(TxId::new(last)), "/restored-before", rule)?;
    compare(&found, &rows, rule, &format!("the restore to transaction {last}"))
}
