//! A store equals its model, whatever happens between transactions.

use crate::life::{DIR, Life, Model, contents, env, open};
use pitr_reference::{Error, PageFault};
use pitr_vfs::sim::SimFs;
use proptest::prelude::*;
use std::path::Path;

#[derive(Debug, Clone, Copy)]
enum Step {
    Commit,
    Table(usize),
    Rows(usize),
    Interleave,
    Checkpoint,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Commit),
        1 => (1_usize..4080).prop_map(Step::Table),
        1 => (1_usize..4063).prop_map(Step::Rows),
        2 => Just(Step::Interleave),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_store_equals_its_model(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        // FAILURES 16: transactions across tables; aborted ones leave no trace.
        let mut life = Life::begin(&SimFs::new(), seed).unwrap();
        life.create_table(300).unwrap();
        for step in steps {
            match step {
                Step::Commit => drop(life.commit().unwrap()),
                Step::Table(row_bytes) => match life.create_table(row_bytes) {
                    Ok(_) | Err(Error::TableExists { .. }) => {}
                    Err(error) => panic!("{error}"),
                },
                Step::Rows(bytes_max) => match life.create_rows_up_to(bytes_max) {
                    Ok(_) | Err(Error::TableExists { .. }) => {}
                    Err(error) => panic!("{error}"),
                },
                Step::Interleave if life.is_logical => {
                    life.interleave(|life| {
                        if life.rng.once_in(4) {
                            life.store.checkpoint()?;
                        }
                        life.commit().map(drop)
                    }).unwrap();
                }
                Step::Interleave => {}
                Step::Checkpoint => life.store.checkpoint().unwrap(),
                Step::Reopen => life = life.reopen().unwrap(),
            }
            prop_assert!(contents(&life.store).unwrap() == life.model);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let life = Life::begin(&SimFs::new(), 1).unwrap();
    let table = life.store.create_table("a", 4).unwrap();
    let mut transaction = life.store.begin();
    assert!(matches!(transaction.put(table, 0, b"long row"), Err(Error::RowBytes { .. })));
    assert!(matches!(transaction.put(table, u64::MAX, b"four"), Err(Error::RowNumber { .. })));
    assert!(matches!(life.store.create_table("a", 4), Err(Error::TableExists { .. })));
    for (name, row_bytes) in [("", 1), ("b", 0), ("b", 4080), (&"b".repeat(65), 1)] {
        assert!(matches!(life.store.create_table(name, row_bytes), Err(Error::Shape { .. })));
    }
    transaction.commit().unwrap();
    assert_eq!(contents(&life.store).unwrap(), Model::from([(table, [].into())]));
    assert_eq!(life.store.table("a").unwrap(), Some(table));
}

#[test]
fn a_damaged_or_missing_file_is_an_error_and_never_a_wrong_row() {
    // law 8
    let fs = SimFs::new();
    let mut life = Life::begin(&fs, 2).unwrap();
    life.create_table(100).unwrap();
    for _ in 0..20 {
        life.commit().unwrap();
    }
    life.store.checkpoint().unwrap();
    drop(life);
    let table = Path::new(DIR).join("00000001.table");
    let refused = |change: &dyn Fn(&mut pitr_vfs::sim::Disk)| {
        let mut disk = fs.durable_disk();
        change(&mut disk);
        open(&env(&SimFs::on(disk)), DIR).and_then(|store| contents(&store)).unwrap_err()
    };
    let damaged = |found| move |error| matches!(error, Error::Damaged { fault, .. } if fault == found);
    let at = |offset| {
        let table = &table;
        move |disk: &mut pitr_vfs::sim::Disk| assert!(disk.damage(table, offset, &[0x55; 3]))
    };
    assert!(damaged(PageFault::Checksum)(refused(&at(100))));
    assert!(damaged(PageFault::Checksum)(refused(&at(5000))));
    assert!(damaged(PageFault::Short)(refused(&|disk| assert!(disk.damage_len(&table, 5000)))));
    let lose_control = |disk: &mut pitr_vfs::sim::Disk| assert!(disk.lose(&Path::new(DIR).join("CONTROL")));
    assert!(matches!(refused(&lose_control), Error::NoControl { .. }));
    let lose_log = |disk: &mut pitr_vfs::sim::Disk| {
        let log = Path::new(DIR).join("log");
        let names: Vec<_> = disk.names().filter(|name| name.starts_with(&log)).map(Path::to_owned).collect();
        assert!(names.iter().all(|name| disk.lose(name)));
    };
    assert!(matches!(refused(&lose_log), Error::NoLog { .. }));
}
