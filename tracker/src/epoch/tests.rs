use super::*;
use crate::MEMORY_BYTES_MAX;
use pitr_format::Timestamp;
use pitr_format::record::GapReason;

const SIZE: BlockSize = BlockSize::DEFAULT;
const FILES: [u32; 9] = [0, 7, 8, 255, 256, 65_535, 65_536, 1 << 24, u32::MAX];

#[test]
fn files_of_all_numbers_are_distinct() {
    let (epoch, mut expected) = (Epoch::new(MEMORY_BYTES_MAX), ChangeSet::new());
    for (nth, file) in FILES.map(FileId::new).into_iter().enumerate() {
        epoch.mark(file, SIZE, nth as u64);
        expected.mark(file, SIZE, nth as u64);
    }
    let found = epoch.to_set();
    assert!(found.files().eq(FILES.map(FileId::new)));
    assert_eq!(found, expected);
    let again = Epoch::new(MEMORY_BYTES_MAX);
    again.mark_known(&found);
    assert_eq!(again.to_set(), expected);
}

#[test]
fn a_changed_block_size_marks_the_whole_file() {
    // FAILURES 6
    let epoch = Epoch::new(MEMORY_BYTES_MAX);
    epoch.record(&Record::Image { file: FileId::new(9), block: 3, data: &[0; 4096] });
    assert_eq!(epoch.to_set().changed_from(FileId::new(9)), None);
    epoch.record(&Record::Image { file: FileId::new(9), block: 3, data: &[0; 512] });
    assert_eq!(epoch.to_set().changed_from(FileId::new(9)), Some(0));
    assert!(!epoch.to_set().is_whole());
}

#[test]
fn a_gap_changes_everything_in_an_epoch() {
    // FAILURES 1
    let epoch = Epoch::new(MEMORY_BYTES_MAX);
    let (since, until) = (Timestamp::MIN, Timestamp::MAX);
    epoch.record(&Record::Gap { reason: GapReason::LogFull, since, until });
    assert!(epoch.to_set().is_whole());
}

#[test]
fn files_beyond_the_memory_limit_mark_everything() {
    // FAILURES 31: file numbers scattered over the whole range take no more than the memory limit.
    let epoch = Epoch::new(1 << 20);
    for nth in 0..3_000u32 {
        epoch.mark(FileId::new(nth.wrapping_mul(0x9e37_79b9)), SIZE, 1);
    }
    assert!(epoch.to_set().is_whole());
    let taken: u64 = epoch.files().map(|_| FILE_COST).sum();
    assert!(taken < 1 << 20);
}
