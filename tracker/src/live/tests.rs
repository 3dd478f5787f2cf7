use super::*;
use crate::epoch::Epoch;
use crate::set::tests::{Act, acts, do_all};
use crate::{ChangeSet, MEMORY_BYTES_MAX};
use pitr_format::FileId;
use proptest::prelude::*;

const SIZE: BlockSize = BlockSize::DEFAULT;

fn do_all_live(epoch: &Epoch, acts: &[Act]) {
    for act in acts {
        match act {
            Act::Mark(file, block) => {
                let Some(live) = epoch.file(FileId::new(*file)) else { continue };
                live.set_size(SIZE);
                live.mark(*block);
            }
            Act::SetLength(file, len) => {
                let Some(live) = epoch.file(FileId::new(*file)) else { continue };
                live.cut(*len);
            }
        }
    }
}

proptest! {
    #[test]
    fn an_epoch_matches_a_set(acts in acts()) {
        let (epoch, mut set) = (Epoch::new(MEMORY_BYTES_MAX), ChangeSet::new());
        do_all_live(&epoch, &acts);
        do_all(&mut set, &acts);
        let frozen = epoch.to_set();
        prop_assert!(frozen.is_superset(&set));
        // The set may hold more: blocks beyond the reach of the tree, and everything after them.
        let in_reach = |act: &Act| !matches!(act, Act::Mark(_, block) if *block >= 1 << 33);
        prop_assert!(!acts.iter().all(in_reach) || set.is_superset(&frozen));
    }

    #[test]
    fn an_epoch_above_its_memory_limit_reports_more(acts in acts(), bytes in 0u64..60_000) {
        let (epoch, mut set) = (Epoch::new(bytes), ChangeSet::new());
        do_all_live(&epoch, &acts);
        do_all(&mut set, &acts);
        prop_assert!(epoch.to_set().is_superset(&set));
    }

    #[test]
    fn an_epoch_can_start_from_a_set(acts in acts()) {
        let (epoch, mut set) = (Epoch::new(MEMORY_BYTES_MAX), ChangeSet::new());
        do_all(&mut set, &acts);
        epoch.mark_known(&set);
        prop_assert!(epoch.to_set().is_superset(&set));
    }
}

#[test]
fn every_block_number_is_accepted() {
    // FAILURES 17, 31: the end of the range neither overflows nor takes memory.
    let blocks = [
        0,
        65_535,
        65_536,
        (1 << 25) - 1,
        1 << 25,
        (1 << 33) - 1,
        1 << 33,
        1 << 52,
        (1 << 52) - 1,
        (1 << 52) - 2,
        1 << 63,
        u64::MAX,
    ];
    for size in [1, 4096, 1 << 20].map(|bytes| BlockSize::new(bytes).unwrap()) {
        for block in blocks {
            let budget = Arc::new(Budget::new(MEMORY_BYTES_MAX));
            let live = LiveFile::new(Arc::clone(&budget));
            live.set_size(size);
            live.mark(block);
            assert!(live.to_set().contains(size, block), "{block} of {size:?}");
            assert!(budget.take(MEMORY_BYTES_MAX - 40_000), "{block} takes too much memory");
        }
    }
}

#[test]
fn one_hundred_gigabytes_take_about_three_megabytes() {
    let budget = Arc::new(Budget::new(MEMORY_BYTES_MAX));
    let live = LiveFile::new(Arc::clone(&budget));
    live.set_size(SIZE);
    let blocks = SIZE.blocks_in(100_000_000_000);
    for block in 0..blocks {
        live.mark(block);
    }
    let taken = MEMORY_BYTES_MAX - budget.left();
    assert!((3_000_000..3_600_000).contains(&taken), "{taken} bytes including pointers");
    let set = live.to_set();
    assert_eq!(set.marked().count() as u64, blocks);
    assert_eq!(set.changed_from, NO_CUT);
}

#[test]
fn threads_that_race_for_a_page_lose_no_mark_and_charge_it_once() {
    // Miri tries a different thread order in each run.
    let (rounds, marks) = if cfg!(miri) { (2, 20) } else { (200, 200) };
    for _ in 0..rounds {
        let budget = Arc::new(Budget::new(MEMORY_BYTES_MAX));
        let live = LiveFile::new(Arc::clone(&budget));
        live.set_size(SIZE);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let live = &live;
                scope.spawn(move || {
                    for nth in 0..marks {
                        live.mark(100_000 + nth * 4 + thread);
                    }
                });
            }
        });
        assert!(live.to_set().marked().eq(100_000..100_000 + 4 * marks));
        assert_eq!(MEMORY_BYTES_MAX - budget.left(), TABLE_COST + FAR_COST);
    }
}
