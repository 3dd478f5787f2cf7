use super::*;
use pitr_format::{Timestamp, record::GapReason};
use proptest::prelude::*;
use std::collections::BTreeSet;

const F: FileId = FileId::new(3);
const SIZE: BlockSize = BlockSize::DEFAULT;

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Mark(u32, u64),
    SetLength(u32, u64),
}

/// Few under miri, where each action takes a second.
const ACTS_MAX: usize = if cfg!(miri) { 8 } else { 60 };

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let block = prop_oneof![0u64..40, 8_000u64..8_400, 0u64..400_000, any::<u64>()];
    let len = prop_oneof![0u64..(60 << 12), (0u64..400_000).prop_map(|block| block << 12)];
    let act = prop_oneof![
        8 => (0u32..3, block).prop_map(|(file, block)| Act::Mark(file, block)),
        1 => (0u32..3, len).prop_map(|(file, len)| Act::SetLength(file, len)),
    ];
    prop::collection::vec(act, 0..ACTS_MAX)
}

pub(crate) fn do_all(set: &mut ChangeSet, acts: &[Act]) {
    for act in acts {
        match act {
            Act::Mark(file, block) => set.mark(FileId::new(*file), SIZE, *block),
            Act::SetLength(file, len) => set.set_length(FileId::new(*file), *len),
        }
    }
}

/// The expected content by definition: marked blocks and shortest length of a file.
fn model(acts: &[Act], of: u32) -> (BTreeSet<u64>, Option<u64>) {
    let marked = acts.iter().filter_map(|act| match act {
        Act::Mark(file, block) if *file == of => Some(*block),
        _ => None,
    });
    let cut = acts.iter().filter_map(|act| match act {
        Act::SetLength(file, len) if *file == of => Some(*len),
        _ => None,
    });
    (marked.collect(), cut.min())
}

proptest! {
    #[test]
    fn a_set_holds_exactly_what_was_marked(acts in acts(), probe in 0u64..400_000) {
        let mut set = ChangeSet::new();
        do_all(&mut set, &acts);
        for file in 0..3 {
            let (marked, cut) = model(&acts, file);
            let expected = |block: u64| marked.contains(&block) || cut.is_some_and(|cut| (block + 1) * 4096 > cut);
            let id = FileId::new(file);
            prop_assert_eq!(set.contains(id, SIZE, probe), expected(probe));
            prop_assert!(marked.iter().all(|block| set.contains(id, SIZE, *block)));
            prop_assert_eq!(set.changed_from(id), cut);
            let len = 9_000 * 4096 + 1;
            let blocks: Vec<u64> = set.blocks(id, SIZE, len).collect();
            prop_assert_eq!(blocks, (0..9_001).filter(|block| expected(*block)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_union_holds_the_blocks_of_both(one in acts(), two in acts()) {
        let (mut a, mut b, mut both) = (ChangeSet::new(), ChangeSet::new(), ChangeSet::new());
        do_all(&mut a, &one);
        do_all(&mut b, &two);
        do_all(&mut both, &one);
        do_all(&mut both, &two);
        let mut union = a.clone();
        union.union(&b);
        prop_assert!(union.is_superset(&a) && union.is_superset(&b));
        prop_assert!(both.is_superset(&union) && union.is_superset(&both));
        prop_assert_eq!(a.is_superset(&both), a.is_superset(&b));
    }

    #[test]
    fn a_set_above_its_memory_limit_reports_more(acts in acts(), more in acts(), bytes in 0u64..12_000) {
        // FAILURES 31: an absurd block number takes no memory.
        let (mut full, mut small) = (ChangeSet::new(), ChangeSet::with_memory(bytes));
        do_all(&mut full, &acts);
        do_all(&mut small, &acts);
        let taken: u64 = small.files.values().map(|set| FILE_COST + set.pages.len() as u64 * PAGE_COST).sum();
        prop_assert!(small.whole || taken + small.left == bytes);
        prop_assert!(taken <= bytes);
        prop_assert!(small.is_superset(&full));
        let mut other = ChangeSet::new();
        do_all(&mut other, &more);
        small.union(&other);
        prop_assert!(small.is_superset(&full) && small.is_superset(&other));
    }
}

#[test]
fn a_file_that_shrank_and_grew_changed_after_the_cut() {
    // FAILURES 5, 45
    let mut set = ChangeSet::new();
    set.mark(F, SIZE, 9);
    set.set_length(F, 5 * 4096 + 1);
    set.set_length(F, 20 * 4096);
    assert_eq!(set.changed_from(F), Some(5 * 4096 + 1));
    assert!(set.blocks(F, SIZE, 8 * 4096).eq(5..8), "block 5 lost all but one byte");
    assert!(set.blocks(F, SIZE, 3 * 4096).eq(0..0));
    set.mark(F, SIZE, 1);
    assert!(set.blocks(F, SIZE, 7 * 4096).eq([1, 5, 6]));
}

#[test]
fn blocks_of_another_size_are_not_comparable() {
    // FAILURES 6: a changed page size.
    let mut set = ChangeSet::new();
    set.mark(F, SIZE, 3);
    let other = BlockSize::new(512).unwrap();
    assert!(set.contains(F, other, 100), "with another block size everything counts as changed");
    assert!(set.blocks(F, other, 2048).eq(0..4));
    assert!(!set.contains(F, SIZE, 100));
    set.mark(F, other, 3);
    assert!(set.contains(F, SIZE, 100) && set.contains(F, other, 100));
    assert_eq!((set.changed_from(F), set.contains(FileId::new(4), SIZE, 0)), (Some(0), false));
}

#[test]
fn a_gap_changes_everything() {
    // FAILURES 1
    let mut set = ChangeSet::new();
    set.record(&Record::Image { file: F, block: 2, data: &[0; 600] });
    set.record(&Record::Note(b"nothing"));
    assert!(set.blocks(F, BlockSize::new(600).unwrap(), 6_000).eq([2]));
    let (since, until) = (Timestamp::MIN, Timestamp::MAX);
    set.record(&Record::Gap { reason: GapReason::StateLost, since, until });
    assert!(set.is_whole() && set.contains(FileId::new(77), SIZE, 1 << 40));
    assert!(set.blocks(FileId::new(77), SIZE, 8192).eq([0, 1]));
    set.mark(F, SIZE, 1);
    set.union(&ChangeSet::new());
    assert_eq!(set, ChangeSet::whole());
}

#[test]
fn a_block_size_is_from_1_byte_to_1_mib() {
    assert!(BlockSize::new(0).is_err() && BlockSize::new((1 << 20) + 1).is_err());
    assert_eq!(BlockSize::new(1 << 20).unwrap().bytes(), 1 << 20);
}
