//! Restored stores: unfinished, finished, and written again.

use crate::lab::{Lab, failed, machine};
use crate::writer::{State, States, Writer, compare};
use crate::{Failure, Rule, Subject, Suite};
use pitr::Hint;
use pitr::format::TxId;
use pitr::recovery::{RestoreOptions, Target};
use pitr::vfs::FileSystem;
use pitr::vfs::sim::{Disk, Mode, SimFs, Survivors};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Steps of a short history.
const STEPS: u64 = 12;

/// An archived history with a snapshot in its middle. The store is closed.
fn history<S: Subject>(lab: &Lab<'_, S>, seed: u64, rule: Rule) -> Result<States, Failure> {
    long_history(lab, seed, STEPS, rule)
}

/// As [`history`], with this number of steps, and a snapshot after each six.
pub(crate) fn long_history<S: Subject>(
    lab: &Lab<'_, S>,
    seed: u64,
    steps: u64,
    rule: Rule,
) -> Result<States, Failure> {
    let store = lab.create()?;
    let attached = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, seed, vec![State::default()]);
    for step in 0..steps {
        writer.step()?;
        if step % 6 == 5 && step + 1 < steps {
            let source = lab.subject.begin_snapshot(&store);
            let source = source.map_err(|error| Failure::new(rule, "a snapshot", error))?;
            attached
                .snapshot(source.as_ref(), Hint::Full)
                .map_err(|error| failed(rule, "a snapshot", &error))?;
        }
    }
    let states = std::mem::take(&mut writer.states);
    drop(writer);
    attached.stop().map_err(|error| failed(rule, "archiving the rest", &error))?;
    Ok(states)
}

pub(crate) fn continues<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let states = history(&lab, suite.seed, Rule::Continues)?;
    for State { tx, rows, .. } in states.iter().skip(1).step_by(3) {
        let (output, place) = (format!("/restored-{tx}"), format!("a store restored to transaction {tx}"));
        let failure = |error| Failure::new(Rule::Continues, &place, error);
        let (found, _) = lab.restore(&Target::at(TxId::new(*tx)), &output, Rule::Continues)?;
        compare(&found, rows, Rule::Continues, &place)?;
        let store = lab.subject.open(&lab.env, Path::new(&output)).map_err(failure)?;
        let begin = vec![State { tx: *tx, rows: rows.clone(), committed: None }];
        let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed + tx, begin);
        for step in 0..4 {
            writer.step()?;
            if step == 1 {
                lab.subject.checkpoint(&store).map_err(failure)?;
            }
            let crashed = machine(&SimFs::on(lab.fs.durable_disk()), suite.seed);
            let found =
                lab.subject.open(&crashed, Path::new(&output)).and_then(|store| lab.subject.rows(&store));
            let place = format!("{place}, then power loss after transaction {}", writer.last());
            compare(&found.map_err(failure)?, &writer.rows(), Rule::Continues, &place)?;
        }
    }
    Ok(())
}

pub(crate) fn unfinished<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let lab = Lab::new(suite)?;
    let states = history(&lab, suite.seed, Rule::Unfinished)?;
    let known = lab.fs.list(Path::new("/")).unwrap_or_default();
    let begin = lab.fs.trace().ops.len();
    let Some(State { tx, rows: expected, .. }) = states.last() else { return Ok(()) };
    let target = Target::at(TxId::new(*tx));
    let restored = lab.pitr.restore_to(&lab.source, &target, "/restored");
    restored.map_err(|error| failed(Rule::Unfinished, "a restore", &error))?;
    let trace = lab.fs.trace();
    let mut survivors = Survivors::at(&trace, begin);
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().zip(cut as u64..) {
            let fs = SimFs::on(survivors.disk(mode, seed));
            let names = fs.list(Path::new("/")).unwrap_or_default();
            for name in names.into_iter().filter(|name| !known.contains(name)) {
                let (path, env) = (Path::new("/").join(name), machine(&fs, suite.seed));
                let opened = lab.subject.open(&env, &path).and_then(|store| lab.subject.rows(&store));
                let place = format!(
                    "{} after a power loss {} operations into a restore ({mode:?})",
                    path.display(),
                    cut - begin
                );
                if let Ok(found) = opened {
                    compare(&found, expected, Rule::Unfinished, &place)?;
                }
            }
        }
        if survivors.advance().is_none() {
            break;
        }
    }
    let opened =
        lab.subject.open(&lab.env, Path::new("/restored")).and_then(|store| lab.subject.rows(&store));
    let found = opened.map_err(|error| Failure::new(Rule::Unfinished, "a finished restore", error))?;
    compare(&found, expected, Rule::Unfinished, "a finished restore")
}

pub(crate) fn workers<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::Workers;
    let lab = Lab::threaded(suite)?;
    let states = history(&lab, suite.seed, rule)?;
    let tx = TxId::new(states.last().map_or(0, |state| state.tx));
    let restore = |workers: usize| -> pitr::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let history = lab.pitr.history(&lab.source, None)?;
        let plan = history.plan_for(&Target::at(tx))?;
        let output = PathBuf::from(format!("/restored-by-{workers}"));
        let options = RestoreOptions { workers: NonZeroUsize::new(workers), ..RestoreOptions::to(&output) };
        lab.pitr.restore(&history, &plan, &options, &|_| {})?;
        Ok(files_below(&lab.fs.durable_disk(), &output))
    };
    let restore = |workers| {
        let place = format!("a restore by {workers} workers");
        restore(workers).map_err(|error| failed(rule, &place, &error))
    };
    let one = restore(1)?;
    for workers in 2..=4 {
        let several = restore(workers)?;
        let names = one.keys().chain(several.keys());
        if let Some(name) = names.into_iter().find(|name| one.get(*name) != several.get(*name)) {
            let place = format!("{} restored by {workers} workers", name.display());
            return Err(Failure::new(rule, place, "it differs from that of one worker"));
        }
    }
    Ok(())
}

pub(crate) fn files_below(disk: &Disk, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = disk.names().filter_map(|path| Some((path.strip_prefix(folder).ok()?, path)));
    names.map(|(name, path)| (name.to_owned(), disk.read(path).unwrap_or_default())).collect()
}
