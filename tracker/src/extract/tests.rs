use super::*;
use crate::ChangeSet;
use pitr_format::{PartitionId, TxId};

/// Pushes one image per block. The block's number selects the file, its index in the list is the
/// position.
fn delta(blocks: &[u64]) -> Changes {
    let whole = LsnRange::new(Lsn::ORIGIN, Lsn::new(blocks.len() as u64)).unwrap();
    let mut extractor = Extractor::new(whole);
    for (block, lsn) in blocks.iter().zip(0..) {
        let (mut payload, file) = (Vec::new(), FileId::new((block % 3) as u32));
        Record::Image { file, block: *block, data: &[0; 4096] }.encode(&mut payload);
        let (kind, partition, tx) = (RecordKind::Image as u8, PartitionId::FIRST, TxId::NONE);
        let (lsn, end) = (Lsn::new(lsn), Lsn::new(lsn + 1));
        extractor.push(&WholeRecord { lsn, end, kind, partition, tx, payload: &payload }).unwrap();
    }
    extractor.finish(whole).unwrap()
}

#[test]
fn a_delta_holds_every_image_for_any_group_size() {
    // Blocks wait to be marked in groups. None may remain waiting, and none may be left out of its
    // group.
    let numbers = [0, 1, 31, 32, 33, WAITING_MAX - 1, WAITING_MAX, WAITING_MAX + 1, 3 * WAITING_MAX + 7];
    for number in numbers.into_iter().filter(|number| !cfg!(miri) || *number < 100) {
        // Under miri the blocks are close together, because each page of a set takes a second.
        let within = if cfg!(miri) { 60_000 } else { 24_000_000 };
        let blocks: Vec<u64> = (0..number as u64).map(|nth| nth * 104_729 % within).collect();
        let mut expected = ChangeSet::new();
        for block in &blocks {
            expected.mark(FileId::new((block % 3) as u32), BlockSize::DEFAULT, *block);
        }
        assert_eq!(delta(&blocks).set, expected, "{number} images");
    }
}
