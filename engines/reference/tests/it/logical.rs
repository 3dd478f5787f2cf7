//! Logical tables: rows that are logged early, power loss, snapshots, restores.

use crate::crash::{SecondLife, power_loss_anywhere};
use crate::fuzzy::World;
use crate::life::{DIR, Life, Model, contents, env, open};
use pitr_reference::{Error, Result};
use pitr_vfs::FileSystem;
use pitr_vfs::sim::SimFs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_changed_row_is_locked_until_its_transaction_ends() {
    let mut life = Life::begin(&SimFs::new(), 1).unwrap();
    life.create_rows_up_to(40).unwrap();
    let (store, table) = (Arc::clone(&life.store), life.store.tables().unwrap()[0].0);
    let (mut first, mut second) = (store.begin(), store.begin());
    first.put(table, 7, b"a row").unwrap();
    assert!(matches!(second.put(table, 7, b"other"), Err(Error::RowLocked { row: 7, .. })));
    second.put(table, 8, b"").unwrap();
    assert_eq!(second.get(table, 8).unwrap(), Some(Vec::new()));
    assert_eq!(store.get(table, 8).unwrap(), None, "not committed");
    assert!(matches!(first.put(table, 9, &[0; 41]), Err(Error::RowTooLong { bytes_max: 40, .. })));
    first.flush().unwrap();
    first.abort();
    second.delete(table, 7).unwrap(); // unlocked
    second.put(table, 7, b"longer than before").unwrap();
    second.put(table, 7, b"short").unwrap();
    second.commit().unwrap();
    let expected = BTreeMap::from([(7, b"short".to_vec()), (8, Vec::new())]);
    assert_eq!(store.rows(table).unwrap(), expected);
    store.begin().put(table, 7, b"x").unwrap(); // unlocked
    for bytes_max in [0, 4063] {
        assert!(matches!(store.create_table_of_rows_up_to("b", bytes_max), Err(Error::Shape { .. })));
    }
    drop((store, life));
}

#[test]
fn a_large_transaction_logs_its_rows_before_it_commits() {
    let fs = SimFs::new();
    let mut life = Life::begin(&fs, 2).unwrap();
    life.create_rows_up_to(4000).unwrap();
    let (store, table) = (Arc::clone(&life.store), life.store.tables().unwrap()[0].0);
    let mut large = store.begin();
    let before = store.wal().end();
    for row in 0..100 {
        large.put(table, row, &[row as u8; 4000]).unwrap();
    }
    assert!(store.wal().end().since(before) > 300_000, "most of it is in the log");
    store.wal().sync().unwrap();
    // An unfinished transaction leaves no trace.
    let after = open(&env(&SimFs::on(fs.durable_disk())), DIR).unwrap();
    assert!(after.rows(table).unwrap().is_empty());
    let mut small = after.begin();
    small.put(table, 3, b"small").unwrap();
    small.commit().unwrap();
    large.commit().unwrap();
    let after = open(&env(&SimFs::on(fs.durable_disk())), DIR).unwrap();
    assert_eq!(after.rows(table).unwrap().len(), 100);
    assert_eq!(after.get(table, 99).unwrap(), Some(vec![99; 4000]));
}

/// A run with checkpoints and restarts, also while transactions are open. Marks each commit that
/// returned. Returns the transactions in the order of their commits, and the states.
fn run(fs: &SimFs, seed: u64) -> Result<(Vec<u64>, BTreeMap<u64, Model>)> {
    let mut life = Life::begin(fs, seed)?;
    let (mut order, count) = (vec![0], fs.clone());
    let mut note = |life: &Life| -> Result<()> {
        order.push(life.store.last_commit()?.unwrap().tx.get());
        count.ack(order.len() as u64 - 1);
        Ok(())
    };
    for bytes in [700, 90] {
        life.create_rows_up_to(bytes)?;
        note(&life)?;
    }
    life.create_table(300)?;
    note(&life)?;
    for number in 0..9 {
        let commits = life.interleave(|life| {
            life.commit()?;
            note(life)?;
            if life.rng.once_in(4) { life.store.checkpoint() } else { Ok(()) }
        })?;
        if commits {
            note(&life)?;
        }
        match number % 3 {
            1 => life.store.checkpoint()?,
            2 => life = life.reopen()?,
            _ => {}
        }
    }
    Ok((order, life.states.clone()))
}

#[test]
fn power_loss_at_any_point_leaves_exactly_the_committed_rows() {
    // Law 1: every cut of the trace, with every survival mode of the disk. Pages are torn too.
    let fs = SimFs::new();
    let (order, states) = run(&fs, 3).unwrap();
    assert!(order.windows(2).any(|pair| pair[0] > pair[1]), "transactions interleave");
    let second = SecondLife { every: 13, row: b"second life" };
    let acknowledged = power_loss_anywhere(&fs, &states, &second, |_, last, next| {
        let place = order.iter().position(|tx| *tx == last).unwrap();
        if let Some(next) = next {
            assert!(order[..=place].iter().all(|tx| *tx < next), "no number is used twice");
        }
        place as u64
    });
    assert_eq!(acknowledged as usize, order.len() - 1);
}

#[test]
fn a_store_of_logical_tables_is_restored_to_every_transaction() {
    // Law 5 and FAILURES 16: fuzzy snapshots, full and incremental, also after a restart.
    for seed in 0..3 {
        let world = World::begin(seed);
        for bytes in [30, 400] {
            world.running().life.create_rows_up_to(bytes).unwrap();
        }
        let (world, snapshots) = world.live_on();
        let states = world.running().life.states.clone();
        let (mut bases, mut replayed) = (BTreeSet::new(), 0);
        for (tx, state) in states.iter().filter(|(tx, _)| **tx > 0) {
            let fs = SimFs::new();
            let (plan, restored) = world.restore(&fs, *tx);
            bases.insert(plan.snapshot.map(|id| id.0));
            replayed += restored.stats.logical_records;
            let store = open(&env(&fs), DIR).unwrap();
            assert!(contents(&store).unwrap() == *state, "seed {seed}, transaction {tx}");
            // It continues, also after a power loss.
            let table = store.tables().unwrap()[0].0;
            let mut transaction = store.begin();
            transaction.put(table, 3, b"restored").unwrap();
            transaction.commit().unwrap();
            let mut expected = state.clone();
            expected.get_mut(&table).unwrap().insert(3, b"restored".to_vec());
            let again = open(&env(&SimFs::on(fs.durable_disk())), DIR).unwrap();
            assert!(contents(&again).unwrap() == expected, "seed {seed}, transaction {tx}");
        }
        assert_eq!(bases.len(), 1 + snapshots.len(), "the empty base, and each snapshot");
        assert!(replayed > 0);
    }
}

#[test]
fn a_snapshot_that_begins_within_a_transaction_restores_it() {
    let world = World::begin(5);
    world.running().life.create_rows_up_to(40).unwrap();
    let store = Arc::clone(&world.running().life.store);
    let table = store.tables().unwrap()[0].0;
    let put = |row: u64, bytes: &[u8]| {
        let mut transaction = store.begin();
        transaction.put(table, row, bytes).unwrap();
        transaction.commit().unwrap();
    };
    put(1, b"before");
    let mut early = store.begin();
    early.put(table, 2, b"early").unwrap();
    early.flush().unwrap();
    put(3, b"interleaved");
    store.checkpoint().unwrap();
    let full = world.take(None, |_| {});
    put(4, b"between");
    let increment = world.take(Some(&full), |_| {});
    put(5, b"after");
    let early = early.commit().unwrap();
    world.running().ship();
    let fs = SimFs::new();
    let (plan, restored) = world.restore(&fs, early.tx.get());
    assert_eq!(plan.snapshot, Some(increment.snapshot.id));
    assert_eq!(restored.stats.logical_records, 4, "those from the first record of the open transaction on");
    let rows = open(&env(&fs), DIR).unwrap().rows(table).unwrap();
    assert_eq!(rows, store.rows(table).unwrap());
    assert_eq!(rows.len(), 5);
    assert!(fs.exists(&Path::new(DIR).join("CONTROL")).unwrap());
}
