use crate::set::tests::{Act, acts, do_all};
use crate::{BlockSize, ChangeSet, Tracker};
use pitr_format::{FileId, Lsn};
use proptest::prelude::*;

const SIZE: BlockSize = BlockSize::DEFAULT;

proptest! {
    #[test]
    fn marks_of_a_pass_reach_all_its_epochs(acts in acts(), both: bool) {
        let tracker = Tracker::new(Lsn::ORIGIN);
        let mut doubled = both.then(|| tracker.double());
        let pass = tracker.enter();
        let marks = [0, 1, 2].map(|file| pass.file(FileId::new(file), SIZE));
        for act in &acts {
            match act {
                Act::Mark(file, block) => marks[*file as usize].mark(*block),
                Act::SetLength(file, len) => pass.set_length(FileId::new(*file), *len),
            }
        }
        let mut expected = ChangeSet::new();
        do_all(&mut expected, &acts);
        if let Some(mut doubled) = doubled.take() {
            doubled.wait();
            let divided = doubled.divide(|| Lsn::new(1)).unwrap();
            pass.done(Lsn::new(2));
            prop_assert!(divided.read().set.is_superset(&expected));
        } else {
            pass.done(Lsn::new(2));
        }
        prop_assert!(tracker.freeze(|| Lsn::new(2)).unwrap().set.is_superset(&expected));
    }
}

#[test]
fn an_existing_table_does_not_hide_the_next_epoch() {
    let (tracker, file) = (Tracker::new(Lsn::ORIGIN), FileId::FIRST);
    let blocks = [1_000_000, 1_000_001, 60_000, 3_000_000, (1 << 25) + 5];
    let first = tracker.enter();
    first.file(file, SIZE).mark(blocks[0]);
    first.done(Lsn::ORIGIN);
    let mut doubled = tracker.double();
    doubled.wait();
    let pass = tracker.enter();
    let marks = pass.file(file, SIZE);
    blocks.iter().for_each(|block| marks.mark(*block));
    let mut divided = doubled.divide(|| Lsn::new(1)).unwrap();
    pass.done(Lsn::new(2));
    divided.wait();
    let old = divided.read().set;
    // The same with one epoch, whose table exists.
    let pass = tracker.enter();
    let marks = pass.file(file, SIZE);
    blocks.iter().for_each(|block| marks.mark(*block + 7));
    pass.done(Lsn::new(3));
    let new = tracker.freeze(|| Lsn::new(3)).unwrap().set;
    for block in blocks {
        assert!(old.contains(file, SIZE, block) && new.contains(file, SIZE, block), "{block}");
        assert!(new.contains(file, SIZE, block + 7) && !new.contains(file, SIZE, block + 3), "{block}");
    }
}
