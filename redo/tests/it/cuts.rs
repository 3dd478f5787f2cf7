//! What set-lengths cut off, and block sizes.

use pitr_format::Lsn;
use pitr_redo::{BlockImage, Cuts, FileChange, MixedBlockSizes};
use proptest::prelude::*;

#[test]
fn a_cut_counts_for_what_came_before_it_only() {
    // FAILURES 45
    let mut older = Cuts::new();
    for (lsn, len) in [(10, 50), (20, 90), (30, 60)] {
        older.set_length(Lsn::new(lsn), len);
    }
    let mut newer = Cuts::new();
    newer.set_length(Lsn::new(40), 70);
    older.join(&newer);
    for (lsn, shortest) in [(5, 50), (15, 60), (25, 60), (35, 70), (45, u64::MAX)] {
        assert_eq!(older.shortest_after(Lsn::new(lsn)), shortest, "{lsn}");
    }
    assert_eq!((older.shortest(), older.last()), (50, Some(70)));
}

#[test]
fn an_image_keeps_what_lies_before_the_shortest_later_length() {
    let image = BlockImage { block: 3, block_bytes: 100 };
    for (shortest, kept) in [(0, 0), (299, 0), (300, 0), (301, 1), (399, 99), (400, 100), (u64::MAX, 100)] {
        assert_eq!(image.kept(shortest), kept, "{shortest}");
    }
    let mut data = [7; 4];
    BlockImage::clip(&mut data, 3);
    assert_eq!(data, [7, 7, 7, 0]);
    BlockImage::clip(&mut data, 9);
    assert_eq!(data, [7, 7, 7, 0], "nothing to clip");
}

#[test]
fn images_of_the_largest_numbers_saturate() {
    let image = BlockImage { block: u64::MAX, block_bytes: u32::MAX };
    let mut change = FileChange::default();
    assert_eq!(image.kept(u64::MAX), 0);
    change.add_image(image, u32::MAX);
    assert_eq!(change.images_end, u64::MAX);
}

#[test]
fn a_file_has_images_of_one_size() {
    let mut change = FileChange::default();
    assert_eq!(change.set_block_bytes(512), Ok(()));
    assert_eq!(change.set_block_bytes(512), Ok(()));
    assert_eq!(change.set_block_bytes(1024), Err(MixedBlockSizes));
    assert_eq!(change.block_bytes, Some(512));
    assert_eq!(MixedBlockSizes.to_string(), "the file has block images of more than one size");
}

#[test]
fn an_image_lengthens_a_file_up_to_its_last_byte_that_counts() {
    let image = BlockImage { block: 3, block_bytes: 100 };
    let mut change = FileChange::default();
    assert_eq!((change.len_after(0), change.len_after(70)), (0, 70));
    change.add_image(image, 0);
    assert_eq!(change.images_end, 0, "it was cut off");
    change.add_image(image, 1);
    assert_eq!((change.images_end, change.len_after(70), change.len_after(500)), (301, 301, 500));
    change.add_image(BlockImage { block: 1, ..image }, 100);
    assert_eq!(change.images_end, 301, "the last image counts");
    let mut cuts = Cuts::new();
    cuts.set_length(Lsn::new(10), 50);
    cuts.set_length(Lsn::new(20), 400);
    change.set_lengths(&cuts);
    assert_eq!((change.min_len, change.set_len, change.len_after(500)), (50, Some(400), 400));
}

/// The shortest length at or after `lsn`, found by checking every set-length.
fn shortest(all: &[(u64, u64)], lsn: u64) -> u64 {
    all.iter().filter(|(at, _)| *at >= lsn).map(|(_, len)| *len).min().unwrap_or(u64::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn set_lengths_in_any_order_say_the_same(
        lens in prop::collection::vec(0u64..20, 0..40),
        shuffle in any::<prop::sample::Index>(),
        from in 0u64..45,
        divided in any::<u64>(),
    ) {
        let all: Vec<(u64, u64)> = (1..).zip(lens).collect();
        let (mut ascending, mut rotated) = (Cuts::new(), Cuts::new());
        let (mut one, mut other) = (Cuts::new(), Cuts::new());
        for (lsn, len) in &all {
            ascending.set_length(Lsn::new(*lsn), *len);
            let part = if divided >> (lsn % 64) & 1 == 0 { &mut one } else { &mut other };
            part.set_length(Lsn::new(*lsn), *len);
        }
        for nth in 0..all.len() {
            let (lsn, len) = all[(nth * 7 + shuffle.index(all.len())) % all.len()];
            rotated.set_length(Lsn::new(lsn), len);
        }
        // Steps of seven reach every record, unless the number of records is a multiple of seven.
        all.iter().rev().for_each(|(lsn, len)| rotated.set_length(Lsn::new(*lsn), *len));
        one.join(&other);
        for lsn in 0..45 {
            prop_assert_eq!(ascending.shortest_after(Lsn::new(lsn)), shortest(&all, lsn), "{}", lsn);
        }
        prop_assert_eq!(&one, &ascending);
        prop_assert_eq!(&rotated, &ascending);
        prop_assert_eq!(ascending.shortest(), shortest(&all, 0));
        prop_assert_eq!(ascending.last(), all.last().map(|(_, len)| *len));

        let mut older = ascending.clone();
        older.keep_for_older();
        prop_assert_eq!((older.shortest_after(Lsn::ORIGIN), older.last()), (ascending.shortest(), ascending.last()));
        ascending.discard_before(Lsn::new(from));
        for lsn in from..45 {
            prop_assert_eq!(ascending.shortest_after(Lsn::new(lsn)), shortest(&all, lsn), "{}", lsn);
        }
        prop_assert_eq!(ascending.is_empty(), all.iter().all(|(lsn, _)| *lsn < from));
    }
}
