//! Power loss at every point of a run (law 10), and failing syncs.

use crate::life::{DIR, Life, Model, contents, env, open};
use pitr_reference::{Error, Result, Store};
use pitr_vfs::sim::{Fault, Mode, Op, SimFs, Survivors};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run with checkpoints and restarts. Marks each commit that returned. Ends at the first error.
fn run(fs: &SimFs, seed: u64) -> (BTreeMap<u64, Model>, u64, Option<Error>) {
    let (mut states, mut acknowledged) = (BTreeMap::from([(0, Model::new())]), 0);
    let mut steps = || -> Result<()> {
        let mut life = Life::begin(fs, seed)?;
        for number in 0..40 {
            let made = match number {
                0 => life.create_table(700),
                15 => life.create_table(90),
                _ => life.commit(),
            };
            // If it failed, its state is not known here: it may be there, and the model lacks it.
            let last = made?.tx.get();
            fs.ack(last);
            (states, acknowledged) = (life.states.clone(), last);
            match number % 12 {
                5 => life.store.checkpoint()?,
                9 => life = life.reopen()?,
                _ => {}
            }
        }
        Ok(())
    };
    let ended = steps().err();
    (states, acknowledged, ended)
}

/// A transaction after a power loss.
pub(crate) struct SecondLife<'a> {
    /// It is made after each cut that is a multiple of this.
    pub(crate) every: usize,
    /// What it writes to row 1 of the first table.
    pub(crate) row: &'a [u8],
}

/// Opens what survives of a run, for every cut of its trace and every survival mode of the disk.
/// It has all acknowledged commits, at most one more, and the rows of that state.
///
/// `place` gets the number of acknowledged commits, the last transaction, and the one after it.
/// It returns how many commits there are up to the last transaction. Returns the number of
/// acknowledged commits.
pub(crate) fn power_loss_anywhere(
    fs: &SimFs,
    states: &BTreeMap<u64, Model>,
    second: &SecondLife<'_>,
    mut place: impl FnMut(u64, u64, Option<u64>) -> u64,
) -> u64 {
    let trace = fs.trace();
    let (mut survivors, mut acknowledged) = (Survivors::new(&trace), 0);
    loop {
        let cut = survivors.cut();
        for (mode, seed) in Mode::ALL.into_iter().zip(cut as u64..) {
            let after = SimFs::on(survivors.disk(mode, seed));
            let store = open(&env(&after), DIR).unwrap_or_else(|e| panic!("cut {cut}, {mode:?}: {e}"));
            let last = store.last_commit().unwrap().map_or(0, |commit| commit.tx.get());
            let commits = place(acknowledged, last, None);
            assert!((acknowledged..=acknowledged + 1).contains(&commits), "cut {cut}, {mode:?}: {last}");
            assert!(contents(&store).unwrap() == states[&last], "cut {cut}, {mode:?}: other rows");
            if cut % second.every == 0 && last > 0 {
                // It continues, and a second power loss takes nothing that was there.
                let table = store.tables().unwrap()[0].0;
                let mut transaction = store.begin();
                transaction.put(table, 1, second.row).unwrap();
                let next = transaction.commit().unwrap().tx.get();
                place(acknowledged, last, Some(next));
                let mut expected = states[&last].clone();
                expected.get_mut(&table).unwrap().insert(1, second.row.to_vec());
                let again = open(&env(&SimFs::on(after.durable_disk())), DIR).unwrap();
                assert!(contents(&again).unwrap() == expected, "cut {cut}, {mode:?}: second life");
            }
        }
        match survivors.advance() {
            None => return acknowledged,
            Some(Op::Ack(count)) => acknowledged = *count,
            Some(_) => {}
        }
    }
}

#[test]
fn power_loss_at_any_point_leaves_exactly_the_committed_transactions() {
    // law 1, and FAILURES 18: every cut of the trace, with every survival mode of the disk.
    let fs = SimFs::new();
    let (states, _, ended) = run(&fs, 1);
    assert!(ended.is_none(), "{ended:?}");
    let mut seen_unacknowledged = false;
    let second = SecondLife { every: 17, row: &[9; 700] };
    let acknowledged = power_loss_anywhere(&fs, &states, &second, |acknowledged, last, _| {
        seen_unacknowledged |= last > acknowledged;
        last
    });
    assert!(seen_unacknowledged && acknowledged == 40);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    // FAILURES 18
    let fs = SimFs::new();
    run(&fs, 2);
    let (syncs, writes) = (fs.syncs(), fs.writes());
    let faults = (0..syncs).map(|nth| Fault::Sync { nth }).chain((0..writes).map(|nth| Fault::Full { nth }));
    for fault in faults {
        let described = format!("{fault:?}");
        let fs = SimFs::new();
        fs.inject(fault);
        let (states, acknowledged, ended) = run(&fs, 2);
        if ended.is_none() {
            continue; // the fault did not concern the store, such as a file prepared ahead
        }
        fs.mend();
        let store = open(&env(&SimFs::on(fs.durable_disk())), DIR);
        let store = store.unwrap_or_else(|error| panic!("{described}: {error}"));
        let last = store.last_commit().unwrap().map_or(0, |commit| commit.tx.get());
        assert!(last >= acknowledged, "{described}: {last} of {acknowledged}");
        if last == acknowledged {
            assert!(contents(&store).unwrap() == states[&last], "{described}: other rows");
        }
    }
}

#[test]
fn a_page_that_changes_during_a_checkpoint_is_not_lost() {
    let fs = SimFs::new();
    let life = Life::begin(&fs, 4).unwrap();
    let table = life.store.create_table("a", 8).unwrap();
    let put = move |store: &Store, value: u8| {
        let mut transaction = store.begin();
        transaction.put(table, 1, &[value; 8]).unwrap();
        transaction.commit().unwrap();
    };
    put(&life.store, 1);
    let store = Arc::clone(&life.store);
    fs.during_next_sync(move || put(&store, 2)); // while the table's file is synced
    life.store.checkpoint().unwrap();
    assert_eq!(life.store.get(table, 1).unwrap(), Some(vec![2; 8]));
    let after = open(&env(&SimFs::on(fs.durable_disk())), DIR).unwrap();
    assert_eq!(after.get(table, 1).unwrap(), Some(vec![2; 8]));
    life.store.checkpoint().unwrap();
    let life = life.reopen().unwrap();
    assert_eq!(life.store.get(table, 1).unwrap(), Some(vec![2; 8]));
}

#[test]
fn a_store_whose_checkpoint_failed_refuses_every_later_call() {
    // FAILURES 18
    let fs = SimFs::new();
    let mut life = Life::begin(&fs, 3).unwrap();
    life.create_table(100).unwrap();
    life.commit().unwrap();
    fs.inject(Fault::Sync { nth: 0 });
    assert!(life.store.checkpoint().is_err());
    assert!(matches!(life.store.checkpoint(), Err(Error::Failed)));
    assert!(matches!(life.commit(), Err(Error::Failed)));
    let life = life.reopen().unwrap();
    assert!(contents(&life.store).unwrap() == life.model);
}
